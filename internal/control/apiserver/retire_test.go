package apiserver

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// answering answers every question about the proxy of an agent, until it is stopped.
func (p *plane) answering(edge agent, answer func(api.Question) api.Answer) (stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	got, err := edge.client.Do(p.request(ask{method: "GET", path: "/v1/agent/stream"}).WithContext(ctx))
	if err != nil {
		p.t.Fatal(err)
	}
	stream, ended := newLines(got), make(chan struct{})
	stream.policy(p.t)
	go func() {
		defer close(ended)
		for stream.scanner.Scan() {
			if question, ok := questionOf(stream.scanner.Bytes()); ok {
				p.must(204, ask{method: "POST", path: "/v1/agent/answers/" + question.ID, client: edge.client, body: answer(question)}, nil)
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		got.Body.Close()
	}
}

func TestCAIsRetiredOnlyWithWhatIsTrueNow(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	path := "/v1/spaces/acme/ca"
	var list []api.Authority
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	old := list[0].ID
	p.must(201, ask{method: "POST", path: path + "/rotate", token: p.admin}, nil)
	p.acknowledge("orders")
	db, err := p.registry.Database(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	before, after := db.Certificates[0], db.Certificates[1]
	at := time.Now().UTC().Truncate(time.Second)
	edge := p.enrol("orders")
	use := make(chan api.Answer, 1) // what the agent answers
	stop := p.answering(edge, func(q api.Question) api.Answer {
		if q.Kind != api.AskReport || q.Policy.Files != nil {
			t.Errorf("asked %q with %d files", q.Kind, len(q.Policy.Files))
		}
		answer := <-use
		use <- answer
		return answer
	})
	defer stop()
	report := func(certificates map[string]api.Usage) api.Answer {
		return api.Answer{Kind: api.AskReport, Report: &api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: certificates}}
	}
	retire := ask{method: "POST", path: path + "/" + old + "/retire", token: p.admin}

	use <- report(map[string]api.Usage{before.Serial: {Sessions: 1, LastSeen: at}, after.Serial: {LastSeen: at.Add(-time.Second)}})
	if said := p.refused(409, api.Conflict, retire); !strings.Contains(said.Message, "still in use as of ") || !strings.Contains(said.Message, before.Name+" of orders") {
		t.Errorf("got %+v", said)
	}
	// retiring is the old CA, with the proxies asked or not.
	retiring := func(query string) api.Authority {
		var list []api.Authority
		p.must(200, ask{method: "GET", path: path + query, token: p.reader}, &list)
		return list[1]
	}
	if ca := retiring("?ask=true"); ca.AsOf.Before(at) || len(ca.Unanswered) != 0 || ca.Users[0].Sessions != 1 || !ca.Users[0].LastSeen.Equal(at) {
		t.Errorf("got %+v", ca)
	}
	if ca := retiring(""); !ca.AsOf.IsZero() || ca.Users[0].Sessions != 0 {
		t.Errorf("nobody was asked, and got %+v", ca)
	}

	for words, answer := range map[string]api.Answer{
		"edge of orders (connection refused)": {Kind: api.AskReport, Error: "connection refused"},
		"too old to be asked":                 {Error: "a policy of another database"}, // an agent that knows dry runs alone
	} {
		<-use
		use <- answer
		// What was reported says that the successor is in use, and the old one is not.
		p.reports("orders", map[string]api.Usage{before.Serial: {}, after.Serial: {LastSeen: at.Add(time.Minute)}})
		if said := p.refused(409, api.Conflict, retire); !strings.Contains(said.Message, words) {
			t.Errorf("got %+v, want %q", said, words)
		}
		if ca := retiring("?ask=true"); len(ca.Unanswered) != 1 || ca.Unanswered[0].Proxy != "edge" || ca.Unanswered[0].Database != "orders" || ca.Unanswered[0].Error == "" {
			t.Errorf("got %+v", ca)
		}
	}

	<-use
	use <- report(map[string]api.Usage{before.Serial: {LastSeen: at}, after.Serial: {Sessions: 1, LastSeen: at.Add(2 * time.Minute)}})
	p.must(200, retire, nil)
}

func TestAnswerSaysOneThing(t *testing.T) {
	for name, a := range map[string]api.Answer{
		"nothing":         {Kind: api.AskReport},
		"two things":      {Effect: &api.Effect{}, Report: &api.Report{}},
		"a long kind":     {Kind: strings.Repeat("k", 65), Error: "x"},
		"a wrong report":  {Kind: api.AskReport, Report: &api.Report{Applied: -1}},
		"a serial of 65":  {Kind: api.AskReport, Report: &api.Report{Certificates: map[string]api.Usage{strings.Repeat("0", 65): {}}}},
		"an endless text": {Error: strings.Repeat("x", maxSaid+1)},
	} {
		if checkAnswer(a) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := checkAnswer(api.Answer{Kind: api.AskReport, Report: &api.Report{}}); err != nil {
		t.Error(err)
	}
}
