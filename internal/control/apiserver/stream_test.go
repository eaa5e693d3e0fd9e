package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// agentPath is the stream of an agent that has a policy.
func agentPath(has api.Policy) string {
	return fmt.Sprintf("/v1/agent/stream?generation=%d&digest=%s", has.Generation, api.Digest(has))
}

func TestAgentGetsThePolicyThatItDoesNotHave(t *testing.T) {
	p := newPlane(t, nil)
	p.server.beat = 20 * time.Millisecond
	p.operational("orders")
	edge := p.enrol("orders")
	fresh := p.open(edge.client, "/v1/agent/stream")
	policy := fresh.policy(t)
	if policy.Database != edge.Database || policy.Generation == 0 || len(policy.Files) < 3 {
		t.Errorf("got %v", policy)
	}

	// One that has it gets heartbeats, and the next one when there is a next one.
	has := p.open(edge.client, agentPath(policy))
	for range 3 {
		if line := has.line(t, func(api.StreamLine) bool { return true }); line.Heartbeat == nil {
			t.Errorf("got %+v, want a heartbeat", line)
		}
	}
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, body: `{"cidr": "198.51.100.0/24"}`}, nil)
	next := has.policy(t)
	if next.Generation <= policy.Generation || !strings.Contains(string(next.Files[api.PolicyFile]), "198.51.100.0/24") {
		t.Errorf("got %v after %v", next, policy)
	}

	// Same generation, other bytes: somebody edited them, or the store was restored.
	odd := p.open(edge.client, fmt.Sprintf("/v1/agent/stream?generation=%d&digest=%064d", next.Generation, 0))
	if again := odd.policy(t); again.Generation != next.Generation {
		t.Errorf("got %v", again)
	}
	p.refused(422, api.InvalidParams, ask{method: "GET", path: "/v1/agent/stream?generation=-1", client: edge.client})
	p.refused(422, api.InvalidParams, ask{method: "GET", path: "/v1/agent/stream?digest=zz", client: edge.client})
}

func TestAgentIsNeverSentAnOlderPolicy(t *testing.T) {
	p := newPlane(t, nil)
	p.server.beat = 10 * time.Millisecond
	p.operational("orders")
	edge := p.enrol("orders")
	db, err := p.registry.Database(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	ahead := db.Generation + 10
	stream := p.open(edge.client, fmt.Sprintf("/v1/agent/stream?generation=%d", ahead))
	for range 3 {
		if line := stream.line(t, func(api.StreamLine) bool { return true }); line.Policy != nil {
			t.Fatalf("got %v, and the agent has generation %d", line.Policy, ahead)
		}
	}
	// It says what it has; the registry goes past that.
	p.must(204, ask{method: "POST", path: "/v1/agent/reports", client: edge.client, body: api.Report{Applied: ahead, InForce: ahead, OnDisk: ahead}}, nil)
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, body: `{"cidr": "198.51.100.0/24"}`}, nil)
	if policy := stream.policy(t); policy.Generation <= ahead {
		t.Errorf("got %v, and the agent has generation %d", policy, ahead)
	}
}

func TestAgentsStreamEndsAtOnceWhenItMayNotStay(t *testing.T) {
	for name, end := range map[string]func(*plane, agent){
		"revoked": func(p *plane, a agent) {
			p.must(204, ask{method: "DELETE", path: "/v1/agents/" + a.Agent, token: p.admin}, nil)
		},
		"replaced by another agent": func(p *plane, _ agent) { p.enrol("orders") },
		"its own second stream":     func(p *plane, a agent) { p.open(a.client, "/v1/agent/stream") },
		"its proxy is removed": func(p *plane, _ agent) {
			p.must(200, ask{method: "DELETE", path: "/v1/databases/orders/proxies/edge", token: p.admin}, nil)
		},
		"the proxy is removed, and nobody revoked the agent": func(p *plane, a agent) {
			if _, err := p.registry.RemoveProxy(p.t.Context(), actorOfTests, a.Database, "edge"); err != nil {
				p.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(t, nil)
			p.server.beat = time.Hour // which would notice some of it too, only later
			p.operational("orders")
			edge := p.enrol("orders")
			stream := p.open(edge.client, "/v1/agent/stream")
			stream.policy(t)
			end(p, edge)
			stream.ended(t)
			if name == "revoked" {
				p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/agent/stream", client: edge.client})
			}
		})
	}
}

func TestAgentAnswersOnlyWhatItWasAsked(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	p.operational("billing")
	edge, other := p.enrol("orders"), p.enrol("billing")
	stream := p.open(edge.client, "/v1/agent/stream")
	stream.policy(t)
	var rule api.Rule
	p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, body: `{"cidr": "198.51.100.0/24"}`}, &rule)
	done := make(chan api.RuleDryRun, 1)
	go func() {
		var dry api.RuleDryRun
		p.must(200, ask{method: "DELETE", path: endpoint("orders") + "/ip-rules/" + rule.ID + "?dry_run=true", token: p.admin}, &dry)
		done <- dry
	}()
	question := stream.question(t)
	if strings.Contains(string(question.Policy.Files[api.PolicyFile]), "198.51.100.0/24") {
		t.Error("the question has the rule that it is about")
	}
	answer := ask{method: "POST", path: "/v1/agent/answers/" + question.ID, client: other.client, body: api.Answer{Error: "forged"}}
	p.refused(404, api.NotFound, answer)
	answer.client, answer.body = edge.client, `{}`
	p.refused(422, api.InvalidParams, answer)
	answer.body = api.Answer{Error: "the proxy is away"}
	p.must(204, answer, nil)
	p.refused(404, api.NotFound, answer) // once
	if dry := <-done; len(dry.Proxies) != 1 || dry.Proxies[0].Error != "the proxy is away" || dry.Proxies[0].Effect != nil {
		t.Errorf("got %+v", dry)
	}
	p.must(200, ask{method: "GET", path: endpoint("orders") + "/ip-rules/" + rule.ID, token: p.reader}, &rule)
	if rule.Status == api.Deauthorizing {
		t.Error("the dry run deleted the rule")
	}
}

func TestEventsOfOneDatabaseAreItsOwn(t *testing.T) {
	p := newPlane(t, nil)
	own := p.operational("orders")
	p.operational("billing")
	made, token, err := p.access.Tokens.Create(t.Context(), access.NewToken{Name: "one", Kind: access.Database, Database: own.ID})
	if err != nil {
		t.Fatal(err)
	}
	stream := p.open(p.client(nil), "/v1/events", token)
	var last string
	for i := range 3 {
		p.must(201, ask{method: "POST", path: endpoint("billing") + "/ip-rules", token: p.admin, body: fmt.Sprintf(`{"cidr": "192.0.2.%d/32"}`, i)}, nil)
		p.must(201, ask{method: "POST", path: endpoint("orders") + "/ip-rules", token: p.admin, body: fmt.Sprintf(`{"cidr": "192.0.2.%d/32"}`, i)}, nil)
		stream.until(t, func(line string) bool {
			if strings.Contains(line, "billing") {
				t.Errorf("got %s", line)
			}
			if id, ok := strings.CutPrefix(line, "id: "); ok && i == 0 {
				last = id
			}
			return strings.HasPrefix(line, "data: ") && strings.Contains(line, `"database":"orders"`)
		})
	}
	// Who was cut off goes on behind what it has read.
	r := p.request(ask{method: "GET", path: "/v1/events", token: token, header: map[string]string{api.LastEventID: last}})
	got, err := p.client(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	again := newLines(got)
	for i := 1; i < 3; i++ {
		again.until(t, func(line string) bool {
			return strings.HasPrefix(line, "data: ") && strings.Contains(line, fmt.Sprintf("192.0.2.%d/32", i))
		})
	}
	if _, err := p.access.Tokens.Revoke(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	stream.ended(t)
	again.ended(t)
}

func TestStreamsAreCounted(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	stream := p.open(edge.client, "/v1/agent/stream")
	stream.policy(t)
	series := `pgmtls_api_streams{route="/v1/agent/stream"} `
	if got := p.must(200, ask{method: "GET", path: "/metrics", token: p.reader}, nil); !strings.Contains(string(got.body), series+"1\n") {
		t.Error("an open stream is not counted")
	}
	p.must(204, ask{method: "DELETE", path: "/v1/agents/" + edge.Agent, token: p.admin}, nil)
	stream.ended(t)
	if got := p.must(200, ask{method: "GET", path: "/metrics", token: p.reader}, nil); !strings.Contains(string(got.body), series+"0\n") {
		t.Error("a stream that ended is counted")
	}
}

func TestEveryEventStreamTakesAPlaceAndGivesItBack(t *testing.T) {
	p := newPlane(t, nil)
	p.server.events = make(chan struct{}, 1)
	token, presented, err := p.access.Tokens.Create(t.Context(), access.NewToken{Name: "one", Kind: access.Read})
	if err != nil {
		t.Fatal(err)
	}
	stream := p.open(p.client(nil), "/v1/events", presented)
	p.refused(http.StatusServiceUnavailable, api.Unavailable, ask{method: "GET", path: "/v1/events", token: p.reader})
	if _, err := p.access.Tokens.Revoke(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	stream.ended(t)
	p.open(p.client(nil), "/v1/events", p.reader)
}

func TestOneTokenCanNotHoldTheEventStreamsOfAll(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	ctx, leave := context.WithCancel(t.Context())
	first, err := p.client(nil).Do(p.request(ask{method: "GET", path: "/v1/events", token: p.reader}).WithContext(ctx))
	if err != nil || first.StatusCode != http.StatusOK {
		t.Fatal(first, err)
	}
	defer first.Body.Close()
	for range maxEventStreamsPerToken - 1 {
		p.open(p.client(nil), "/v1/events", p.reader)
	}
	refused := p.refused(http.StatusTooManyRequests, api.RateLimit, ask{method: "GET", path: "/v1/events", token: p.reader})
	if want := fmt.Sprintf("this token has %d event streams open", maxEventStreamsPerToken); !strings.Contains(refused.Message, want) {
		t.Errorf("got %q, want %q", refused.Message, want)
	}
	p.open(p.client(nil), "/v1/events", p.admin)
	p.open(edge.client, "/v1/agent/stream").policy(t)

	leave() // closes one
	for deadline := time.Now().Add(30 * time.Second); p.server.listeners.all() > maxEventStreamsPerToken; {
		if time.Now().After(deadline) {
			t.Fatal("a stream that was closed keeps its place")
		}
		p.must(200, ask{method: "GET", path: "/v1/health"}, nil)
	}
	p.open(p.client(nil), "/v1/events", p.reader)
}

// all counts what all callers hold.
func (p *perCaller) all() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, held := range p.held {
		n += held
	}
	return n
}

// Agents come in when people have taken all event streams.
func TestAgentsStreamsDoNotShareTheBoundOfEventStreams(t *testing.T) {
	p := newPlane(t, nil)
	p.server.events = make(chan struct{}, 1)
	p.operational("orders")
	edge := p.enrol("orders")
	p.open(p.client(nil), "/v1/events", p.admin)
	p.refused(http.StatusServiceUnavailable, api.Unavailable, ask{method: "GET", path: "/v1/events", token: p.reader})
	p.open(edge.client, "/v1/agent/stream").policy(t)
	if n := p.server.listeners.all(); n != 1 {
		t.Errorf("%d callers hold event streams, and one does", n)
	}
}

func TestProxyThatIsAddedAgainHasNoAgent(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	edge := p.enrol("orders")
	var invited api.Enrolment
	p.must(201, ask{method: "POST", path: "/v1/agents", token: p.admin, body: api.NewEnrolment{Database: "orders", Proxy: "edge"}}, &invited)
	p.must(200, ask{method: "DELETE", path: "/v1/databases/orders/proxies/edge", token: p.admin}, nil)
	_, csr := newRequest(t)
	p.refused(404, api.NotFound, ask{method: "POST", path: "/v1/agent/enroll", token: invited.Token, body: api.Certify{CSR: csr}})
	p.must(201, ask{method: "POST", path: "/v1/databases/orders/proxies", token: p.admin, body: api.NewProxy{Name: "edge"}}, nil)
	p.refused(401, api.Unauthorized, ask{method: "GET", path: "/v1/agent/stream", client: edge.client})
}
