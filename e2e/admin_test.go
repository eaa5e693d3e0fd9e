package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// get asks the admin endpoint. An answer other than 200 is an error with its text.
func (p *proxy) get(path string) (string, error) {
	network := "tcp"
	if strings.HasPrefix(p.Admin, "/") {
		network = "unix"
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, // the proxy's end should not wait for one
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.Admin)
		},
	}}
	response, err := client.Get("http://admin" + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", path, response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

func (p *proxy) ready() error {
	_, err := p.get("/readyz")
	return err
}

// statusBody is as much of GET /status as tests look at.
type statusBody struct {
	Phase  string `json:"phase"`
	Ready  bool   `json:"ready"`
	Policy *struct {
		Generation   string    `json:"generation"`
		Digest       string    `json:"digest"`
		LoadedAt     time.Time `json:"loaded_at"`
		Certificates []struct {
			Names  []string `json:"names"`
			Serial string   `json:"serial"`
		} `json:"certificates"`
		Rules []struct {
			ID, CIDR string
		} `json:"ip_rules"`
	} `json:"policy"`
	Reload struct {
		CheckedAt    time.Time  `json:"checked_at"`
		Error        string     `json:"error"`
		FailingSince *time.Time `json:"failing_since"`
	} `json:"reload"`
	Sessions map[string]int `json:"sessions"`
}

// status reads GET /status.
func (p *proxy) status(t testing.TB) statusBody {
	t.Helper()
	var body statusBody
	p.decode(t, "/status", &body)
	return body
}

// liveSession is as much of an element of GET /sessions as tests look at.
type liveSession struct {
	Connection  string `json:"conn"`
	Addr        string `json:"addr"`
	State       string `json:"state"`
	User        string `json:"user"`
	Rule        string `json:"rule"`
	Policy      string `json:"policy"`
	Certificate *struct {
		Serial string `json:"serial"`
	} `json:"certificate"`
}

// sessions reads GET /sessions.
func (p *proxy) sessions(t testing.TB) []liveSession {
	t.Helper()
	var list []liveSession
	p.decode(t, "/sessions", &list)
	return list
}

// waitSessions waits until so many sessions are live.
func (p *proxy) waitSessions(t testing.TB, n int) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if live := len(p.sessions(t)); live != n {
			return fmt.Errorf("%d sessions are live, want %d", live, n)
		}
		return nil
	})
}

func (p *proxy) decode(t testing.TB, path string, into any) {
	t.Helper()
	text, err := p.get(path)
	if err == nil {
		err = json.Unmarshal([]byte(text), into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// metric reads a sample of GET /metrics: a name, with its labels as the page writes them.
func (p *proxy) metric(t testing.TB, sample string) float64 {
	t.Helper()
	page, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	value, err := sampleOf(page, sample)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func sampleOf(page, sample string) (float64, error) {
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, errors.New("/metrics has no sample " + sample)
}

// refusals is how many connections were refused for the reason.
func (p *proxy) refusals(t testing.TB, reason string) float64 {
	t.Helper()
	return p.metric(t, `pgmtls_refusals_total{reason="`+reason+`"}`)
}

// waitMetric waits until a sample has the value.
func (p *proxy) waitMetric(t testing.TB, sample string, want float64) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if got := p.metric(t, sample); got != want {
			return fmt.Errorf("%s is %v, want %v", sample, got, want)
		}
		return nil
	})
}
