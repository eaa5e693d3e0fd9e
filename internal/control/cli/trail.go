package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

func (a *app) audit() *cobra.Command {
	var (
		query apiclient.AuditQuery
		limit int
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show the audit trail, newest first",
		Example: `  pgmtls audit --database shop --limit 20
  pgmtls audit --limit 0 --json > trail.json   # all of it`,
		Args: exactly(0),
		RunE: a.run(func(s *session) error {
			if limit < 0 {
				return usage(fmt.Errorf("--limit %d: must not be negative; 0 is all", limit))
			}
			records, err := trail(s, query, limit)
			if err != nil {
				return err
			}
			return s.out.show(records, func() {
				rows := [][]string{{"AT", "ACTOR", onlyWide + "ADDRESS", "ACTION", "DATABASE", "OBJECT", "DETAIL"}}
				var all []string
				for _, r := range records {
					all = append(all, r.Object)
				}
				id := s.out.ids(all)
				for _, r := range records {
					rows = append(rows, []string{s.out.moment(r.At), r.Actor, or(r.Address, "-"), r.Action, or(or(r.Database, r.Space), "-"), or(id(r.Object), "-"), detail(r)})
				}
				s.out.table(rows...)
			})
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&query.Database, "database", "", "only records of this `database`")
	flags.StringVar(&query.Actor, "actor", "", "only records of this `token` name, agent:ID, or system")
	flags.StringVar(&query.Action, "action", "", "only records of this `action`, such as ip_rule.create")
	flags.IntVar(&limit, "limit", api.DefaultPage, "maximum number of records; 0 is all")
	a.databaseFlag(cmd)
	return a.client(cmd)
}

// trail gets as many records as are wanted, page by page.
func trail(s *session, query apiclient.AuditQuery, limit int) ([]api.Record, error) {
	records := []api.Record{}
	for {
		query.Limit = api.MaxPage
		if limit > 0 {
			query.Limit = min(api.MaxPage, limit-len(records))
		}
		page, err := s.Audit(s, query)
		if err != nil {
			return nil, err
		}
		records = append(records, page.Records...)
		if page.Next == "" || page.Next == query.Before || limit > 0 && len(records) >= limit {
			return records, nil
		}
		query.Before = page.Next
	}
}

func detail(r api.Record) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Detail)) {
		parts = append(parts, name+"="+r.Detail[name])
	}
	return strings.Join(parts, " ")
}

func (a *app) events() *cobra.Command {
	var following apiclient.Following
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the audit trail until Ctrl-C",
		Args:  exactly(0),
		RunE: a.run(func(s *session) error {
			for record, err := range s.Events(s, following) {
				if err != nil && s.Err() != nil {
					return nil // Ctrl-C is how it ends
				}
				if err != nil {
					return err
				}
				if err := s.out.event(record); err != nil {
					return err
				}
			}
			return nil
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&following.Database, "database", "", "only records of this `database`")
	cmd.Flags().StringVar(&following.After, "after", "", "begin after the event with this `id`, instead of now")
	a.databaseFlag(cmd)
	return a.client(cmd)
}

// event prints a record on one line, as JSON if that is asked for.
func (p *printer) event(r api.Record) error {
	if p.json {
		return p.encode(r, "")
	}
	text := []string{moment(r.At), clean(r.Action)}
	for _, part := range []string{or(r.Database, r.Space), r.Object, detail(r)} {
		if part != "" {
			text = append(text, clean(part))
		}
	}
	p.line("%s  by %s", strings.Join(text, "  "), clean(r.Actor))
	return p.err
}
