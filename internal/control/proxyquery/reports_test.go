package proxyquery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
)

// deliver answers questions until the test ends, and returns when it hears them.
func (q *Queries) deliver(t *testing.T, answer func(Asked) *Answer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for asked, err := range q.Questions(ctx) {
			if err != nil {
				t.Error(err)
				return
			}
			if asked.Proxy == "probe" {
				if err := q.Reply(ctx, asked.ID, Answer{}); err != nil {
					t.Error(err)
				}
				continue
			}
			if a := answer(asked); a != nil {
				if err := q.Reply(ctx, asked.ID, *a); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	for { // a question that was asked before somebody listened has no answer
		short, stop := context.WithTimeout(ctx, time.Second)
		_, err := q.Ask(short, "db", "probe", Question{})
		stop()
		if err == nil {
			return
		}
		if !problem.Is(err, problem.Unavailable) {
			t.Fatal(err)
		}
	}
}

func TestEveryProxyIsAskedForItsReport(t *testing.T) {
	q := newQueries(t)
	q.deliver(t, func(asked Asked) *Answer {
		if asked.Kind != api.AskReport {
			t.Errorf("asked for %q", asked.Kind)
		}
		switch asked.Proxy {
		case "down":
			return &Answer{Kind: asked.Kind, Error: "connection refused"}
		case "old":
			return &Answer{Error: "a policy of database \"\" for the proxy of database \"db\""} // as before there were kinds
		case "empty":
			return &Answer{Kind: asked.Kind}
		}
		return &Answer{Kind: asked.Kind, Report: &api.Report{ProxyVersion: asked.Proxy}}
	})
	proxies := []Proxy{{"db", "down"}, {"db", "old"}, {"db", "empty"}}
	for n := range 2 * maxReports {
		proxies = append(proxies, Proxy{"db", fmt.Sprint("p-", n)})
	}
	said := q.Reports(t.Context(), proxies)
	if len(said) != len(proxies) {
		t.Errorf("%d of %d have an entry", len(said), len(proxies))
	}
	for proxy, text := range map[string]string{"down": "connection refused", "old": "too old to be asked; upgrade it", "empty": "without a report"} {
		if err := said[Proxy{"db", proxy}].Err; !problem.Is(err, problem.Unavailable) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", proxy, err, text)
		}
	}
	for _, proxy := range proxies[3:] {
		if got := said[proxy]; got.Err != nil || got.Report.ProxyVersion != proxy.Name {
			t.Errorf("%s: got %+v", proxy.Name, got)
		}
	}
	q.left(t)
}

func TestProxiesThatNoTimeIsLeftForAreNotTakenForAnswered(t *testing.T) {
	q := newQueries(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	said := q.Reports(ctx, []Proxy{{"db", "edge"}})
	if err := said[Proxy{"db", "edge"}].Err; !problem.Is(err, problem.Unavailable) {
		t.Errorf("got %+v", said)
	}
}
