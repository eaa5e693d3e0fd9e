package policysync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
)

// follows makes the proxy follow a generation that nothing on disk explains, as when its directory was lost.
func follows(generation string) func(context.Context) (*status, error) {
	return func(context.Context) (*status, error) {
		s := new(status)
		s.Reload.CheckedAt = time.Now()
		s.Policy = &adminapi.Policy{Generation: generation, Digest: strings.Repeat("ab", 32), LoadedAt: time.Now()}
		return s, nil
	}
}

func TestProxysWordCountsBeforeTheFirstPublicationIntoAnEmptyDirectory(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		follower := j.Publisher.fetch
		j.Publisher.fetch = follows("8")
		defer travel(t, j.Syncer)()
		j.offer(t, 4)
		synctest.Wait()
		if _, err := readWhole(j.follower.dir); err == nil {
			t.Fatal("the proxy was set back")
		}
		expectLast(t, j, "ahead:", func(r api.Report) bool { return r.OnDisk == 8 && r.Error == "" })
		j.Publisher.fetch = follower
		j.offer(t, 9)
		pass(t, time.Second)
		expectLast(t, j, "beyond:", func(r api.Report) bool { return r.OnDisk == 9 && r.InForce == 9 })
	})
}

func TestWordOfAProxyIsNoObstacle(t *testing.T) {
	for name, fetch := range map[string]func(context.Context) (*status, error){
		"an older generation":        follows("3"),
		"the same number":            follows("4"),
		"a policy of somebody else":  follows("2026-11-27"),
		"a number beyond all bounds": follows("9000000000"),
		"a negative number":          follows("-1"),
		"no policy":                  func(context.Context) (*status, error) { return &status{}, nil },
		"a proxy that is not there":  func(context.Context) (*status, error) { return nil, errors.New("connection refused") },
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, j *journey) {
				j.Publisher.fetch = fetch
				defer travel(t, j.Syncer)()
				j.offer(t, 4)
				synctest.Wait() // no time passes
				if got, err := readWhole(j.follower.dir); got != 4 || err != nil {
					t.Errorf("generation %d lies there: %v", got, err)
				}
			})
		})
	}
}

func TestProxyThatHangsHoldsUpTheFirstPublicationForASecondOnly(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.hangs = true })
		defer travel(t, j.Syncer)()
		j.offer(t, 4)
		pass(t, firstWord)
		if got, err := readWhole(j.follower.dir); got != 4 || err != nil {
			t.Errorf("generation %d lies there: %v", got, err)
		}
	})
}

func TestHighWaterMarkOutsideTheDirectoryCounts(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		mark := filepath.Join(t.TempDir(), "generations", "shop.edge")
		j.Publisher.MarkFile = mark
		end := travel(t, j.Syncer)
		j.offer(t, 8)
		pass(t, time.Second)
		end()
		if text, err := os.ReadFile(mark); err != nil || string(text) != "8\n" {
			t.Fatalf("the mark is %q, %v", text, err)
		}

		// The directory is lost, the proxy too, and the store is set back.
		must.OK(t, os.RemoveAll(j.follower.dir))
		must.OK(t, os.Mkdir(j.follower.dir, 0o755))
		again := &journey{&Syncer{Publisher: &Publisher{Database: database, Dir: j.follower.dir, MarkFile: mark, fetch: j.follower.fetch},
			Report: j.told.take, Log: j.Log}, j.follower, j.told, j.space}
		defer travel(t, again.Syncer)()
		again.offer(t, 4)
		synctest.Wait()
		if got, err := readWhole(j.follower.dir); err == nil {
			t.Fatalf("generation %d was published", got)
		}
		expectLast(t, again, "ahead:", func(r api.Report) bool { return r.OnDisk == 8 })
		again.offer(t, 9)
		pass(t, time.Second)
		expectLast(t, again, "beyond:", func(r api.Report) bool { return r.InForce == 9 })
	})
}

// A revocation must not wait for a file that tells of the past.
func TestDamagedHighWaterMarkHoldsUpNothing(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "half": "1x", "no number": "mark\n"} {
		t.Run(name, func(t *testing.T) {
			mark := filepath.Join(t.TempDir(), "mark")
			must.OK(t, os.WriteFile(mark, []byte(text), 0o600))
			c := &Publisher{Database: database, Dir: t.TempDir(), MarkFile: mark}
			if err := c.recall(); err == nil || !strings.Contains(err.Error(), mark) {
				t.Errorf("got %v", err)
			}
			publish(t, c, policytest.NewSpace(t).Policy(t, edition{Generation: 4}))
		})
	}
}

// A write of the mark is two syncs of the disk.
func TestHighWaterMarkIsWrittenOnceForAGeneration(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.Publisher.MarkFile = filepath.Join(t.TempDir(), "marks", "edge")
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		before, err := os.Stat(j.Publisher.MarkFile)
		must.OK(t, err)
		must.OK(t, os.WriteFile(filepath.Join(j.follower.dir, api.PolicyFile), []byte(policyformat.Header(database, 1)+"ip_rules: []\n"), 0o644))
		pass(t, 11*time.Second)
		if got, err := readWhole(j.follower.dir); got != 1 || err != nil {
			t.Errorf("the drift was not put right: generation %d, %v", got, err)
		}
		after, err := os.Stat(j.Publisher.MarkFile)
		must.OK(t, err)
		if !os.SameFile(before, after) {
			t.Error("the mark was written though only a drift was put right")
		}
		j.offer(t, 2)
		pass(t, time.Second)
		if text, err := os.ReadFile(j.Publisher.MarkFile); string(text) != "2\n" {
			t.Errorf("the mark is %q, %v", text, err)
		}
	})
}
