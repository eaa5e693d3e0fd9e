package apiserver

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
)

// lines is an open stream.
type lines struct {
	scanner *bufio.Scanner
}

// open begins a stream.
func (p *plane) open(client *http.Client, path string, token ...string) *lines {
	p.t.Helper()
	r := p.request(ask{method: "GET", path: path, token: strings.Join(token, "")})
	got, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { got.Body.Close() })
	if got.StatusCode != http.StatusOK {
		p.t.Fatalf("GET %s: %d", path, got.StatusCode)
	}
	checkDescribed(p.t, r, got, nil)
	return newLines(got)
}

func newLines(answer *http.Response) *lines {
	scanner := bufio.NewScanner(answer.Body)
	scanner.Buffer(nil, api.MaxStreamLine)
	return &lines{scanner}
}

// until reads lines up to one that is wanted. The client's timeout ends the wait.
func (l *lines) until(t *testing.T, wanted func(string) bool) {
	t.Helper()
	for l.scanner.Scan() {
		if wanted(l.scanner.Text()) {
			return
		}
	}
	t.Fatalf("the stream ended: %v", l.scanner.Err())
}

func (l *lines) line(t *testing.T, wanted func(api.StreamLine) bool) (line api.StreamLine) {
	t.Helper()
	l.until(t, func(text string) bool {
		line = api.StreamLine{}
		var generic any
		if json.Unmarshal([]byte(text), &line) != nil || json.Unmarshal([]byte(text), &generic) != nil {
			t.Errorf("the line %.100q is no JSON", text)
		}
		if err := described().Components.Schemas["StreamLine"].Value.VisitJSON(generic); err != nil {
			t.Errorf("the line %.100q is not as described: %v", text, err)
		}
		return wanted(line)
	})
	return line
}

func (l *lines) policy(t *testing.T) api.Policy {
	t.Helper()
	return *l.line(t, func(line api.StreamLine) bool { return line.Policy != nil }).Policy
}

func (l *lines) question(t *testing.T) api.Question {
	t.Helper()
	return *l.line(t, func(line api.StreamLine) bool { return line.Question != nil }).Question
}

// questionOf reads a line that may be a question.
func questionOf(text []byte) (api.Question, bool) {
	var line api.StreamLine
	if json.Unmarshal(text, &line) != nil || line.Question == nil {
		return api.Question{}, false
	}
	return *line.Question, true
}

// ended waits for the clean end of a stream. One that goes on ends with the client's timeout, which is not clean.
func (l *lines) ended(t *testing.T) {
	t.Helper()
	for l.scanner.Scan() {
	}
	if err := l.scanner.Err(); err != nil {
		t.Errorf("the stream did not end cleanly: %v", err)
	}
}
