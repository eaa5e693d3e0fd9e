package outbox

import (
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/store"
)

func TestShortageOfSpaceIsToldBeforeItIsTooLateAndOnceADay(t *testing.T) {
	const mib = 1 << 20
	w := newWorld(t)
	enough, short, full := store.Stats{Free: 2000 * mib, Quota: 8192 * mib}, store.Stats{Free: 500 * mib, Quota: 8192 * mib}, store.Stats{Free: 100 * mib, Quota: 8192 * mib}
	told := 0
	for _, step := range []struct {
		name  string
		after time.Duration
		stats store.Stats
		told  string // empty: nobody is
	}{
		{"enough", 0, enough, ""},
		{"short", time.Minute, short, "its disk has 500 MiB left"},
		{"still short", time.Hour, short, ""},
		{"for a moment enough", time.Minute, enough, ""},
		{"short again", time.Minute, short, ""},
		{"full", time.Minute, full, "its disk has 100 MiB left"},
		{"short after that", time.Hour, short, ""},
		{"full again", time.Hour, full, ""},
		{"for a day", 23 * time.Hour, full, "its disk has 100 MiB left"},
		{"enough for a day", 25 * time.Hour, enough, ""},
		{"full at once", time.Minute, full, "its disk has 100 MiB left"},
		{"a clock that was set back", -30 * 24 * time.Hour, full, "its disk has 100 MiB left"},
	} {
		w.at = w.at.Add(step.after)
		if err := w.notifyShortage(t.Context(), step.stats); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var notices []Notice
		for _, n := range w.all() {
			if n.Kind == StoreSpace {
				notices = append(notices, n)
			}
		}
		if step.told == "" && len(notices) != told {
			t.Errorf("%s: %d notices, want %d", step.name, len(notices), told)
		}
		if step.told != "" {
			told++
			if len(notices) != told || !strings.Contains(notices[len(notices)-1].Shortage, step.told) {
				t.Errorf("%s: %+v", step.name, notices)
			}
		}
		told = len(notices)
	}
}

// all is every notice in the outbox, in the order in which they were added.
func (w *world) all() []Notice {
	w.t.Helper()
	at := w.at
	w.at = at.Add(365 * 24 * time.Hour)
	defer func() { w.at = at }()
	return w.pending()
}

func TestSpaceOfTheStoreIsWatched(t *testing.T) {
	w := newWorld(t)
	stats, err := w.docs.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text, refuses := stats.Shortage(); text != "" || refuses {
		t.Skip("this disk is almost full:", text)
	}
	if err := w.notifyShortage(t.Context(), stats); err != nil || len(w.all()) != 0 {
		t.Errorf("there is space, and told is %+v, %v", w.all(), err)
	}
}
