package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// As when a balancer goes away, and with it every stream of events and every agent. All watches share a stream to etcd, and
// those that stay must go on.
func TestManyWatchesThatEndAtOnceHoldUpNoOther(t *testing.T) {
	s := fresh(t)
	begin := put(t, s, "other", "")
	stays, leave := context.WithCancel(within(t))
	var watching sync.WaitGroup
	seen := make(chan string, 1)
	watching.Go(func() {
		for events := range s.Watch(stays, "kept/", begin) {
			for _, event := range events {
				seen <- event.Key
			}
		}
	})
	defer func() { leave(); watching.Wait() }()
	for round := range 5 {
		ctx, end := context.WithCancel(within(t))
		var many sync.WaitGroup
		begun := make(chan struct{}, 200)
		for range cap(begun) {
			many.Go(func() {
				first := true
				for range s.Watch(ctx, "many/", begin) {
					if first {
						begun <- struct{}{}
					}
					first = false
				}
			})
		}
		commit(t, s, new(Tx).Put("many/key", nil))
		for range cap(begun) {
			<-begun
		}
		end()
		for i := range 20 { // each is an event for all that are left
			commit(t, s, new(Tx).Put(fmt.Sprintf("many/%d", i), nil))
		}
		many.Wait()
		key := fmt.Sprintf("kept/%d", round)
		commit(t, s, new(Tx).Put(key, nil))
		if got := <-seen; got != key {
			t.Fatalf("the watch that stays has seen %s, want %s", got, key)
		}
	}
}
