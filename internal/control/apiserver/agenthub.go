package apiserver

import (
	"context"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/retry"

	"github.com/rs/zerolog"
)

// hub notifies the streams of agents when something of theirs has changed, and passes them the questions for their proxies.
// It reads both once, however many streams there are.
type hub struct {
	mu        sync.Mutex
	agents    map[string]*subscription          // by the agent's id
	databases map[string]map[*subscription]bool // by the database's id
	names     map[string]string                 // of databases by id, also of those that are gone, for people to read
	questions map[string]waiting                // by id
}

// waiting is a question that was asked, and who may answer it.
type waiting struct {
	database, proxy string
	until           time.Time
}

// questionTime is how long an answer is taken. The one who asks gives up before.
const questionTime = 15 * time.Second

// subscription is one open stream of an agent.
type subscription struct {
	database, proxy string

	// changed has one place: it says that there is something new, and not what, so that only the newest is read.
	changed   chan struct{}
	questions chan proxyquery.Asked
	replaced  chan struct{} // closed when the same agent opens another stream
}

// maxQuestions is how many questions wait for a stream that is busy. Who asked the others gets no answer in time.
const maxQuestions = 16

func newHub() *hub {
	return &hub{agents: map[string]*subscription{}, databases: map[string]map[*subscription]bool{}, names: map[string]string{}, questions: map[string]waiting{}}
}

// subscribe opens the stream of an agent, and ends the one that it had: it has lost the connection, or it is not who
// it says.
func (h *hub) subscribe(agent, database, proxy string) (s *subscription, leave func()) {
	s = &subscription{database: database, proxy: proxy, changed: make(chan struct{}, 1), questions: make(chan proxyquery.Asked, maxQuestions), replaced: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.agents[agent]; before != nil {
		close(before.replaced)
		h.forget(before)
	}
	h.agents[agent] = s
	if h.databases[database] == nil {
		h.databases[database] = map[*subscription]bool{}
	}
	h.databases[database][s] = true
	return s, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.agents[agent] == s {
			delete(h.agents, agent)
			h.forget(s)
		}
	}
}

func (h *hub) forget(s *subscription) {
	of := h.databases[s.database]
	delete(of, s)
	if len(of) == 0 {
		delete(h.databases, s.database)
	}
}

// run feeds the streams until ctx ends.
func (h *hub) run(ctx context.Context, databases *informer.Hub, queries *proxyquery.Queries, log zerolog.Logger) {
	var feeding sync.WaitGroup
	defer feeding.Wait()
	feeding.Go(func() {
		for change := range databases.FollowAll(ctx) {
			h.change(change)
		}
	})
	feeding.Go(func() {
		again(ctx, log, func() error {
			for asked, err := range queries.Questions(ctx) {
				if err != nil {
					return err
				}
				h.forward(asked, time.Now())
			}
			return nil
		})
	})
}

// pause is how long it is waited before a watch that failed is tried again.
const pause = time.Second

func again(ctx context.Context, log zerolog.Logger, watch func() error) {
	for ctx.Err() == nil {
		if err := watch(); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("the watch on queries for agents was interrupted; trying again")
		}
		_ = retry.Sleep(ctx, pause) // the loop looks at ctx
	}
}

// change wakes the streams of a database.
func (h *hub) change(change informer.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !change.Deleted {
		h.names[change.Database.ID] = change.Database.Name
	}
	for s := range h.databases[change.Database.ID] {
		s.wake()
	}
}

// wake signals that there may be something new.
func (s *subscription) wake() {
	select {
	case s.changed <- struct{}{}:
	default: // it is told already
	}
}

// forward passes a question to the agent that it is for, if its stream is here.
func (h *hub) forward(asked proxyquery.Asked, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, question := range h.questions {
		if now.After(question.until) {
			delete(h.questions, id)
		}
	}
	h.questions[asked.ID] = waiting{database: asked.Database, proxy: asked.Proxy, until: now.Add(questionTime)}
	for s := range h.databases[asked.Database] {
		if s.proxy != asked.Proxy {
			continue
		}
		select {
		case s.questions <- asked:
		default:
		}
	}
}

// answered reports whether a question waits for an answer of this proxy's agent, and takes it: one answer counts.
func (h *hub) answered(id, database, proxy string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	question, ok := h.questions[id]
	if !ok || question.database != database || question.proxy != proxy {
		return false
	}
	delete(h.questions, id)
	return true
}

// name returns the name of a database, also of one that is gone; empty when the hub has not heard of it.
func (h *hub) name(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[id]
}
