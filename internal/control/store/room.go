package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

const (
	// diskReserve is what must be free on the disk of the etcd inside this process before anything new is taken in. The log
	// grows by files of 64 MiB, and etcd keeps one ahead; below that a write ends the store.
	diskReserve = 192 << 20
	// diskWarning is from where on people are told. It is four times the reserve.
	diskWarning = 4 * diskReserve
	// quotaPercent of the quota may be in use before nothing new is taken in: the rest is for what takes away.
	quotaPercent = 80
	// maintenanceTimeout bounds compacting: a defragmentation writes everything in use once.
	maintenanceTimeout = 5 * time.Minute
)

// Room returns nil while the store takes in new things, and an error that wraps ErrFull and says what to do when space
// gets short: less than 192 MiB free on the disk of an embedded etcd, or more than 80 % of the quota in use. What takes
// something away must be tried all the same; the space that is left is for it.
func (s *Store) Room(ctx context.Context) error {
	stats, err := s.Stats(ctx)
	if err != nil {
		return err
	}
	return stats.room()
}

// FullText is what an error that wraps ErrFull says of the store, without what was being done.
func FullText(err error) string {
	text := err.Error()
	return text[strings.Index(text, ErrFull.Error()):]
}

func (s Stats) room() error {
	switch {
	case s.Free >= 0 && s.Free < diskReserve:
		return fmt.Errorf("%w: its disk has %d MiB left, and %d MiB are reserved for deleting and revoking; free some space there", ErrFull, s.Free>>20, diskReserve>>20)
	case s.Quota > 0 && s.InUse > s.Quota/100*quotaPercent:
		return fmt.Errorf("%w: it uses %d of %d MiB, and the rest is reserved for deleting and revoking; delete what is not needed, or run pgmtls store compact", ErrFull, s.InUse>>20, s.Quota>>20)
	}
	return nil
}

// Shortage returns what gets short of the store's space, some time before Room refuses: the rest of a sentence about the store.
// It is empty while there is enough. Refuses reports whether Room refuses already.
func (s Stats) Shortage() (text string, refuses bool) {
	var short []string
	if s.Free >= 0 && s.Free < diskWarning {
		short = append(short, fmt.Sprintf("its disk has %d MiB left; below %d MiB it takes in nothing new", s.Free>>20, diskReserve>>20))
	}
	if s.Quota > 0 && s.InUse > s.Quota/100*(quotaPercent-20) {
		short = append(short, fmt.Sprintf("it uses %d of %d MiB; beyond %d %% it takes in nothing new", s.InUse>>20, s.Quota>>20, quotaPercent))
	}
	return strings.Join(short, ", and "), s.room() != nil
}

// free is how many bytes the daemon may still write on the disk of a directory, or -1.
func free(dir string) int64 {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return -1
	}
	return int64(stat.Bavail) * int64(stat.Bsize)
}

// ErrNotEmbedded: maintenance of a cluster is its operators'.
var ErrNotEmbedded = errors.New("the store is an external cluster; use etcdctl compact, defrag and alarm disarm there")

// Compact forgets the history of all keys and gives unused space back to the disk. Requests wait meanwhile, for the time
// that it takes to write what is in use. It is for the etcd inside this process only. It works while the store is full.
func (s *Store) Compact(ctx context.Context) error {
	return s.maintain(ctx, "compact store", func(ctx context.Context) error {
		now, err := s.client.Get(ctx, "compact", clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		if _, err := s.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil && !errors.Is(explain(err), ErrCompacted) {
			return err
		}
		return s.embedded.server.Server.Backend().Defrag()
	})
}

// Disarm lets the store take writes again after it had reached its quota. The alarm comes back when there is no space.
// It is for the etcd inside this process only.
func (s *Store) Disarm(ctx context.Context) error {
	return s.maintain(ctx, "disarm the alarm of store", func(ctx context.Context) error {
		alarms, err := s.client.AlarmList(ctx)
		if err != nil {
			return err
		}
		for _, alarm := range alarms.Alarms {
			if alarm.Alarm != etcdserverpb.AlarmType_NOSPACE {
				continue
			}
			if _, err := s.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) maintain(ctx context.Context, what string, work func(context.Context) error) error {
	if s.embedded == nil {
		return fmt.Errorf("%s: %w", what, ErrNotEmbedded)
	}
	leave, err := s.enter()
	if err != nil {
		return s.wrap(err, "%s", what)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, maintenanceTimeout)
	defer cancel()
	if err := work(ctx); err != nil {
		return s.wrap(err, "%s", what)
	}
	return nil
}
