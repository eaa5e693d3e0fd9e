package policy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/must"
)

// seen is what a watcher handed to Load.
type seen struct {
	files *Files
	err   error
	at    time.Time
}

// generation is empty when the look ended in an error.
func (s seen) generation() string {
	if s.err != nil {
		return ""
	}
	return s.files.Policy.Generation
}

type watched struct {
	t      *testing.T
	looks  chan seen
	reload chan os.Signal
}

// startWatcher follows dir until the test ends, and has seen it once when it returns. The slow look does not come to
// the rescue, unless an interval is given.
func startWatcher(t *testing.T, dir string, interval time.Duration) *watched {
	t.Helper()
	w := &watched{t, make(chan seen, 10_000), make(chan os.Signal)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		watcher := Watcher{Dir: dir, Interval: interval, Load: func(_ context.Context, files *Files, err error) {
			w.looks <- seen{files, err, time.Now()}
		}}
		ended <- watcher.Run(ctx, w.reload)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watcher ended with %v", err)
		}
	})
	w.next()
	return w
}

func (w *watched) next() seen {
	w.t.Helper()
	select {
	case s := <-w.looks:
		return s
	case <-time.After(time.Minute):
		w.t.Fatal("no look in 20 s")
		return seen{}
	}
}

// until gives the first look that is good, and hands those before it to other, if that is not nil.
func (w *watched) until(good func(seen) bool, other func(seen)) seen {
	w.t.Helper()
	for {
		s := w.next()
		if good(s) {
			return s
		}
		if other != nil {
			other(s)
		}
	}
}

func isVersion(version int) func(seen) bool {
	return func(s seen) bool { return s.generation() == fmt.Sprint(version) }
}

const hour = time.Hour // an interval that no test lives to see

func TestChangeIsSeenSoonWhateverTheWay(t *testing.T) {
	inPlace := func(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
	for name, way := range map[string]struct {
		prepare func(t *testing.T, dir string) // makes version 1 at dir
		change  func(t *testing.T, dir string) // makes it version 2
	}{
		"files renamed into place": {
			func(t *testing.T, dir string) { writeVersion(t, dir, 1) },
			func(t *testing.T, dir string) { writeVersion(t, dir, 2) },
		},
		"written in place": {
			func(t *testing.T, dir string) { writeVersion(t, dir, 1) },
			func(t *testing.T, dir string) {
				must.OK(t, inPlace(filepath.Join(dir, "tls.crt"), "certificate 2"))
				must.OK(t, inPlace(filepath.Join(dir, "tls.key"), "key 2"))
				must.OK(t, inPlace(filepath.Join(dir, policyName), versionPolicy(2, "")))
			},
		},
		"a Kubernetes volume": {
			func(t *testing.T, dir string) {
				writeVersion(t, filepath.Join(dir, "..v1"), 1)
				swap(t, filepath.Join(dir, dataLink), "..v1")
				for _, name := range []string{policyName, "tls.crt", "tls.key"} {
					must.OK(t, os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)))
				}
			},
			func(t *testing.T, dir string) {
				writeVersion(t, filepath.Join(dir, "..v2"), 2)
				swap(t, filepath.Join(dir, dataLink), "..v2")
				must.OK(t, os.RemoveAll(filepath.Join(dir, "..v1")))
			},
		},
		"the directory is a link that is swapped": {
			func(t *testing.T, dir string) {
				writeVersion(t, dir+"-v1", 1)
				swap(t, dir, dir+"-v1")
			},
			func(t *testing.T, dir string) {
				writeVersion(t, dir+"-v2", 2)
				swap(t, dir, dir+"-v2")
			},
		},
		"a link further on is swapped": {
			func(t *testing.T, dir string) {
				must.OK(t, os.Mkdir(dir+"-all", 0o755))
				writeVersion(t, dir+"-all/v1", 1)
				swap(t, dir+"-all/current", "v1")
				swap(t, dir, dir+"-all/current")
			},
			func(t *testing.T, dir string) {
				writeVersion(t, dir+"-all/v2", 2)
				swap(t, dir+"-all/current", "v2")
			},
		},
		"the directory is replaced by another": {
			func(t *testing.T, dir string) { writeVersion(t, dir, 1) },
			func(t *testing.T, dir string) {
				writeVersion(t, dir+".new", 2)
				must.OK(t, os.Rename(dir, dir+".old"))
				must.OK(t, os.Rename(dir+".new", dir))
			},
		},
		"policy.yaml is a link that is swapped": {
			func(t *testing.T, dir string) {
				writeVersion(t, filepath.Join(dir, "v1"), 1)
				swap(t, filepath.Join(dir, policyName), filepath.Join("v1", policyName))
			},
			func(t *testing.T, dir string) {
				writeVersion(t, filepath.Join(dir, "v2"), 2)
				swap(t, filepath.Join(dir, policyName), filepath.Join("v2", policyName))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "policy")
			way.prepare(t, dir)
			w := startWatcher(t, dir, hour)
			changed := time.Now()
			way.change(t, dir)
			changedBy := time.Now()
			s := w.until(isVersion(2), nil)
			if err := whole(s.files); err != nil {
				t.Error(err)
			}
			if d := s.at.Sub(changedBy); d > time.Second {
				t.Errorf("seen after %v", d)
			}
			t.Logf("seen %v after the first and %v after the last change", s.at.Sub(changed), s.at.Sub(changedBy))
		})
	}
}

// A file beside policy.yaml changes, or comes at last: no event of policy.yaml itself.
func TestChangeOfAReferencedFileIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	writeVersion(t, filepath.Join(dir, "tls"), 1)
	put(t, filepath.Join(dir, policyName), versionPolicy(1, "tls/"))
	w := startWatcher(t, dir, hour)
	key := filepath.Join(dir, "tls", "tls.key")

	put(t, key, "key 2")
	w.until(func(s seen) bool { return s.err == nil && string(s.files.Contents["tls/tls.key"]) == "key 2" }, nil)
	must.OK(t, os.Chmod(key, 0o644))
	w.until(func(s seen) bool { return s.err != nil && strings.Contains(s.err.Error(), "chmod 0600 it") }, nil)
	must.OK(t, os.Chmod(key, 0o600))
	w.until(func(s seen) bool { return s.err == nil }, nil)
	must.OK(t, os.RemoveAll(filepath.Join(dir, "tls")))
	w.until(func(s seen) bool { return s.err != nil && strings.Contains(s.err.Error(), "does not exist") }, nil)
	put(t, filepath.Join(dir, policyName), versionPolicy(3, "other/"))
	w.until(func(s seen) bool {
		return s.err != nil && strings.Contains(s.err.Error(), `"other/tls.key" does not exist`)
	}, nil)
	writeVersion(t, filepath.Join(dir, "other"), 3)
	w.until(isVersion(3), nil)
}

// Between every two of its bytes the file is valid or cut in the middle; after a cut between two lines it is a valid
// policy with fewer rules. Only what stood there before and what stands there at the end may be seen.
func TestFileThatIsWrittenByteByByteIsSeenOnlyWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	writeVersion(t, dir, 1)
	put(t, filepath.Join(dir, "tls.crt"), "certificate 2")
	put(t, filepath.Join(dir, "tls.key"), "key 2")
	w := startWatcher(t, dir, hour)
	f, err := os.OpenFile(filepath.Join(dir, policyName), os.O_WRONLY|os.O_TRUNC, 0)
	must.OK(t, err)
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	text := versionPolicy(2, "")
	for i := range text {
		_, err := f.WriteString(text[i : i+1])
		must.OK(t, err)
		if i%100 == 0 { // every way of asking
			select {
			case w.reload <- syscall.SIGHUP:
			default:
			}
		}
		<-pace.C
	}
	must.OK(t, f.Close())
	closed := time.Now()
	s := w.until(isVersion(2), func(s seen) {
		if s.err != nil || s.generation() != "1" || len(s.files.Policy.IPRules) != versionRules {
			t.Errorf("a half-written state was seen: %+v", s)
		}
	})
	if err := whole(s.files); err != nil {
		t.Error(err)
	}
	if d := s.at.Sub(closed); d > time.Second || d < 0 {
		t.Errorf("seen %v after the file was closed", d)
	}
}

func TestStormOfSignalsIsAnsweredAFewTimes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	writeVersion(t, dir, 1)
	w := startWatcher(t, dir, hour)
	start := time.Now()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for range 100 {
		w.reload <- syscall.SIGHUP
		<-pace.C
	}
	storm := time.Since(start)
	last := w.next() // there is at least one
	for len(w.looks) > 0 {
		last = w.next()
		if most := int(storm/signalGap) + 2; len(w.looks) > most {
			t.Fatalf("%d looks in %v, want at most %d", len(w.looks), storm, most)
		}
	}
	if last.err != nil {
		t.Error(last.err)
	}
}

func TestSignalIsAnsweredAlsoWhenNothingHasChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	writeVersion(t, dir, 1)
	w := startWatcher(t, dir, hour)
	w.reload <- syscall.SIGHUP
	if s := w.next(); s.generation() != "1" {
		t.Errorf("%+v", s)
	}
}

// Its parent goes too, so no watch is left that could tell of its return.
func TestDirectoryThatWasAwayIsFoundAgain(t *testing.T) {
	const interval = 2 * time.Second
	parent := filepath.Join(t.TempDir(), "parent")
	dir := filepath.Join(parent, "policy")
	writeVersion(t, dir, 1)
	w := startWatcher(t, dir, interval)
	must.OK(t, os.RemoveAll(parent))
	w.until(func(s seen) bool { return s.err != nil }, nil)
	writeVersion(t, dir, 2)
	found := w.until(isVersion(2), nil)
	writeVersion(t, dir, 3)
	if s := w.until(isVersion(3), nil); s.at.Sub(found.at) > interval/2 {
		t.Errorf("seen %v later: by the slow look, the watches are not back", s.at.Sub(found.at))
	}
}

func TestFilesThatThePolicyDoesNotNameAskForNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	writeVersion(t, dir, 1)
	w := startWatcher(t, dir, hour)
	for range 20 {
		put(t, filepath.Join(dir, ".policy.yaml.swp"), "x")
		put(t, filepath.Join(filepath.Dir(dir), "neighbour"), "x")
	}
	writeVersion(t, dir, 2)
	w.until(isVersion(2), func(s seen) { t.Errorf("a look for nothing: %+v", s) })
}
