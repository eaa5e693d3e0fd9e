package main

import (
	"runtime"
	"testing"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/session"
)

// total is how many descriptors the shares can take, with what the process has open anyway.
func (s shares) total(listeners int) int {
	return ownDescriptors + listeners + 2*runtime.GOMAXPROCS(0) + 2*s.sessions + s.unfinished + s.cancels + s.ownCancels + s.admin
}

func TestSharesLeaveDescriptorsForTakingAway(t *testing.T) {
	for limit := uint64(48 + 2*runtime.GOMAXPROCS(0)); limit < 200_000; limit += 1 + limit/50 {
		for _, sessions := range []int{1, 10, 1000, 9000, 1_000_000} {
			s := share(limit, 2, sessions, 500)
			if left := int(limit) - s.total(2); left < 6 {
				t.Errorf("%d files, %d sessions: %+v leaves %d descriptors", limit, sessions, s, left)
			}
			if s.sessions < 1 || s.sessions > sessions || s.unfinished < 2 || s.unfinished > unfinished ||
				s.unfinishedPerAddress < 1 || 2*s.unfinishedPerAddress > max(s.unfinished, 2) || s.cancels < 2 || s.ownCancels < 2 {
				t.Errorf("%d files, %d sessions: %+v", limit, sessions, s)
			}
		}
	}
}

// The first line that a newcomer reads is no warning.
func TestDefaultsFitALimitOf20000(t *testing.T) {
	cfg, err := config.ParseProxy("proxy.yaml", []byte("listen: ['127.0.0.1:0']\nbackend: {address: 'unix:/run/postgresql/.s.PGSQL.5432'}\npolicy_dir: policy\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := shares{cfg.Limits.Sessions, unfinished, cfg.Limits.UnfinishedPerAddress, session.MaxCancels, session.MaxOwnCancels, admin.MaxConns}
	if got := share(20_000, 4, cfg.Limits.Sessions, cfg.Limits.UnfinishedPerAddress); got != want {
		t.Errorf("with 20,000 files the shares are %+v, want %+v", got, want)
	}
}

func TestConfigurationWithoutABoundKeepsNone(t *testing.T) {
	if s := share(64, 1, 9000, 0); s.unfinishedPerAddress != 0 {
		t.Errorf("unfinished_per_address: 0 became %d", s.unfinishedPerAddress)
	}
}
