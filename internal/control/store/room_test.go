package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/must"
)

func TestFullStoreSaysSoAndWritesAgainAfterCompactAndDisarm(t *testing.T) {
	s := open(t, Options{DataDir: directory(t), Log: zerolog.Nop(), quota: 8 << 20})
	value := []byte(strings.Repeat("v", 512<<10))
	var err error
	for range 64 {
		if _, err = s.Commit(within(t), new(Tx).Put("same key", value)); err != nil {
			break
		}
	}
	wants(t, err, ErrFull)
	says(t, err, "pgmtls store compact")
	says(t, s.Health(within(t)), "full")
	if _, err := s.Commit(within(t), new(Tx).Put("small", []byte("v"))); !errors.Is(err, ErrFull) {
		t.Errorf("a small write: %v", err)
	}
	must.OK(t, s.Compact(within(t)))
	must.OK(t, s.Disarm(within(t)))
	if err := s.Health(within(t)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	put(t, s, "small", "v")
}

func TestRoomIsKeptForWhatTakesAway(t *testing.T) {
	const mib = 1 << 20
	for name, test := range map[string]struct {
		stats Stats
		full  string // part of the error; empty: there is room
		short bool
	}{
		"a fresh store":                     {Stats{Free: 4096 * mib, Quota: 8192 * mib}, "", false},
		"a cluster, whose disk is unknown":  {Stats{Free: -1, InUse: mib, Quota: 2048 * mib}, "", false},
		"a cluster that tells nothing":      {Stats{Free: -1, InUse: mib}, "", false},
		"some disk left":                    {Stats{Free: 700 * mib, Quota: 8192 * mib}, "", true},
		"the last byte above the reserve":   {Stats{Free: 192 * mib, Quota: 8192 * mib}, "", true},
		"the first byte below the reserve":  {Stats{Free: 192*mib - 1, Quota: 8192 * mib}, "191 MiB left", true},
		"no disk left":                      {Stats{Free: 0, Quota: 8192 * mib}, "0 MiB left", true},
		"61 % of the quota":                 {Stats{Free: -1, InUse: 610 * mib, Quota: 1000 * mib}, "", true},
		"81 % of the quota":                 {Stats{Free: -1, InUse: 810 * mib, Quota: 1000 * mib}, "uses 810 of 1000 MiB", true},
		"a file that is large but not used": {Stats{Free: -1, Size: 990 * mib, InUse: 10 * mib, Quota: 1000 * mib}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.stats.room()
			if test.full == "" && err != nil || test.full != "" && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), test.full)) {
				t.Errorf("room: %v, want %q", err, test.full)
			}
			text, refuses := test.stats.Shortage()
			if refuses != (test.full != "") {
				t.Errorf("it refuses: %v; want what Room says, %q", refuses, test.full)
			}
			if got := text != ""; got != test.short {
				t.Errorf("short is %v", got)
			}
		})
	}
}

func TestFreeSpaceIsThatOfTheDataDirectory(t *testing.T) {
	stats, err := fresh(t).Stats(within(t))
	must.OK(t, err)
	if stats.Free <= 0 {
		t.Errorf("%d bytes are free", stats.Free)
	}
	if got := free("/nonexistent"); got != -1 {
		t.Errorf("of no directory: %d", got)
	}
}
