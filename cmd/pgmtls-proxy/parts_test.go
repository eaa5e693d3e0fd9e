package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/drain"
)

var errPlanted = errors.New("planted")

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestFirstPartThatFailsEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newParts(t.Context(), zerolog.New(&log))
		p.start("sweep", untilDone)
		p.start("nothing to do", func(context.Context) error { return nil })
		synctest.Wait()
		if p.ctx.Err() != nil {
			t.Fatal("a part that has nothing left to do ends the others")
		}
		p.start("policy", func(context.Context) error { return errPlanted })
		<-p.ctx.Done()
		if err := context.Cause(p.ctx); !errors.Is(err, errPlanted) || err.Error() != "policy: planted" {
			t.Errorf("the others end because of %v", err)
		}
		p.end()
		if log.Len() > 0 {
			t.Errorf("logged: %s", log.String())
		}
	})
}

func TestPartThatFailsDuringADrainEndsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newParts(t.Context(), zerolog.New(&log))
		p.start("sweep", untilDone)
		p.mayFail()
		p.start("admin", func(context.Context) error { return errPlanted })
		synctest.Wait()
		if p.ctx.Err() != nil {
			t.Error("the sweep was ended")
		}
		if !strings.Contains(log.String(), `"error":"planted","part":"admin"`) {
			t.Errorf("logged: %s", log.String())
		}
		p.end()
	})
}

func TestPartThatHangsDoesNotKeepTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newParts(t.Context(), zerolog.New(&log))
		stuck := make(chan struct{})
		p.start("policy", func(context.Context) error { <-stuck; return nil })
		began := time.Now()
		p.end()
		if took := time.Since(began); took != partsLimit || !strings.Contains(log.String(), "did not end in time") {
			t.Errorf("waited %s; logged: %s", took, log.String())
		}
		close(stuck)
		synctest.Wait()
	})
}

func TestEveryStepOfADrainHasItsMessage(t *testing.T) {
	for _, step := range drain.Steps {
		if messages[step] == "" {
			t.Errorf("the log says nothing of %s", step)
		}
	}
	if len(messages) != len(drain.Steps) {
		t.Errorf("%d messages for %d steps", len(messages), len(drain.Steps))
	}
}
