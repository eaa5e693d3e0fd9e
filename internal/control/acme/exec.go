package acme

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Exec has records made by a program, which is called as
//
//	PROGRAM present NAME VALUE
//	PROGRAM cleanup NAME VALUE
//
// It must exit with 0 when the record is there, or gone. It gets the environment of Environ and no more, and is killed
// after a minute. What it writes is shown when it fails.
type Exec struct {
	Program string // absolute path
	Environ []string
}

// Present implements [Solver].
func (s *Exec) Present(ctx context.Context, record TXT) error { return s.run(ctx, "present", record) }

// Remove implements [Solver].
func (s *Exec) Remove(ctx context.Context, record TXT) error { return s.run(ctx, "cleanup", record) }

func (s *Exec) run(ctx context.Context, action string, record TXT) error {
	output := &head{}
	command := exec.CommandContext(ctx, s.Program, action, record.Name, record.Value)
	command.Env = s.Environ
	if command.Env == nil {
		command.Env = []string{} // nil would hand on ours
	}
	command.Stdout, command.Stderr = output, output
	command.WaitDelay = time.Second // a child of it may keep its output open
	err := command.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s %s did not end in time", s.Program, action)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("%s %s: %w: %s", s.Program, action, err, clean(output.text.String()))
	}
	return nil
}

// head keeps the beginning of what is written.
type head struct{ text strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	h.text.Write(p[:min(len(p), 4*maxDetail-min(h.text.Len(), 4*maxDetail))])
	return len(p), nil
}
