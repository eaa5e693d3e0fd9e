package outbox

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
)

const (
	keyShortage   = "notices-told/space" // shortage
	spaceEvery    = time.Minute
	shortageAgain = 24 * time.Hour // for as long as space stays short
)

// shortage is when people were last told that the store's space gets short. Its zero value: not since there was enough.
type shortage struct {
	At      time.Time `json:"at"`
	Refuses bool      `json:"refuses"` // it took in nothing new any more
}

// WatchSpace has people told when the store's space gets short, again when it takes in nothing new, and once a day while
// that lasts. It runs until ctx ends. Problems are logged, and tried again.
func (o *Outbox) WatchSpace(ctx context.Context) error {
	for {
		stats, err := o.docs.Stats(ctx)
		if err == nil {
			err = o.notifyShortage(ctx, stats)
		}
		if err != nil && ctx.Err() == nil {
			o.log.Warn().Err(err).Msg("can't tell whether the store has space left")
		}
		if retry.Sleep(ctx, spaceEvery) != nil {
			return ctx.Err()
		}
	}
}

func (o *Outbox) notifyShortage(ctx context.Context, stats store.Stats) error {
	told, revision, err := docstore.Get[shortage](ctx, o.docs.Store, keyShortage)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	text, refuses := stats.Shortage()
	now, tx := o.now(), new(store.Tx).If(keyShortage, revision)
	switch {
	case text == "" && revision == 0:
		return nil
	case text == "":
		// Who is just above the bound for a moment is not told twice a day.
		if now.Sub(told.At).Abs() < shortageAgain {
			return nil
		}
		tx.Delete(keyShortage)
	case now.Sub(told.At).Abs() < shortageAgain && (told.Refuses || !refuses):
		return nil
	default:
		err := errors.Join(docstore.Put(tx, keyShortage, shortage{now, refuses}),
			o.Add(tx, Notice{Kind: StoreSpace, At: now, Shortage: text}))
		if err != nil {
			return err
		}
	}
	_, err = o.docs.Commit(ctx, tx)
	return err
}
