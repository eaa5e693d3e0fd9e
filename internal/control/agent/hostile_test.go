package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
)

// meets runs an agent that has generation 1 into a stream that is none of a good control plane's, and wants it to have
// connected again and taken generation 3, with nothing in between.
func meets(t *testing.T, change func(*site), hostile func(w http.ResponseWriter, line []byte)) *site {
	t.Helper()
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	if change != nil {
		change(s)
	}
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.start(t)
	s.lies(t, 1)
	bad := space.Policy(t, policytest.Edition{Generation: 2})
	line, err := json.Marshal(api.StreamLine{Policy: &bad})
	must.OK(t, err)
	met := make(chan struct{})
	c.set(func(c *control) {
		c.hostile = func(w http.ResponseWriter) {
			defer close(met) // also when it panics
			hostile(w, line)
		}
	})
	c.gate.set(true)
	c.gate.set(false)
	<-met
	if generation, err := readWhole(s.PolicyDir); generation != 1 || err != nil {
		t.Errorf("generation %d lies there: %v", generation, err)
	}
	c.offer(space.Policy(t, policytest.Edition{Generation: 3}))
	s.lies(t, 3)
	return s
}

func TestALineThatIsCutIsNotApplied(t *testing.T) {
	for _, part := range []int{1, 2, 3} {
		meets(t, nil, func(w http.ResponseWriter, line []byte) {
			_, _ = w.Write(line[:len(line)*part/4])   // the agent may be gone
			_ = http.NewResponseController(w).Flush() // the same
			if part == 3 {
				return // the answer ends as if that were all
			}
			panic(http.ErrAbortHandler) // the connection is cut
		})
	}
}

func TestALineWithoutEndIsCutOff(t *testing.T) {
	sent := 0
	s := meets(t, nil, func(w http.ResponseWriter, _ []byte) {
		piece := []byte(strings.Repeat("x", 1<<20))
		for ; sent < 64; sent++ {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	if sent >= 64 || !strings.Contains(s.log.String(), "too long") {
		t.Errorf("it has taken %d MiB; its log:\n%s", sent, s.log)
	}
}

func TestALineThatIsNoneEndsTheStream(t *testing.T) {
	meets(t, nil, func(w http.ResponseWriter, _ []byte) {
		fmt.Fprintln(w, `{"policy": "`+strings.Repeat("[", 1<<16))
	})
	meets(t, nil, func(w http.ResponseWriter, _ []byte) {
		fmt.Fprintln(w, `{"of a newer server": true}`)
		fmt.Fprintln(w, `{"policy":{"database":"`+strings.Repeat("x", 1<<20)+`","generation":-1}}`)
	})
}

func TestAControlPlaneThatSendsABytesNowAndThenIsLeft(t *testing.T) {
	meets(t, func(s *site) { s.lineWithin = 300 * time.Millisecond }, func(w http.ResponseWriter, line []byte) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := range line {
			if _, err := w.Write(line[i : i+1]); err != nil {
				return
			}
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			<-tick.C
		}
		t.Error("it has waited for the whole line")
	})
}

func TestAQuestionTooManyIsNotAnswered(t *testing.T) {
	// What runs for a question is bounded, however many are asked.
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	p := space.Policy(t, policytest.Edition{Generation: 1})
	c.hostile = func(w http.ResponseWriter) {
		out := json.NewEncoder(w)
		for i := range 500 {
			if out.Encode(api.StreamLine{Question: &api.Question{ID: fmt.Sprint(i), Policy: p}}) != nil {
				return
			}
		}
	}
	s.start(t)
	c.offer(p)
	s.lies(t, 1)
}
