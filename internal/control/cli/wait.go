package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// waiting are the flags --wait and --timeout.
type waiting struct {
	wanted  bool
	timeout time.Duration
}

func (w *waiting) flags(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&w.wanted, "wait", false, "wait until it is "+until)
	cmd.Flags().DurationVar(&w.timeout, "timeout", time.Minute, "how long --wait waits")
}

// The first pause between two questions, and the longest. Proxies beside the daemon answer within 0.1 s.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = 500 * time.Millisecond

	// Before that nobody wants to read who is being waited for.
	quiet = 400 * time.Millisecond
)

// target is something that gets into force, or out of it.
type target struct {
	database string // for whom is waited
	kind, id string // in the acknowledgements
	name     string // for people
	want     string // the status that is waited for, or a word for "gone"
	since    time.Time

	// waits says what it waits for, if that is not its proxies; nil: it is always they.
	waits func() string

	// state asks for the present status. [api.NotFound] is the end if gone is set.
	state func(context.Context) (string, error)
	gone  bool
}

// reach waits for a target if that is wanted, and says how long it took.
func (s *session) reach(w waiting, t target) error {
	if !w.wanted {
		return nil
	}
	progress := &progress{env: s.app.env}
	defer progress.clear()
	deadline := t.since.Add(w.timeout)
	pause := firstPoll
	last, shown := "", ""
	for {
		status, err := t.state(s)
		switch {
		case t.gone && isID(err, api.NotFound), err == nil && status == t.want:
			progress.clear()
			s.note("%s after %s", t.want, elapsed(s.app.env.Now().Sub(t.since)))
			return nil
		case passing(err): // the daemon may be starting again
		case err != nil:
			return err
		default:
			last = status
		}
		now := s.app.env.Now()
		if !now.Before(deadline) {
			progress.clear()
			return s.overdue(t, last, w.timeout)
		}
		if now.Sub(t.since) >= quiet {
			line := fmt.Sprintf("%s: %s, %s", clean(t.name), or(last, "?"), s.awaited(t))
			if line != shown {
				shown = line
				progress.say("%s", line)
			}
		}
		select {
		case <-s.app.env.After(pause):
		case <-s.Done():
			return fmt.Errorf("waiting for %s was interrupted; the change continues by itself", clean(t.name))
		}
		pause = min(pause*3/2, lastPoll)
	}
}

// passing reports whether an error may be gone at the next question.
func passing(err error) bool {
	var (
		connection *apiclient.ConnectionError
		refused    *api.Error
	)
	if errors.Is(err, context.Canceled) {
		return false
	}
	return errors.As(err, &connection) || errors.As(err, &refused) && slices.Contains([]string{api.Unavailable, api.RateLimit}, refused.ID)
}

// awaited says what a target waits for.
func (s *session) awaited(t target) string {
	if t.waits != nil {
		if text := t.waits(); text != "" {
			return text
		}
	}
	return "waiting for " + or(s.behind(t), "the control plane")
}

// behind names the proxies that a target waits for.
func (s *session) behind(t target) string {
	acknowledgements, err := s.Acknowledgements(s, t.database)
	if err != nil {
		return ""
	}
	if len(acknowledgements.Proxies) == 0 {
		return "a proxy"
	}
	for _, waiting := range acknowledgements.Waiting {
		if waiting.Kind == t.kind && waiting.ID == t.id {
			return clean(strings.Join(waiting.Proxies, ", "))
		}
	}
	return ""
}

// overdue returns an error that names the proxies that have not acknowledged, with what is known of the reason.
func (s *session) overdue(t target, last string, timeout time.Duration) error {
	var text strings.Builder
	fmt.Fprintf(&text, "timed out after %v: %s is still %s", timeout, clean(t.name), or(last, "in an unknown state"))
	if t.waits != nil {
		if reason := t.waits(); reason != "" {
			fmt.Fprintf(&text, ": %s\nIt is tried again by itself: pgmtls enhanced-certificates status %s", reason, clean(t.database))
			return &failure{exitFailure, errors.New(text.String())}
		}
	}
	acknowledgements, err := s.Acknowledgements(s, t.database)
	if err != nil {
		return fmt.Errorf("%s (and the proxies can't be queried: %w)", text.String(), err)
	}
	if len(acknowledgements.Proxies) == 0 {
		fmt.Fprintf(&text, "\n  %[1]s has no proxy that could acknowledge it: pgmtls proxies add %[1]s NAME", clean(t.database))
		return &failure{exitFailure, errors.New(text.String())}
	}
	for _, waiting := range acknowledgements.Waiting {
		if waiting.Kind != t.kind || waiting.ID != t.id {
			continue
		}
		for _, proxy := range acknowledgements.Proxies {
			if slices.Contains(waiting.Proxies, proxy.Proxy) {
				fmt.Fprintf(&text, "\n  proxy %s: %s", clean(proxy.Proxy), s.whyBehind(proxy, waiting))
			}
		}
	}
	text.WriteString("\nThe change continues by itself: pgmtls proxies " + clean(t.database) + " shows its progress")
	return &failure{exitFailure, errors.New(text.String())}
}

// whyBehind returns what is known of a proxy that has not acknowledged.
func (s *session) whyBehind(proxy api.ProxyAcknowledgement, waiting api.Waiting) string {
	switch {
	case proxy.Error != "":
		return clean(problemOf(proxy))
	case proxy.At.IsZero():
		return "never seen; check that it, or its agent, is running"
	case waiting.Until == api.UntilInForce && proxy.Applied >= waiting.Generation:
		return fmt.Sprintf("follows generation %d; sessions that it refuses are still ending", waiting.Generation)
	}
	return fmt.Sprintf("has generation %d of %d, last report %s ago",
		proxy.Applied, waiting.Generation, elapsed(s.app.env.Now().Sub(proxy.At)))
}

// elapsed prints a duration as people read it: 143 ms, 2.4 s, 3 min, 5 h, 2 days.
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d, 0).Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// note prints something beside the result. With --json it goes out of the result's way.
func (s *session) note(format string, args ...any) {
	if s.app.json {
		s.app.env.remark(format+"\n", args...)
		return
	}
	s.out.line(format, args...)
}

// terminalWidth is what every terminal has. A line that wraps could not be written over.
const terminalWidth = 79

// progress is a line that is written over on a terminal, and one line after the other elsewhere.
type progress struct {
	env   Env
	shown bool
}

func (p *progress) say(format string, args ...any) {
	if !p.env.StderrTerminal {
		p.env.remark(format+"\n", args...)
		return
	}
	line := []rune(fmt.Sprintf(format, args...))
	p.env.remark("%s%s", erase, string(line[:min(len(line), terminalWidth)]))
	p.shown = true
}

func (p *progress) clear() {
	if p.shown {
		p.env.remark("%s", erase)
		p.shown = false
	}
}
