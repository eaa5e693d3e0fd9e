package sdnotify

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestMessagesArriveInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := New(func(string) string { return path }, func(err error) { t.Error(err) })
	n.Send("READY=1")
	n.Send("STOPPING=1")
	n.Close(10 * time.Second)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		text := make([]byte, 100)
		socket.SetReadDeadline(time.Now().Add(10 * time.Second))
		if size, err := socket.Read(text); err != nil || string(text[:size]) != want {
			t.Errorf("the supervisor reads %q, %v; want %q", text[:size], err, want)
		}
	}
}

func TestSupervisorThatDoesNotReadKeepsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		lost := 0
		n := start(func(string) error { <-stuck; return nil }, func(error) { lost++ })
		began := time.Now()
		n.Send("first")
		synctest.Wait() // it is under way
		for range maxWaiting + 3 {
			n.Send("more")
		}
		if took := time.Since(began); took != 0 || lost != 3 {
			t.Errorf("messages took %s, and %d were reported as lost, want 3", took, lost)
		}
		n.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Close took %s", took)
		}
		close(stuck)
	})
}

func TestWhatGoesWrongIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		planted := errors.New("planted")
		var reported []error
		n := start(func(string) error { return planted }, func(err error) { reported = append(reported, err) })
		n.Send("READY=1")
		n.Close(time.Second)
		if !slices.Equal(reported, []error{planted}) {
			t.Errorf("reported %v", reported)
		}
	})
}

func TestProcessWithoutASupervisorTellsNobody(t *testing.T) {
	n := New(func(string) string { return "" }, func(err error) { t.Error(err) })
	n.Send("READY=1")
	n.Close(time.Second)
}
