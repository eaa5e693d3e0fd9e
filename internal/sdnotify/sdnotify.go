// Package sdnotify tells the supervisor of a process, which is systemd as a rule, how the process is (sd_notify(3)), from a
// queue of its own: a supervisor that does not read keeps nobody.
package sdnotify

import (
	"errors"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxWaiting is how many messages may wait. A supervisor that reads leaves none waiting.
const maxWaiting = 16

var errNotRead = errors.New("the supervisor does not read its notify socket")

// Notifier sends messages in the order in which they come. A nil Notifier has nobody to tell. Its methods are safe for concurrent use,
// except that Close comes last.
type Notifier struct {
	send    func(state string) error
	report  func(error)
	waiting chan string
	sent    chan struct{} // closed when the last message is sent
}

// New returns a notifier for the socket that NOTIFY_SOCKET names, or nil where there is none. Report is told what went wrong
// with a message; it may be called by several goroutines at once.
func New(getenv func(string) string, report func(error)) *Notifier {
	if getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return start(func(state string) error { _, err := daemon.SdNotify(false, state); return err }, report)
}

func start(send func(string) error, report func(error)) *Notifier {
	n := &Notifier{send: send, report: report, waiting: make(chan string, maxWaiting), sent: make(chan struct{})}
	go n.run()
	return n
}

// Send queues a message, and reports one that finds no room as lost. It does not wait.
func (n *Notifier) Send(state string) {
	if n == nil {
		return
	}
	select {
	case n.waiting <- state:
	default:
		n.report(errNotRead)
	}
}

// Close waits until the messages are sent, for the given time at most.
func (n *Notifier) Close(limit time.Duration) {
	if n == nil {
		return
	}
	close(n.waiting)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-n.sent:
	case <-timer.C:
	}
}

func (n *Notifier) run() {
	defer close(n.sent)
	for state := range n.waiting {
		if err := n.send(state); err != nil {
			n.report(err)
		}
	}
}
