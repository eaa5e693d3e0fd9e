package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// markdown is the whole report.
func (r *Results) markdown() string {
	var text strings.Builder
	r.introduce(&text)
	r.latencies(&text)
	r.needs(&text)
	r.starts(&text)
	text.WriteString(r.Goals())
	r.method(&text)
	if len(r.Notes) > 0 {
		text.WriteString("\n## What went wrong\n\n")
		for _, note := range r.Notes {
			fmt.Fprintf(&text, "- %s\n", note)
		}
	}
	return text.String()
}

func (r *Results) introduce(text *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(text, "# The control plane, measured\n\nWritten by `make bench-control` on %s; not to be edited. `%s` beside this file has every sample.\n\n", r.Date.UTC().Format(time.DateOnly), JSON)
	if r.Settings.Quick {
		text.WriteString("This was a quick run: it shows that the bench works, its figures are rough.\n\n")
	}
	fmt.Fprintf(text, "%s, %d cores, %.0f GiB, Linux %s, %s, store on %s, pgmtls %s. Load average before the run: %s. "+
		"Daemon, proxies and clients share the cores.\n", m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.Go, m.FileSystem, r.Version, m.Load)
}

func (r *Results) latencies(text *strings.Builder) {
	text.WriteString("\n## From the request until it is in force\n\n| | changes | p50 ms | p90 ms | p99 ms | max ms |\n|---|---|---|---|---|---|\n")
	row := func(name string, l Latencies) {
		fmt.Fprintf(text, "| %s | %d | %.1f | %.1f | %.1f | %.1f |\n", name, len(l), l.Quantile(.5), l.Quantile(.9), l.Quantile(.99), l.Quantile(1))
	}
	row("one proxy beside the daemon: the rule is seen as Authorized", r.Beside.Authorized)
	row("… the proxy follows it", r.Beside.Applied)
	row("… a deleted rule is gone", r.Beside.Gone)
	row("one proxy with an agent: the rule is seen as Authorized", r.Agent.Authorized)
	row("… the proxy follows it", r.Agent.Applied)
	row("… a deleted rule is gone", r.Agent.Gone)
	many := fmt.Sprintf("%d databases, %d changes a second: Authorized", r.Settings.Databases, r.Settings.Rate)
	row(many, r.Many.all())
	row("… those with a real proxy", r.Many.Real)
	fmt.Fprintf(text, "\nOf the changes with %d databases %d failed. The last was seen as Authorized %.1f s after the first request.\n",
		r.Settings.Databases, r.Many.Errors, r.Many.Took)
}

// all are the latencies of every change.
func (m Many) all() Latencies { return slices.Concat(m.Real, m.StandIns) }

func (r *Results) needs(text *strings.Builder) {
	s, m := r.Settings, r.Many
	fmt.Fprintf(text, "\n## What the daemon needs for %d databases\n\n| | at rest, %s | %d changes a second, %s |\n|---|---|---|\n", s.Databases, s.Rest, s.Rate, s.Window)
	fmt.Fprintf(text, "| CPU seconds | %.2f | %.2f |\n", r.Rest.CPU, m.CPU)
	fmt.Fprintf(text, "| of one core | %.1f %% | %.1f %% |\n", 100*r.Rest.CPU/s.Rest.Seconds(), 100*m.CPU/max(m.Took, .001))
	fmt.Fprintf(text, "| resident MiB | %.0f | %.0f |\n| at most so far | %.0f | %.0f |\n", r.Rest.Resident, m.Resident, r.Rest.Peak, m.Peak)
	fmt.Fprintf(text, "| store on disk, MiB, before → after | | %.1f → %.1f |\n| of it the database's file | | %.1f → %.1f |\n",
		m.StoreBefore.All, m.StoreAfter.All, m.StoreBefore.Database, m.StoreAfter.Database)
	fmt.Fprintf(text, "\nMeanwhile the proxies, real ones and stand-ins, used %.2f CPU seconds, the clients %.2f. What else ran on the machine used %.2f, of %.0f that its %d cores had.\n",
		m.ProxiesCPU, m.ClientsCPU, m.OthersCPU, m.Took*float64(r.Machine.Cores), r.Machine.Cores)
}

func (r *Results) starts(text *strings.Builder) {
	fmt.Fprintf(text, "\n## Starts with %d databases\n\n| | API answers, s | every proxy served, s | CPU s | resident MiB | at most |\n|---|---|---|---|---|---|\n", r.Settings.Databases)
	row := func(name string, s Start) {
		fmt.Fprintf(text, "| %s | %.2f | %.2f | %.2f | %.0f | %.0f |\n", name, s.Answers, s.All, s.CPU, s.Resident, s.Peak)
	}
	row("the daemon alone, the proxies go on", r.Restart)
	row("everything, with empty policy directories", r.Cold)
	fmt.Fprintf(text, "\nRegistering them, with mutual TLS, took %.1f s; that was operational everywhere after %.1f s. The daemon stopped within %.2f s.\n",
		r.Registered, r.Operational, r.Stop)
}

// bound is what a change may take in 99 of 100 cases, in milliseconds.
const bound = 1000

// Goals is the table of what was reached.
func (r *Results) Goals() string {
	var text strings.Builder
	text.WriteString("\n## Goals\n\n| goal | wanted | measured | reached |\n|---|---|---|---|\n")
	for _, g := range []struct {
		text     string
		measured Latencies
	}{
		{"a change, one proxy beside the daemon, p99", r.Beside.Authorized},
		{fmt.Sprintf("%d changes a second, %d databases, p99", r.Settings.Rate, r.Settings.Databases), r.Many.all()},
	} {
		p99 := g.measured.Quantile(.99)
		verdict := map[bool]string{true: "yes", false: "**no**"}[p99 < bound]
		if len(g.measured) == 0 {
			verdict = "not measured"
		}
		fmt.Fprintf(&text, "| %s | < %d ms | %.1f ms | %s |\n", g.text, bound, p99, verdict)
	}
	return text.String()
}

func (r *Results) method(text *strings.Builder) {
	s := r.Settings
	fmt.Fprintf(text, `
## Method

- The programs are the real ones: pgmtls serve with nothing but a data directory (its own etcd, every commit on disk before
  it is answered), pgmtls agent, pgmtls-proxy. All of it is on loopback; the API speaks TLS.
- A change is POST ip-rules. Its time begins when the request is sent and ends when a GET of the rule shows Authorized,
  asked every %s when there is nothing else to do, every %s beside others; so much of each figure may be waiting for the
  next question. When the proxy followed it is the applied_at of its own receipt. A proxy waits %s after a change of its
  directory, in case more follow.
- One after the other: %d rules, each deleted before the next is made.
- With %d databases: %d have a real proxy. For the others one process stands in, with the proxy's own packages for reading,
  checking and building a policy, for receipts and for the admin address, but without clients, and with one inotify watch for
  all. Each is acknowledged for itself, by the same code.
- %d changes a second is a plan that waits for nobody: time counts from the planned moment, also when the request is late.
  Every fifth change is of a database with a real proxy, the rest of the others in random order.
- The clients take turns with %d tokens, since the daemon allows each token 50 requests a second.
- The daemon alone: the time until it has asked every stand-in how it is. Everything: proxies and stand-ins run already, with
  empty directories; the time until the control plane has each one's receipt of its policy.
- Quantiles are exact, by rank. CPU is user and system time. Resident is VmRSS, at most is VmHWM.
`, s.Poll, s.PollMany, quiet, s.Changes, s.Databases, s.Proxies, s.Rate, s.Tokens)
}

// quiet is how long a proxy waits in case more changes follow.
const quiet = 50 * time.Millisecond
