package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"pgmtls-proxy/bench/internal/stats"
)

// markdown is the whole report.
func (r *Results) markdown() string {
	var text strings.Builder
	r.introduce(&text)
	for _, s := range sections {
		r.table(&text, s)
	}
	r.growth(&text)
	text.WriteString(r.Goals())
	if len(r.Notes) > 0 {
		text.WriteString("\n## Left out\n\n")
		for _, note := range r.Notes {
			fmt.Fprintf(&text, "- %s\n", note)
		}
	}
	return text.String()
}

func (r *Results) introduce(text *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(text, "# Measured\n\nWritten by `make bench` on %s; not to be edited. `results.json` beside this file has every sample.\n\n", r.Date.UTC().Format(time.DateOnly))
	if r.Settings.Quick {
		text.WriteString("This was a quick run: it shows that the bench works, its figures are rough.\n\n")
	}
	fmt.Fprintf(text, "%s, %d cores, %.0f GiB, Linux %s, %s, PostgreSQL %s, pgbench with libpq %s. "+
		"Client, proxy and database share the cores. TLS 1.3, client certificate required, ECDSA P-256, a database on a unix socket, every proxy else at its defaults. "+
		"Rounds: %d, each figure %s long in each; in a round all proxies take turns. Figures are medians; ratios are medians of per-round ratios, with the least and the greatest of them in parentheses. "+
		"CPU is user and system time of the proxy's processes. Differences under 10 %% mean nothing.\n\n",
		m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.Go, m.PostgreSQL, m.Libpq, r.Settings.Rounds, r.Settings.Window)
	text.WriteString("| program | version | TLS |\n|---|---|---|\n")
	for _, p := range r.Programs {
		fmt.Fprintf(text, "| %s | %s | %s |\n", p.Name, p.Version, p.TLS)
	}
}

// table is one section. Who was not measured has no row.
func (r *Results) table(text *strings.Builder, s section) {
	var rows strings.Builder
	for _, scenario := range s.scenarios {
		for _, size := range r.sizes(scenario) {
			for _, proxy := range r.proxies(scenario) {
				if cells := r.row(s, scenario, size, proxy); cells != nil {
					fmt.Fprintf(&rows, "| %s |\n", strings.Join(cells, " | "))
				}
			}
		}
	}
	if rows.Len() == 0 {
		return
	}
	fmt.Fprintf(text, "\n## %s\n\n%s", s.title, s.text)
	if s.reference != "" {
		fmt.Fprintf(text, " Behind ×: the ratio to %s.", s.reference)
	}
	headings := s.headings()
	fmt.Fprintf(text, "\n\n| %s |\n|%s\n%s", strings.Join(headings, " | "), strings.Repeat("---|", len(headings)), rows.String())
}

func (s section) headings() []string {
	var headings []string
	if s.scenario != "" {
		headings = append(headings, s.scenario)
	}
	if s.size != "" {
		headings = append(headings, s.size)
	}
	headings = append(headings, "proxy")
	for _, c := range s.columns {
		headings = append(headings, c.heading)
		if c.ratio && s.reference != "" {
			headings = append(headings, "×")
		}
	}
	return headings
}

// row is one proxy's cells, nil if it was not measured at this size.
func (r *Results) row(s section, scenario Scenario, size int, proxy string) []string {
	var cells []string
	if s.scenario != "" {
		_, name, _ := strings.Cut(string(scenario), "/")
		cells = append(cells, name)
	}
	if s.size != "" {
		cells = append(cells, strconv.Itoa(size))
	}
	cells = append(cells, proxy)
	measured := false
	for _, c := range s.columns {
		value, ok := r.median(scenario, size, proxy, c.metric)
		measured = measured || ok
		cells = append(cells, cell(value, c.digits, ok))
		if c.ratio && s.reference != "" {
			cells = append(cells, spread(r.ratios(scenario, size, c.metric, proxy, s.reference)))
		}
	}
	if !measured {
		return nil
	}
	return cells
}

// spread is the median of sorted values and, where they differ, the least and the greatest.
func spread(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	digits := 2
	if values[0] >= 100 {
		digits = 0
	}
	median := cell(stats.Median(values), digits, true)
	least, greatest := cell(values[0], digits, true), cell(values[len(values)-1], digits, true)
	if least == greatest {
		return median
	}
	return fmt.Sprintf("%s (%s to %s)", median, least, greatest)
}

func cell(value float64, digits int, ok bool) string {
	if !ok {
		return ""
	}
	return strconv.FormatFloat(value, 'f', digits, 64)
}
