package policysync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/safetext"
)

// status is what is read of GET /status, as docs/monitoring.md describes it. Its numbers and texts are the proxy's,
// or those of whoever sits at its address.
type status adminapi.Status

// What of an answer goes into a report, which is kept and sent on.
const (
	maxErrorText    = 4 << 10 // bytes
	maxShortText    = 200     // bytes
	maxReasons      = 64
	maxCertificates = 20_000
)

// queryStatus asks the proxy what it is at.
func (c *Publisher) queryStatus(ctx context.Context) (*status, error) {
	if c.fetch != nil {
		return c.fetch(ctx)
	}
	code, body, err := query(ctx, c.Admin, adminapi.Request{Method: http.MethodGet, Path: "/status", Timeout: statusTimeout})
	if err != nil {
		return nil, unreachableError{c.Admin, err}
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("can't be asked: %s answers /status with status %d. Is that a proxy's admin address?", c.Admin.Address, code)
	}
	s, err := parseStatus(body)
	if err != nil {
		return nil, fmt.Errorf("can't be asked: read the answer to /status of %s: %w. Is that a proxy's admin address?", c.Admin.Address, err)
	}
	return s, nil
}

// unreachableError is of a proxy that did not answer. Its text follows the name of the proxy.
type unreachableError struct {
	admin config.Address
	cause error // of [ask]
}

func (e unreachableError) Error() string {
	if checkAdmin(e.admin) != nil {
		return "can't be asked: " + e.cause.Error()
	}
	if errors.Is(e.cause, context.DeadlineExceeded) {
		return fmt.Sprintf("does not answer at %s. Is the proxy overloaded, or stopped?", e.admin.Address)
	}
	why := e.cause
	if inner := errors.Unwrap(why); inner != nil {
		why = inner // the outer one names the address, too
	}
	remedy := "Is the proxy running?"
	if errno, ok := errors.AsType[syscall.Errno](e.cause); ok {
		why = errno
		if errors.Is(errno, fs.ErrPermission) {
			remedy = "Let the user of this process connect to the socket."
		}
	}
	return fmt.Sprintf("can't be reached at %s (%v). %s", e.admin.Address, why, remedy)
}

func (e unreachableError) Unwrap() error { return e.cause }

func parseStatus(body []byte) (*status, error) {
	var s status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// report returns what a status means. Generation tells a digest's, 0 if it is none of ours.
//
// In force counts from the newest receipt back to the first that is not of ours: whoever came in under somebody else's
// policy has been asked only by receipts behind that one. A proxy that starts writes a receipt for the policy that it
// finds, so a restarted one is understood as well.
func (s *status) report(generation func(digest string) int64) api.Report {
	r := api.Report{ProxyVersion: clean(s.Version, maxShortText), Error: clean(s.Reload.Error, maxErrorText)}
	if r.Error != "" {
		r.ErrorKind = api.ErrorRefused
	}
	if t := plausible(s.Time); !t.IsZero() {
		r.Time, r.ReadAt = t, time.Now()
	}
	r.Certificates = s.usages()
	if s.Policy == nil {
		return r
	}
	r.Applied = generation(s.Policy.Digest)
	if r.Applied == 0 {
		return r
	}
	r.AppliedAt = plausible(s.Policy.LoadedAt)
	for i := len(s.Receipts) - 1; i >= 0; i-- {
		of := s.Receipts[i]
		g := generation(of.Digest)
		if g == 0 || g > r.Applied {
			break
		}
		if i == len(s.Receipts)-1 && of.Digest == s.Policy.Digest {
			r.Ended, r.Kept = counts(of.Ended), max(of.Kept, 0)
		}
		if of.InForceAt != nil {
			r.InForce, r.InForceAt = g, plausible(*of.InForceAt)
			break
		}
	}
	return r
}

func (s *status) usages() map[string]api.Usage {
	if len(s.ClientCertificates) == 0 {
		return nil
	}
	out := make(map[string]api.Usage, min(len(s.ClientCertificates), maxCertificates))
	for _, c := range s.ClientCertificates {
		serial, err := config.ParseSerial(c.Serial)
		if err != nil || len(out) == maxCertificates {
			continue
		}
		// Two CAs of a rotation may both have used a serial.
		used := out[serial.String()]
		used.Sessions = addCounts(used.Sessions, c.Sessions)
		if seen := plausible(deref(c.LastSeen)); seen.After(used.LastSeen) {
			used.LastSeen = seen
		}
		out[serial.String()] = used
	}
	return out
}

func counts(from map[string]int) map[string]int {
	if len(from) == 0 {
		return nil
	}
	out := make(map[string]int, min(len(from), maxReasons))
	for name, n := range from {
		if len(out) < maxReasons {
			name = clean(name, maxShortText)
			out[name] = addCounts(out[name], n)
		}
	}
	return out
}

// maxCount is more than any proxy has sessions.
const maxCount = 1 << 30

func addCounts(a, b int) int { return min(a+min(max(b, 0), maxCount), maxCount) }

// deref is the zero time for none.
func deref(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// plausible is the time in UTC, or zero if it could not be written in RFC 3339 again.
func plausible(t time.Time) time.Time {
	t = t.UTC()
	if year := t.Year(); t.IsZero() || year < 1 || year > 9999 {
		return time.Time{}
	}
	return t
}

// clean bounds a text of somebody else's in bytes and takes out what would move a terminal's cursor.
func clean(text string, limit int) string {
	// Replacing never makes a text longer: a question mark is the shortest character.
	return safetext.Replace(safetext.Cut(text, limit), '?', "\n")
}
