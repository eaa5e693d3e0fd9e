package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Who follows events, as every agent does, must not hold up a daemon that is told to stop.
func TestDaemonWithOpenStreamsStopsAtOnce(t *testing.T) {
	d := start(t, t.TempDir(), nil)
	text := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text(controlCAFile))
	url := regexp.MustCompile(`https://[^"]+`).FindString(string(text(clientFile)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(text(adminTokenFile))))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the stream of events answers %s", answer.Status)
	}
	began := time.Now()
	if code := d.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, d.log)
	}
	if took := time.Since(began); took > stopWithin/2 {
		t.Errorf("stopping took %s", took)
	}
}
