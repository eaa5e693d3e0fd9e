package apiserver

import (
	"errors"
	"net/http"
	"time"
)

// writeTime bounds one write of an answer that goes on. Who does not read for so long is gone.
const writeTime = 30 * time.Second

// stream is an answer that goes on. It has no end, so each write has a deadline.
type stream struct {
	w       *responseRecorder
	control *http.ResponseController
	counted func() // takes it out of the count of open streams
}

// newStream begins the answer.
func newStream(c *call, contentType string) (*stream, error) {
	s := &stream{w: c.w, control: http.NewResponseController(c.w), counted: c.server.counts.open(c.route.path)}
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("X-Accel-Buffering", "no") // a reverse proxy would collect it
	c.w.WriteHeader(http.StatusOK)
	if err := s.flush(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// write sends a piece at once.
func (s *stream) write(text []byte) error {
	if _, err := s.Write(text); err != nil {
		return err
	}
	return s.flush()
}

// Write is for pieces that may wait for more.
func (s *stream) Write(text []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return s.w.Write(text)
}

func (s *stream) flush() error {
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// close takes the stream out of the count. The connection may be used again, with a deadline of the next request.
func (s *stream) close() { s.counted() }
