package policysync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/testkit/must"

	"github.com/rs/zerolog"
)

// follower answers as a proxy that takes up at once what lies in a directory.
type follower struct {
	dir string

	mu    sync.Mutex
	down  bool
	hangs bool // answers never
	holds bool // a session keeps what is new from being in force
	asked int
	blank bool  // it has not looked at its directory yet
	stale bool  // it refused what was there before the last change
	edits bool  // somebody edits the directory whenever it answers
	use   []int // sessions per certificate

	reads   string // what it says that its policy_dir is
	refuses string // why it refuses what lies in its directory
}

func (f *follower) set(change func(f *follower)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *follower) fetch(ctx context.Context) (*status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.hangs {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, context.Cause(ctx)
	}
	if f.down {
		return nil, errors.New("connection refused")
	}
	if f.edits {
		if err := os.Chmod(filepath.Join(f.dir, api.PolicyFile), 0o604); err != nil {
			return nil, err
		}
	}
	s := &status{Info: buildinfo.Info{Version: "test"}, PolicyDir: f.reads}
	s.Reload.CheckedAt = time.Now()
	for i, sessions := range f.use {
		now := time.Now()
		s.ClientCertificates = append(s.ClientCertificates, adminapi.ClientCertificate{Serial: fmt.Sprintf("%02x", i+1),
			Usage: adminapi.Usage{LastSeen: &now, Sessions: sessions}})
	}
	s.Reload.Error = f.refuses
	if f.stale {
		s.Reload.CheckedAt, s.Reload.Error = time.Time{}, "refused before"
	}
	d, err := openDirectory(f.dir)
	if err != nil || f.blank || f.refuses != "" {
		return s, nil
	}
	defer d.close()
	p, err := d.policy(database)
	if err != nil {
		return s, nil
	}
	s.Policy = &adminapi.Policy{Generation: strconv.FormatInt(p.Generation, 10), Digest: policyformat.Digest(p), LoadedAt: time.Unix(p.Generation, 0)}
	receipt := adminapi.Receipt{Digest: policyformat.Digest(p), AppliedAt: time.Unix(p.Generation, 0)}
	if !f.holds {
		at := time.Unix(p.Generation, 1)
		receipt.InForceAt = &at
	}
	s.Receipts = append(s.Receipts, receipt)
	return s, nil
}

// journey is a route to a follower.
type journey struct {
	*Syncer
	follower *follower
	told     *told
	space    *policytest.Space
}

func newJourney(t *testing.T) *journey {
	f := &follower{dir: filepath.Join(t.TempDir(), "policy")}
	must.OK(t, os.Mkdir(f.dir, 0o755))
	l := &told{}
	r := &Syncer{Publisher: &Publisher{Database: database, Dir: f.dir, fetch: f.fetch}, Report: l.take, Log: zerolog.Nop()}
	return &journey{r, f, l, policytest.NewSpace(t)}
}

func (j *journey) offer(t *testing.T, generation int64) {
	j.Offer(j.space.Policy(t, edition{Generation: generation}))
}

// pass lets time pass, and all that happens in it.
func pass(t *testing.T, d time.Duration) {
	must.OK(t, retry.Sleep(t.Context(), d))
	synctest.Wait()
}

func expectLast(t *testing.T, j *journey, when string, fits func(api.Report) bool) {
	t.Helper()
	if last := j.told.last(); !fits(last) {
		t.Errorf("%s the last report is %+v", when, last)
	}
}

// inTime tests a journey with a clock of its own.
func inTime(t *testing.T, test func(t *testing.T, j *journey)) {
	synctest.Test(t, func(t *testing.T) { test(t, newJourney(t)) })
}
