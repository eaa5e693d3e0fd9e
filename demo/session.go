package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// session is a psql that stays connected in the background, while the demo changes things around it.
type session struct {
	show    *printer
	command *exec.Cmd
	stdin   io.WriteCloser
	answers chan string // its output line by line; closed at its end
	backend string      // the process id of its server process: the same as long as the connection lives
}

// openSession connects with psql and what stands before it, and returns when the session has answered.
func (d *demo) openSession(ctx context.Context, with string) (*session, error) {
	line := with + `psql "$URL" -qAt`
	d.show.say("a session that stays connected in the background:")
	d.show.typed(line)
	command, err := d.shell(ctx, line)
	if err != nil {
		return nil, err
	}
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	command.Stderr = command.Stdout // the same pipe, so that an error is an answer too
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("psql: %w", err)
	}
	s := &session{show: d.show, command: command, stdin: stdin, answers: make(chan string)}
	go s.read(ctx, stdout)
	if s.backend, err = s.ask("select pg_backend_pid()"); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// read hands on each line of output. It ends with the output, or with the demo.
func (s *session) read(ctx context.Context, stdout io.Reader) {
	defer close(s.answers)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		select {
		case s.answers <- lines.Text():
		case <-ctx.Done():
			return
		}
	}
}

// ask types a query whose answer has one line, and shows both.
func (s *session) ask(query string) (string, error) {
	s.show.line("app=> %s;", query)
	if _, err := io.WriteString(s.stdin, query+";\n"); err != nil {
		return "", fmt.Errorf("the session is gone: %w", err)
	}
	select {
	case answer, ok := <-s.answers:
		if !ok {
			return "", errors.New("the session is gone")
		}
		s.show.output(answer + "\n")
		return answer, nil
	case <-time.After(patience):
		return "", fmt.Errorf("the session did not answer for %s", patience)
	}
}

// tell types a query that has no answer.
func (s *session) tell(query string) {
	s.show.line("app=> %s;", query)
	_, _ = io.WriteString(s.stdin, query+";\n") // an error is seen at the next answer
}

// lives wants the session to answer, over the connection that it began with.
func (s *session) lives() error {
	backend, err := s.ask("select pg_backend_pid()")
	if err == nil && backend != s.backend {
		err = fmt.Errorf("the session answered %q, not %s: it is another one", backend, s.backend)
	}
	return err
}

// close ends the session as Ctrl-D does.
func (s *session) close() error {
	if err := s.stdin.Close(); err != nil {
		return err
	}
	for range s.answers { // nothing is left to be said; the end of the output comes before the end of psql
	}
	if err := s.command.Wait(); err != nil {
		return fmt.Errorf("the session: psql: %w", err)
	}
	return nil
}

// wasEnded wants the session to read why it is over, at its next query, with all of the texts in it.
func (s *session) wasEnded(texts ...string) error {
	s.tell("select 1")
	_ = s.stdin.Close()
	var output strings.Builder
	for line := range s.answers {
		output.WriteString(line + "\n")
	}
	s.show.output(output.String())
	if s.command.Wait() == nil {
		return errors.New("the session: psql exited without an error")
	}
	for _, text := range texts {
		if !strings.Contains(output.String(), text) {
			return fmt.Errorf("the session did not read %q", text)
		}
	}
	return nil
}
