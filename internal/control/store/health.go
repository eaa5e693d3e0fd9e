package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// embeddedName stands where a cluster has endpoints.
const embeddedName = "embedded"

// Health returns nil when the store can be read and written: enough members answer, none is full, and none is corrupt.
func (s *Store) Health(ctx context.Context) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return s.wrap(err, "check store")
	}
	defer end()
	// A read of the last commit needs a leader and most members, as a write does.
	if _, err := s.client.Get(ctx, "health", clientv3.WithCountOnly()); err != nil {
		return s.wrap(err, "check store")
	}
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return s.wrap(err, "check alarms of store")
	}
	var raised []error
	for _, alarm := range alarms.Alarms {
		switch alarm.Alarm {
		case etcdserverpb.AlarmType_NOSPACE:
			raised = append(raised, fmt.Errorf("%w: member %x has reached its quota; run pgmtls store compact, then pgmtls store disarm (for an external cluster: etcdctl)", ErrFull, alarm.MemberID))
		case etcdserverpb.AlarmType_CORRUPT:
			raised = append(raised, fmt.Errorf("member %x of etcd has different data from the others; replace it", alarm.MemberID))
		}
	}
	return errors.Join(raised...)
}

// Stats are for people and metrics.
type Stats struct {
	Revision int64  // of the last commit that the member has
	Size     int64  // bytes of the database on disk
	InUse    int64  // bytes of them that hold something
	Quota    int64  // bytes from which on nothing can be written; 0: not told
	Free     int64  // bytes free on the disk of the embedded etcd; -1: not known, as of a cluster
	Version  string // of etcd
	Member   string // who was asked: an endpoint, or embedded
}

// Stats asks every member, and takes the first answer.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return Stats{}, s.wrap(err, "get stats of store")
	}
	defer end()
	if s.embedded != nil {
		stats, err := s.statsOf(ctx, embeddedName)
		if err != nil {
			return Stats{}, s.wrap(err, "get stats of store")
		}
		return stats, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var asked sync.WaitGroup
	defer asked.Wait()
	defer cancel()
	type answer struct {
		stats Stats
		err   error
	}
	members := s.client.Endpoints()
	answers := make(chan answer, len(members))
	for _, member := range members {
		asked.Go(func() {
			stats, err := s.statsOf(ctx, member)
			answers <- answer{stats, err}
		})
	}
	var failed []error
	for range members {
		answer := <-answers
		if answer.err == nil {
			return answer.stats, nil
		}
		failed = append(failed, answer.err)
	}
	return Stats{}, s.wrap(errors.Join(failed...), "get stats of store")
}

func (s *Store) statsOf(ctx context.Context, member string) (Stats, error) {
	answer, err := s.client.Status(ctx, member)
	if err != nil {
		return Stats{}, fmt.Errorf("%s: %w", member, err)
	}
	left := int64(-1)
	if s.embedded != nil {
		left = free(s.embedded.lock.Name())
	}
	return Stats{
		Free:     left,
		Revision: answer.Header.Revision,
		Size:     answer.DbSize,
		InUse:    answer.DbSizeInUse,
		Quota:    answer.DbSizeQuota,
		Version:  answer.Version,
		Member:   member,
	}, nil
}
