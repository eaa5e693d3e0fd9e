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
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/control/policysync"
)

// The control plane's own publisher delivers policies, and takes the stand-ins' word for what is in force.
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
	space := policytest.NewSpace(t)
	for i, place := range places[:2] {
		publisher := policysync.Publisher{Database: policytest.Database, Dir: place.Dir, Admin: config.Address{Network: "unix", Address: place.Socket}}
		for generation := range int64(3) {
			before := time.Now()
			if _, err := publisher.Publish(ctx, space.Policy(t, policytest.Edition{Generation: generation + 1, CIDRs: []string{fmt.Sprintf("192.0.2.%d/32", generation+1)}})); err != nil {
				t.Fatal(err)
			}
			last, err := untilInForce(ctx, &publisher, generation+1)
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
func untilInForce(ctx context.Context, publisher *policysync.Publisher, generation int64) (api.Report, error) {
	for {
		report, err := publisher.Observe(ctx)
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
	deadline := time.After(time.Minute)
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
