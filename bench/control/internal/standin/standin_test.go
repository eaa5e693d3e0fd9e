package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policysync"
	"pgmtls-proxy/internal/testkit/testpki"
)

// The control plane's own courier brings policies, and takes the stand-ins' word for what is in force.
func TestCourierTakesAStandInForAProxy(t *testing.T) {
	root := t.TempDir()
	var places []Place
	for i := range 3 {
		place := Place{Dir: filepath.Join(root, fmt.Sprint("policy", i)), Socket: filepath.Join(root, fmt.Sprint("admin", i))}
		if err := os.Mkdir(place.Dir, 0o750); err != nil {
			t.Fatal(err)
		}
		places = append(places, place)
	}
	socket := filepath.Join(root, "tally")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	playing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- Serve(playing, places, socket) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	untilThere(t, socket)
	began := time.Now()
	policies := newPolicies(t)
	for i, place := range places[:2] {
		courier := policysync.Publisher{Database: "orders", Dir: place.Dir, Admin: config.Address{Network: "unix", Address: place.Socket}}
		for generation := range int64(3) {
			before := time.Now()
			if _, err := courier.Publish(ctx, policies.of(generation+1)); err != nil {
				t.Fatal(err)
			}
			last, err := untilInForce(ctx, &courier, generation+1)
			if err != nil {
				t.Fatalf("stand-in %d, generation %d: %v", i, generation+1, err)
			}
			if last.InForce != generation+1 || last.AppliedAt.Sub(before) < quiet {
				t.Errorf("stand-in %d, generation %d: %+v, after %s", i, generation+1, last, last.AppliedAt.Sub(before))
			}
		}
	}
	if got := asked(t, socket, began); got != (Asked{Proxies: 3, Asked: 2}) {
		t.Errorf("got %+v", got)
	}
	if got := asked(t, socket, time.Now()); got.Asked != 0 {
		t.Errorf("got %+v for the time since now", got)
	}
}

func TestStandInThatCannotListenIsAnError(t *testing.T) {
	dir := t.TempDir()
	err := Serve(t.Context(), []Place{{Dir: dir, Socket: filepath.Join(dir, "nowhere", "admin")}}, filepath.Join(dir, "tally"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// untilInForce asks a stand-in until a generation is in force there.
func untilInForce(ctx context.Context, courier *policysync.Publisher, generation int64) (api.Report, error) {
	for {
		report, err := courier.Observe(ctx)
		if err == nil && report.InForce >= generation {
			return report, nil
		}
		select {
		case <-ctx.Done():
			return report, fmt.Errorf("%w; at last %+v, %v", context.Cause(ctx), report, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// untilThere waits for a socket, the last of those that are made.
func untilThere(t *testing.T, socket string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(socket); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatal("the stand-ins do not answer")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// policies are those of a database.
type policies struct {
	ca     *testpki.CA
	server *testpki.Pair
}

func newPolicies(t *testing.T) policies {
	ca := testpki.MustCA(t, "space")
	return policies{ca, ca.MustIssue(t, testpki.Server("db.example.com"))}
}

func (p policies) of(generation int64) api.Policy {
	ca := policysync.FileName("client-ca", "pem", p.ca.PEM())
	crt, key := policysync.FileName("server", "crt", p.server.CertPEM), policysync.FileName("server", "key", p.server.KeyPEM)
	text := policysync.Header("orders", generation) + fmt.Sprintf(
		"generation: %q\nclient_ca: [%s]\ncertificates: [{cert: %s, key: %s}]\nip_rules: [{id: office, cidr: 192.0.2.%d/32}]\n...\n", fmt.Sprint(generation), ca, crt, key, generation)
	return api.Policy{Database: "orders", Generation: generation, Files: map[string][]byte{
		api.PolicyFile: []byte(text), ca: p.ca.PEM(), crt: p.server.CertPEM, key: p.server.KeyPEM}}
}

func asked(t *testing.T, socket string, since time.Time) (answer Asked) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	response, err := client.Get("http://tally/?since=" + url.QueryEscape(since.Format(time.RFC3339Nano)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}
