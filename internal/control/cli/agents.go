package cli

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) agents() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "List the enrolled agents",
		Args:  exactly(0),
		RunE: a.run(func(s *session) error {
			agents, err := s.Agents(s)
			if err != nil {
				return err
			}
			return s.out.show(agents, func() { s.out.agents(agents, s.app.env.Now()) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "agents",
		Short: "Manage the agents of proxies on other machines",
	}, list, a.createAgent(), a.revokeAgent()))
}

func (p *printer) agents(agents []api.Agent, now time.Time) {
	if len(agents) == 0 {
		p.line("There are no agents. Enrol one: pgmtls agents create DB PROXY")
		return
	}
	var all []string
	for _, agent := range agents {
		all = append(all, agent.ID)
	}
	id := p.ids(all)
	rows := [][]string{{"ID", "DATABASE", "PROXY", "LAST SEEN", onlyWide + "ENROLLED", "CERTIFICATE UNTIL"}}
	for _, agent := range agents {
		seen := "never"
		if !agent.LastSeenAt.IsZero() {
			seen = elapsed(now.Sub(agent.LastSeenAt)) + " ago"
		}
		rows = append(rows, []string{id(agent.ID), or(agent.DatabaseName, agent.Database), agent.Proxy, seen, moment(agent.EnrolledAt), p.moment(agent.ExpiresAt)})
	}
	p.table(rows...)
}

// The files that a new agent is given.
const (
	agentToken = "agent.token"
	agentCA    = "control-ca.pem"
)

func (a *app) createAgent() *cobra.Command {
	var (
		dir   string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "create DB PROXY",
		Short: "Create an enrolment token for the agent of a proxy; it works once, within an hour",
		Long: `Creates the files with which the agent of a proxy enrols, in a directory: ` + agentToken + `, which works once and within an
hour, and ` + agentCA + `, with which the agent verifies the control plane. Copy both to the proxy's machine.`,
		Args:              exactly(2),
		ValidArgsFunction: a.complete(databaseThenProxy),
		RunE: a.run(func(s *session) error {
			enrolment, err := s.CreateEnrolment(s, api.NewEnrolment{Database: s.args[0], Proxy: s.args[1]})
			if err != nil || s.app.json {
				if err == nil {
					err = s.out.show(enrolment, nil)
				}
				return err
			}
			at, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			token, ca := filepath.Join(at, agentToken), filepath.Join(at, agentCA)
			if err := writeAll(at, []write{
				{path: token, content: []byte(enrolment.Token + "\n"), mode: 0o600},
				{path: ca, content: []byte(enrolment.ControlCA), mode: 0o644},
			}, force); err != nil {
				return err
			}
			control := or(enrolment.ControlURL, s.URL())
			s.out.line("wrote %s, valid until %s", token, moment(enrolment.ExpiresAt))
			s.out.line("wrote %s", ca)
			s.out.line("")
			s.out.line("Copy both to the machine of %s, and start the agent there:", clean(s.args[1]))
			s.out.line("pgmtls agent --database %s --control %s --ca %s --token-file %s --policy-dir DIR --admin 127.0.0.1:9815",
				clean(s.args[0]), clean(control), agentCA, agentToken)
			if loopback(control) {
				s.out.line("")
				s.out.line("%s", s.out.warning("Note: "+clean(control)+" leads to this machine only. For a proxy on another one, set listen and public_url in pgmtls.yaml."))
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the `directory` to write to")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite existing files that differ")
	_ = cmd.MarkFlagDirname("dir") // it is there
	return cmd
}

// loopback reports whether a URL leads to the machine of whoever asks.
func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func (a *app) revokeAgent() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an agent and end its stream; its proxy keeps the policy that it has",
		Args:  exactly(1),
		ValidArgsFunction: a.complete(func(s *session) ([]cobra.Completion, error) {
			agents, err := s.Agents(s)
			var found []cobra.Completion
			for _, agent := range agents {
				found = append(found, cobra.CompletionWithDesc(agent.ID, clean(or(agent.DatabaseName, agent.Database)+"/"+agent.Proxy)))
			}
			return found, err
		}),
		RunE: a.run(func(s *session) error {
			id, err := s.wholeAgent(s.args[0])
			if err != nil {
				return err
			}
			if err := s.RevokeAgent(s, id); err != nil {
				return err
			}
			if !s.app.json {
				s.out.line("%s is revoked", clean(id))
			}
			return nil
		}),
	}
}
