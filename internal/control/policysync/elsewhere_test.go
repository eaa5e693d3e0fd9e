package policysync

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/must"
)

// apart has the follower read a directory of its own, and say so.
func apart(t *testing.T, j *journey) (reads, writes string) {
	t.Helper()
	reads, writes = filepath.Join(t.TempDir(), "own"), j.Publisher.Dir
	must.OK(t, os.Mkdir(reads, 0o755))
	j.follower.set(func(f *follower) { f.dir, f.reads = reads, reads })
	return reads, writes
}

// It is said once, stays said over further changes, and is over as soon as the proxy follows.
func TestProxyThatReadsAnotherDirectoryIsTold(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		reads, writes := apart(t, j)
		j.follower.set(func(f *follower) { f.refuses = reads + "/policy.yaml: does not exist" })
		tells := func(r api.Report) bool {
			return r.ErrorKind == api.ErrorUndeliverable && strings.Contains(r.Error, "it reads its policy from "+reads+", and its policy is written to "+writes+": set policy_dir: "+writes) &&
				strings.Contains(r.Error, "it says: "+reads+"/policy.yaml: does not exist") && r.OnDisk > 0
		}
		j.offer(t, 1)
		defer travel(t, j.Syncer)()
		pass(t, time.Minute)
		expectLast(t, j, "after a minute", tells)
		begun := len(j.told.all())
		j.offer(t, 2)
		pass(t, time.Minute)
		expectLast(t, j, "after a change", func(r api.Report) bool { return tells(r) && r.OnDisk == 2 })
		for _, r := range j.told.all()[begun:] {
			if !tells(r) {
				t.Errorf("meanwhile it was reported %+v", r)
			}
		}
		j.follower.set(func(f *follower) { f.dir, f.reads, f.refuses = writes, writes, "" })
		pass(t, 20*time.Second)
		expectLast(t, j, "put right", func(r api.Report) bool { return r.Error == "" && r.InForce == 2 })
	})
}

// One that follows a policy of its own where it looks is no better.
func TestProxyWithAnotherPolicyElsewhereIsTold(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		reads, writes := apart(t, j)
		old := &Publisher{Database: database, Dir: reads}
		if _, err := old.Publish(t.Context(), j.space.Policy(t, edition{Generation: 1})); err != nil {
			t.Fatal(err)
		}
		j.offer(t, 7)
		defer travel(t, j.Syncer)()
		pass(t, time.Minute)
		expectLast(t, j, "after a minute", func(r api.Report) bool {
			return r.Applied < 7 && strings.Contains(r.Error, reads) && strings.Contains(r.Error, writes)
		})
	})
}

// Paths that differ are no fault: a link, a mount, a container.
func TestOtherPathOfTheSameDirectoryIsNoFault(t *testing.T) {
	for _, name := range []string{"a link", "a path in a container", "one with dots"} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, j *journey) {
				reads := "/policy/of/a/container"
				switch name {
				case "a link":
					reads = filepath.Join(t.TempDir(), "link")
					must.OK(t, os.Symlink(j.Publisher.Dir, reads))
				case "one with dots":
					reads = j.Publisher.Dir + "/../policy/."
				}
				j.follower.set(func(f *follower) { f.reads, f.holds = reads, true })
				j.offer(t, 1)
				defer travel(t, j.Syncer)()
				pass(t, time.Minute)
				j.follower.set(func(f *follower) { f.holds = false })
				pass(t, time.Minute)
				expectLast(t, j, "in the end", func(r api.Report) bool { return r.InForce == 1 })
				for _, r := range j.told.all() {
					if r.Error != "" {
						t.Errorf("reported: %+v", r)
					}
				}
			})
		})
	}
}

// Two containers may have two directories of one path.
func TestOtherDirectoryOfTheSamePathIsTold(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		_, writes := apart(t, j)
		j.follower.set(func(f *follower) { f.reads = writes })
		j.offer(t, 1)
		defer travel(t, j.Syncer)()
		pass(t, time.Minute)
		expectLast(t, j, "after a minute", func(r api.Report) bool {
			return strings.Contains(r.Error, "share the directory with its container") && strings.Contains(r.Error, writes)
		})
	})
}

// What it refuses of the right directory is a refusal, and a proxy that has not looked since the change knows nothing yet.
func TestRefusalOfTheRightDirectoryStaysOne(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.reads, f.refuses = f.dir, "policy.yaml:7: is wrong" })
		j.offer(t, 1)
		defer travel(t, j.Syncer)()
		pass(t, time.Minute)
		expectLast(t, j, "after a minute", func(r api.Report) bool {
			return r.ErrorKind == api.ErrorRefused && r.Error == "policy.yaml:7: is wrong"
		})
		j.follower.set(func(f *follower) { f.reads, f.stale = "/elsewhere", true })
		j.offer(t, 2)
		pass(t, time.Minute)
		expectLast(t, j, "without a look", func(r api.Report) bool { return r.ErrorKind == api.ErrorRefused })
	})
}
