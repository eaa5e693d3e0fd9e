package policysync

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/testkit/must"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/policyformat/policytest"
)

func TestAnOfferIsPublishedAtOnceAlsoWhileTheProxyHangs(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.hangs = true })
		defer travel(t, j.Syncer)()
		pass(t, 3*time.Second)
		for generation := int64(1); generation <= 3; generation++ {
			j.offer(t, generation)
			synctest.Wait() // no time passes
			if got, err := readWhole(j.follower.dir); got != generation || err != nil {
				t.Errorf("generation %d lies there, want %d: %v", got, generation, err)
			}
		}
	})
}

func TestAppliedAndInForceAreReportedWhenTheyAre(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.holds = true })
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, 50*time.Millisecond)
		expectLast(t, j, "applied:", func(r api.Report) bool { return r.Applied == 1 && r.InForce == 0 })
		pass(t, time.Minute)
		j.follower.set(func(f *follower) { f.holds = false })
		pass(t, longPause+time.Millisecond)
		expectLast(t, j, "in force:", func(r api.Report) bool { return r.Applied == 1 && r.InForce == 1 })
	})
}

func TestOffersThatKeepComingDoNotPutTheAnswerOff(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		for generation := int64(1); generation <= 40; generation++ {
			j.offer(t, generation)
			pass(t, 20*time.Millisecond)
			if applied := j.told.last().Applied; applied < generation-3 {
				t.Fatalf("generation %d is offered, and %d was reported", generation, applied)
			}
		}
	})
}

func TestAFailureIsReportedOnceAndTriedAgain(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		var log bytes.Buffer
		j.Log = zerolog.New(&log).Level(zerolog.InfoLevel)
		must.OK(t, os.Chmod(j.follower.dir, 0o775))
		stop := travel(t, j.Syncer)
		j.offer(t, 1)
		synctest.Wait()
		expectLast(t, j, "at once", func(r api.Report) bool { return strings.Contains(r.Error, "chmod 0750") })
		pass(t, time.Hour)
		if n := len(j.told.all()); n > 2 {
			t.Errorf("%d reports of one failure: %+v", n, j.told.all())
		}
		must.OK(t, os.Chmod(j.follower.dir, 0o755))
		pass(t, lastPublishGap+time.Second)
		expectLast(t, j, "put right", func(r api.Report) bool { return r.Error == "" && r.InForce == 1 })
		stop()
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines are logged:\n%s", lines, &log)
		}
	})
}

func TestADirectoryThatIsAheadTellsItsGeneration(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		publish(t, &Publisher{Database: database, Dir: j.follower.dir}, j.space.Policy(t, edition{Generation: 9}))
		defer travel(t, j.Syncer)()
		j.offer(t, 4)
		synctest.Wait()
		expectLast(t, j, "ahead:", func(r api.Report) bool { return r.OnDisk == 9 && r.Applied == 9 && r.Error == "" })
		j.offer(t, 10)
		pass(t, time.Second)
		expectLast(t, j, "beyond:", func(r api.Report) bool { return r.OnDisk == 10 && r.InForce == 10 })
	})
}

func TestWhoOffersAnOlderPolicyIsToldWhatTheProxyHas(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 5)
		pass(t, time.Second)
		before := len(j.told.all())
		j.offer(t, 4)
		synctest.Wait()
		if got, err := readWhole(j.follower.dir); got != 5 || err != nil {
			t.Errorf("generation %d lies there: %v", got, err)
		}
		if n := len(j.told.all()); n != before+1 {
			t.Errorf("%d reports of it", n-before)
		}
		j.Repeat()
		synctest.Wait()
		if n := len(j.told.all()); n != before+2 {
			t.Errorf("%d reports of what is to be repeated", n-before-1)
		}
	})
}

func TestThePolicyOfAnotherDatabaseIsNotOnItsWay(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		other := j.space.Policy(t, edition{Generation: 1 << 40})
		other.Database = "another"
		j.Offer(other)
		j.offer(t, 1)
		pass(t, time.Second)
		expectLast(t, j, "behind the other's", func(r api.Report) bool { return r.InForce == 1 && r.Error == "" })
	})
}

func TestADriftIsReportedAndPutRight(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		j.told.mu.Lock()
		j.told.refuse = errors.New("away")
		j.told.mu.Unlock()
		must.OK(t, os.WriteFile(filepath.Join(j.follower.dir, api.PolicyFile), []byte(policyformat.Header(database, 1)+"ip_rules: []\n"), 0o644))
		pass(t, 11*time.Second)
		if got, err := readWhole(j.follower.dir); got != 1 || err != nil {
			t.Errorf("it is not put right: generation %d, %v", got, err)
		}
		j.told.mu.Lock()
		j.told.refuse = nil
		j.told.mu.Unlock()
		pass(t, lastPostGap)
		all := j.told.all()
		if len(all) < 2 || !strings.Contains(all[len(all)-2].Drift, "differs from what was published") || all[len(all)-1].Drift != "" || all[len(all)-1].InForce != 1 {
			t.Errorf("the reports are %+v", all)
		}
	})
}

func TestSomebodyWhoKeepsEditingIsNotRaced(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		j.follower.set(func(f *follower) { f.edits = true })
		pass(t, 10*time.Minute)
		if n := len(j.told.all()); n < 10 || n > 200 {
			t.Errorf("%d reports in ten minutes", n)
		}
	})
}

func TestAProxyThatComesBackIsNoticedSoon(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		j.follower.set(func(f *follower) { f.down = true })
		pass(t, 12*time.Second)
		expectLast(t, j, "down:", func(r api.Report) bool { return r.Error == "connection refused" && r.OnDisk == 1 })
		j.offer(t, 2)
		synctest.Wait()
		if got, err := readWhole(j.follower.dir); got != 2 || err != nil {
			t.Errorf("the delivery does not go on: generation %d, %v", got, err)
		}
		pass(t, 10*time.Second)
		j.follower.set(func(f *follower) { f.down = false })
		pass(t, 1500*time.Millisecond)
		expectLast(t, j, "back:", func(r api.Report) bool { return r.Error == "" && r.InForce == 2 })
	})
}

func TestAProxyThatComesBackIsNoticedSoonAlsoWithoutAnOffer(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		j.follower.set(func(f *follower) { f.down = true })
		pass(t, 30*time.Second)
		j.follower.set(func(f *follower) { f.down, f.blank = false, true })
		pass(t, 1500*time.Millisecond)
		expectLast(t, j, "back:", func(r api.Report) bool { return r.Error == "" && r.Applied == 0 })
		j.follower.set(func(f *follower) { f.blank = false })
		pass(t, 300*time.Millisecond) // it is waited for again
		expectLast(t, j, "in force again:", func(r api.Report) bool { return r.InForce == 1 })
	})
}

func TestARefusalOfWhatWasReplacedIsNotReported(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.stale, f.holds = true, true })
		j.offer(t, 1)
		defer travel(t, j.Syncer)()
		pass(t, 20*time.Second)
		for _, r := range j.told.all() {
			if r.Error != "" {
				t.Errorf("reported: %+v", r)
			}
		}
	})
}

func TestAPolicyStandsThoughWhatItReplacedCanNotBeRemoved(t *testing.T) {
	c := &Publisher{Database: database, Dir: t.TempDir()}
	s := policytest.NewSpace(t)
	publish(t, c, s.Policy(t, edition{Generation: 2}))
	if !c.stands(2) || c.stands(1) || c.stands(3) {
		t.Errorf("of generations 1, 2, 3 stand %t, %t, %t", c.stands(1), c.stands(2), c.stands(3))
	}
	must.OK(t, os.Chmod(filepath.Join(c.Dir, api.PolicyFile), 0o600))
	if c.stands(2) {
		t.Error("what was edited stands")
	}
}

func TestTheSameFailureHasTheSameText(t *testing.T) {
	text := func(name string) string {
		return failureText(fmt.Errorf("write server.crt: openat .pgmtls-%s.tmp: no space left on device", name))
	}
	if got := failureText(errors.Join(errors.New("no space left"), errors.New("nor right"))); got != "no space left; nor right" {
		t.Errorf("%q", got) // in one line, as everything that is said of a proxy
	}
	if a, b := text("0123456789abcdef"), text("fedcba9876543210"); a != b || !strings.Contains(a, "no space left") {
		t.Errorf("%q and %q", a, b)
	}
}

func TestAnIdleRouteCostsNextToNothing(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.use = []int{1, 0} })
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Hour)
		if n := len(j.told.all()); n < 10 || n > 16 {
			t.Errorf("%d reports in an hour, of sessions that stay", n)
		}
		if j.follower.asked > 420 {
			t.Errorf("the proxy was asked %d times in an hour", j.follower.asked)
		}
		before := len(j.told.all())
		j.follower.set(func(f *follower) { f.use = []int{0, 1} })
		pass(t, useEvery+11*time.Second)
		if n := len(j.told.all()); n == before || j.told.last().Certificates["02"].Sessions != 1 {
			t.Errorf("who has come into use is not reported: %+v", j.told.last())
		}
	})
}

func TestUseThatComesAndGoesIsReportedOnceAMinute(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		before := len(j.told.all())
		for i := range 60 {
			j.follower.set(func(f *follower) { f.use = []int{i % 2} })
			pass(t, 10*time.Second)
		}
		if n := len(j.told.all()) - before; n < 5 || n > 10 {
			t.Errorf("%d reports in ten minutes", n)
		}
	})
}

func TestTheLatestReportIsToldUntilItIsTaken(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.told.refuse = errors.New("away")
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Minute)
		j.offer(t, 2)
		pass(t, time.Minute)
		j.told.mu.Lock()
		if j.told.tries < 20 || j.told.tries > 60 {
			t.Errorf("%d tries in two minutes", j.told.tries)
		}
		j.told.refuse = nil
		j.told.mu.Unlock()
		pass(t, lastPostGap)
		if all := j.told.all(); len(all) != 1 || all[0].InForce != 2 {
			t.Errorf("the reports are %+v", all)
		}
	})
}
