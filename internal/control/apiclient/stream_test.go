package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/control/api"
)

func TestSilentStreamIsCutOffAndALivelyOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		read, write := io.Pipe()
		context.AfterFunc(ctx, func() { read.CloseWithError(context.Canceled) }) // as the transport does
		body := &watched{ctx: ctx, cancel: cancel, body: read, timer: time.AfterFunc(api.SilenceBound, func() { cancel(ErrSilent) })}
		defer body.Close()
		go func() {
			for range 10 {
				<-time.After(api.SilenceBound - time.Second)
				if _, err := write.Write([]byte("\n")); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		n, err := io.Copy(io.Discard, body)
		if n != 10 || !errors.Is(err, ErrSilent) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if lasted := time.Since(start); lasted != 10*(api.SilenceBound-time.Second)+api.SilenceBound {
			t.Errorf("it lasted %v", lasted)
		}
	})
}

func TestStreamGivesLinesAndLeavesOutWhatItDoesNotKnow(t *testing.T) {
	text := `{"policy":{"database":"d","generation":7,"files":{"policy.yaml":"YQ=="}}}
{"weather":{"rain":true}}

{"question":{"id":"q","policy":{"database":"d","generation":8,"files":{}}}}
{"heartbeat":{"at":"2027-01-01T00:00:00Z"}}
`
	var got []string
	err := readLines(strings.NewReader(text), func(line api.StreamLine) bool {
		switch {
		case line.Policy != nil:
			got = append(got, fmt.Sprintf("policy %d", line.Policy.Generation))
		case line.Question != nil:
			got = append(got, "question "+line.Question.ID)
		case line.Heartbeat != nil:
			got = append(got, "heartbeat")
		}
		return true
	})
	if want := "policy 7, question q, heartbeat"; strings.Join(got, ", ") != want {
		t.Errorf("%v", got)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("its end is %v", err)
	}
	if err := readLines(strings.NewReader(text), func(api.StreamLine) bool { return false }); err != nil {
		t.Errorf("a reader that stops sees %v", err)
	}
	if err := readLines(strings.NewReader("{\"policy\":\n"), func(api.StreamLine) bool { return true }); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a line is %v", err)
	}
}

func TestLinesOfTheStreamAreBounded(t *testing.T) {
	endless := io.LimitReader(letters{}, api.MaxStreamLine+1)
	if err := readLines(endless, func(api.StreamLine) bool { return true }); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

type letters struct{}

func (letters) Read(into []byte) (int, error) {
	for i := range into {
		into[i] = 'x'
	}
	return len(into), nil
}

func TestEventsAreReadWithTheirComments(t *testing.T) {
	text := ": heartbeat\n\nid: 1\r\nevent: ip_rule.create\r\ndata: {\"id\":\"1\",\r\ndata: \"action\":\"ip_rule.create\"}\r\n\r\ndata:{\"id\":\"2\"}\n\nid: 3\ndata: {\"id\":\"3\"}\n"
	var got []string
	err := readEvents(strings.NewReader(text), func(record api.Record) bool {
		got = append(got, record.ID+record.Action)
		return true
	})
	// The third has no empty line behind it: it may be half of one.
	if strings.Join(got, " ") != "1ip_rule.create 2" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestEventOfManyLinesIsBounded(t *testing.T) {
	text := strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 300)
	if err := readEvents(strings.NewReader(text), func(api.Record) bool { return true }); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

func TestEventsGoOnWhereTheyBrokeOff(t *testing.T) {
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get(api.LastEventID)
		asked <- last
		next := map[string]string{"": "1", "1": "2", "2": "3"}[last]
		fmt.Fprintf(w, "data: {\"id\":%q}\n\n", next)
	}))
	defer server.Close()
	client, err := New(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for record, err := range client.Events(t.Context(), Following{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, record.ID); len(got) == 3 {
			break
		}
	}
	if strings.Join(got, " ") != "1 2 3" {
		t.Errorf("%v", got)
	}
	for _, want := range []string{"", "1", "2"} {
		if last := <-asked; last != want {
			t.Errorf("it asked from %q, not %q", last, want)
		}
	}
}

func TestEventsEndWhenTheTokenIsRevoked(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked > 1 {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"id":"unauthorized","message":"revoked"}`)
			return
		}
		fmt.Fprint(w, "data: {\"id\":\"1\"}\n\n")
	}))
	defer server.Close()
	client, err := New(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range client.Events(t.Context(), Following{}) {
		last = err
	}
	var refused *api.Error
	if !errors.As(last, &refused) || refused.ID != api.Unauthorized {
		t.Errorf("%v", last)
	}
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte("{\"heartbeat\":{\"at\":\"2027-01-01T00:00:00Z\"}}\n"))
	f.Add([]byte("id: 1\ndata: {\"id\":\"1\"}\n\n: c\n\n"))
	f.Add([]byte("data\ndata:\n\n\r\n{}\nnull\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := readLines(strings.NewReader(string(text)), func(line api.StreamLine) bool {
			if line == (api.StreamLine{}) {
				t.Error("a line without anything")
			}
			return true
		}); err == nil {
			t.Error("a stream without end ended well")
		}
		if err := readEvents(strings.NewReader(string(text)), func(api.Record) bool { return true }); err == nil {
			t.Error("events without end ended well")
		}
	})
}
