package policysync

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// publish publishes and wants to know whether anything changed.
func publish(t testing.TB, c *Publisher, p api.Policy) (changed bool) {
	t.Helper()
	changed, err := c.Publish(t.Context(), p)
	must.OK(t, err)
	return changed
}

func TestTheSameBytesAreNotWrittenAgain(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, edition{Generation: 1})
	c := &Publisher{Database: database, Dir: t.TempDir()}
	if !publish(t, c, p) {
		t.Error("the first time changed nothing")
	}
	before, err := os.Stat(filepath.Join(c.Dir, api.PolicyFile))
	must.OK(t, err)
	if publish(t, c, p) || publish(t, &Publisher{Database: database, Dir: c.Dir}, p) {
		t.Error("the same changed something")
	}
	after, err := os.Stat(filepath.Join(c.Dir, api.PolicyFile))
	must.OK(t, err)
	if !os.SameFile(before, after) {
		t.Error("policy.yaml is another file")
	}
}

func TestAnOlderGenerationIsRefused(t *testing.T) {
	s, dir := policytest.NewSpace(t), t.TempDir()
	old, new := s.Policy(t, edition{Generation: 4}), s.Policy(t, edition{Generation: 5})
	c := &Publisher{Database: database, Dir: dir}
	publish(t, c, new)
	for name, courier := range map[string]*Publisher{"the same courier": c, "another one, by what lies there": {Database: database, Dir: dir}} {
		if changed, err := courier.Publish(t.Context(), old); !errors.Is(err, ErrOlder) || changed {
			t.Errorf("%s: %t, %v", name, changed, err)
		}
	}
	must.OK(t, os.Remove(filepath.Join(dir, api.PolicyFile)))
	if _, err := c.Publish(t.Context(), old); !errors.Is(err, ErrOlder) {
		t.Errorf("the same courier, when nothing lies there any more: %v", err)
	}
}

func TestWhatSomebodyElseWroteStaysUntilItIsTakenOver(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, edition{Generation: 2})
	for name, text := range map[string]string{
		"made by hand":        "ip_rules: []\n",
		"empty":               "",
		"another database's":  policyformat.Header("other", 9) + "ip_rules: []\n",
		"header not in front": "\n" + policyformat.Header(database, 1),
	} {
		t.Run(name, func(t *testing.T) {
			c := &Publisher{Database: database, Dir: t.TempDir()}
			path := filepath.Join(c.Dir, api.PolicyFile)
			must.OK(t, os.WriteFile(path, []byte(text), 0o600))
			if _, err := c.Publish(t.Context(), p); !errors.Is(err, ErrForeign) {
				t.Fatalf("got %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text || len(names(t, c.Dir)) != 1 {
				t.Errorf("it was touched: %v", names(t, c.Dir))
			}
			if _, drift := c.drift(); drift == "" {
				t.Error("no drift is seen")
			}
			c.TakeOver = true
			if !publish(t, c, p) {
				t.Error("nothing changed")
			}
			if kept, err := os.ReadFile(path + ".replaced"); err != nil || string(kept) != text {
				t.Errorf("what was taken over is lost: %q, %v", kept, err)
			}
			publish(t, &Publisher{Database: database, Dir: c.Dir}, p) // it is ours now
		})
	}
	t.Run("no regular file", func(t *testing.T) {
		c := &Publisher{Database: database, Dir: t.TempDir()}
		must.OK(t, os.Mkdir(filepath.Join(c.Dir, api.PolicyFile), 0o755))
		if _, err := c.Publish(t.Context(), p); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("got %v", err)
		}
		c.TakeOver = true
		if _, err := c.Publish(t.Context(), p); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("got %v", err)
		}
	})
}

func TestFilesThatNothingNeedsAreRemovedAndOthersNever(t *testing.T) {
	s := policytest.NewSpace(t)
	c := &Publisher{Database: database, Dir: t.TempDir()}
	old := s.Policy(t, edition{Generation: 1})
	publish(t, c, old)

	content := []byte("somebody's")
	own := policyformat.Name("left-over", "pem", content)
	outside := filepath.Join(t.TempDir(), own)
	must.OK(t, os.WriteFile(outside, content, 0o600))
	theirs := []string{"server.crt", "notes.txt", "server-0123456789abcdef.crt", ".pgmtls-1.tmp", "..tmp", policyformat.Name("x", "txt", content)}
	for _, name := range theirs {
		must.OK(t, os.WriteFile(filepath.Join(c.Dir, name), content, 0o600))
	}
	directory := policyformat.Name("directory", "pem", content)
	must.OK(t, os.Mkdir(filepath.Join(c.Dir, directory), 0o755))
	link := policyformat.Name("link", "pem", content)
	must.OK(t, os.Symlink(outside, filepath.Join(c.Dir, link)))
	theirs = append(theirs, directory, link)
	for _, name := range []string{own, ".pgmtls-0123456789abcdef.tmp"} {
		must.OK(t, os.WriteFile(filepath.Join(c.Dir, name), content, 0o600))
	}

	next := s.Policy(t, edition{Generation: 2, Server: s.CA.MustIssue(t, testpki.Server("db.example.com"))})
	publish(t, c, next)
	want := slices.Clone(theirs)
	for name := range next.Files {
		want = append(want, name)
	}
	slices.Sort(want)
	if got := names(t, c.Dir); !slices.Equal(got, want) {
		t.Errorf("the directory holds\n%v, want\n%v", got, want)
	}
}

func TestWhatSomebodyEditedIsPutRight(t *testing.T) {
	s := policytest.NewSpace(t)
	p := s.Policy(t, edition{Generation: 3})
	key, crt := policytest.FileOf(p, "key"), policytest.FileOf(p, "crt")
	victim := filepath.Join(t.TempDir(), "victim")
	for name, edit := range map[string]func(dir string) error{
		"policy.yaml edited":  func(dir string) error { return appendTo(filepath.Join(dir, api.PolicyFile), " ") },
		"policy.yaml removed": func(dir string) error { return os.Remove(filepath.Join(dir, api.PolicyFile)) },
		"a file removed":      func(dir string) error { return os.Remove(filepath.Join(dir, crt)) },
		"a file edited":       func(dir string) error { return appendTo(filepath.Join(dir, crt), "x") },
		"a key opened up":     func(dir string) error { return os.Chmod(filepath.Join(dir, key), 0o644) },
		"a link in a file's place": func(dir string) error {
			if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
				return err
			}
			return errors.Join(os.Remove(filepath.Join(dir, key)), os.Symlink(victim, filepath.Join(dir, key)))
		},
		"an older policy.yaml": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, api.PolicyFile), s.Policy(t, edition{Generation: 2}).Files[api.PolicyFile], 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Publisher{Database: database, Dir: t.TempDir()}
			publish(t, c, p)
			if _, drift := c.drift(); drift != "" {
				t.Fatalf("drift before anything happened: %s", drift)
			}
			must.OK(t, edit(c.Dir))
			if _, drift := c.drift(); drift == "" {
				t.Error("no drift is seen")
			}
			if !publish(t, c, p) {
				t.Error("nothing was put right")
			}
			if onDisk, drift := c.drift(); drift != "" || onDisk != 3 {
				t.Errorf("generation %d, drift: %s", onDisk, drift)
			}
			if publish(t, c, p) {
				t.Error("it was not all put right at once")
			}
		})
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("a link was followed: %q, %v", text, err)
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func TestAFreshCourierHoldsADirectoryAgainstItself(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, edition{Generation: 3})
	dir := t.TempDir()
	fresh := func() *Publisher { return &Publisher{Database: database, Dir: dir} }
	if onDisk, drift := fresh().drift(); onDisk != 0 || drift != "" {
		t.Errorf("of an empty directory: %d, %s", onDisk, drift)
	}
	publish(t, fresh(), p)
	if onDisk, drift := fresh().drift(); onDisk != 3 || drift != "" {
		t.Errorf("of a good one: %d, %s", onDisk, drift)
	}
	must.OK(t, appendTo(filepath.Join(dir, policytest.FileOf(p, "crt")), "x"))
	if _, drift := fresh().drift(); !strings.Contains(drift, "not named after its content") {
		t.Errorf("of an edited one: %s", drift)
	}
}

func TestCouriersThatRaceLeaveTheLatestWhole(t *testing.T) {
	s, other, dir := policytest.NewSpace(t), policytest.NewSpace(t), t.TempDir()
	shared := &Publisher{Database: database, Dir: dir}
	var group sync.WaitGroup
	const last = 12
	for generation := int64(1); generation <= last; generation++ {
		from, c := s, shared
		if generation%2 == 0 {
			from = other
		}
		if generation%3 == 0 {
			c = &Publisher{Database: database, Dir: dir}
		}
		p := from.Policy(t, edition{Generation: generation})
		group.Go(func() {
			if _, err := c.Publish(t.Context(), p); err != nil && !errors.Is(err, ErrOlder) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	generation, err := readWhole(dir)
	if err != nil || generation != last || len(names(t, dir)) != 4 {
		t.Errorf("generation %d, %v, files %v", generation, err, names(t, dir))
	}
}

func TestPolicyThatDoesNotFitItselfTouchesNothing(t *testing.T) {
	for name, misfit := range policytest.Misfits(t) {
		t.Run(name, func(t *testing.T) {
			c := &Publisher{Database: misfit.Policy.Database, Dir: t.TempDir()}
			if changed, err := c.Publish(t.Context(), misfit.Policy); err == nil || changed || !strings.Contains(err.Error(), misfit.Want) {
				t.Errorf("got %t, %v", changed, err)
			}
			if left := names(t, c.Dir); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestPolicyOfAnotherDatabaseIsNotThisPublishersToDeliver(t *testing.T) {
	c := &Publisher{Database: "other", Dir: t.TempDir()}
	if _, err := c.Publish(t.Context(), policytest.NewSpace(t).Policy(t, edition{Generation: 1})); err == nil || !strings.Contains(err.Error(), "was given to the proxy of") {
		t.Errorf("got %v", err)
	}
}
