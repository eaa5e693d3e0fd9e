package policysync

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// A report that waited for the control plane says what the proxy's clock shows when it is sent.
func TestTimeOfTheProxyIsThatOfTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []api.Report
		r := &Syncer{Report: func(_ context.Context, report api.Report) error {
			sent = append(sent, report)
			return nil
		}}
		s, err := parseStatus([]byte(`{"version": "v1", "time": "2026-11-27T12:00:00Z"}`))
		if err != nil {
			t.Fatal(err)
		}
		report := s.report(func(string) int64 { return 0 })
		<-time.After(7 * time.Minute)
		for _, r2 := range []api.Report{report, {Error: "the proxy does not answer"}} {
			if err := r.sendReport(t.Context(), r2); err != nil {
				t.Fatal(err)
			}
		}
		if want := time.Date(2026, 11, 27, 12, 7, 0, 0, time.UTC); !sent[0].Time.Equal(want) || !sent[0].ReadAt.IsZero() {
			t.Errorf("sent %s, read at %s, want %s", sent[0].Time, sent[0].ReadAt, want)
		}
		if !sent[1].Time.IsZero() {
			t.Errorf("a proxy that does not answer is said to have the time %s", sent[1].Time)
		}
	})
}

func TestClockThatWasSetIsNews(t *testing.T) {
	read := time.Now()
	shown := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	last := api.Report{Time: shown, ReadAt: read}
	for name, row := range map[string]struct {
		now  api.Report
		same bool
	}{
		"it goes on":               {api.Report{Time: shown.Add(time.Hour), ReadAt: read.Add(time.Hour)}, true},
		"by half a minute":         {api.Report{Time: shown.Add(time.Hour + 30*time.Second), ReadAt: read.Add(time.Hour)}, true},
		"it was set ahead":         {api.Report{Time: shown.Add(time.Hour + 31*time.Second), ReadAt: read.Add(time.Hour)}, false},
		"it was set back":          {api.Report{Time: shown, ReadAt: read.Add(31 * time.Second)}, false},
		"it is not known any more": {api.Report{}, true},
	} {
		if got := sameButUse(row.now, last); got != row.same {
			t.Errorf("%s: the same is %v", name, got)
		}
	}
	if sameButUse(last, api.Report{}) {
		t.Error("that it is known now is no news")
	}
}
