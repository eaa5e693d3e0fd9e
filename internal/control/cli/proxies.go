package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

func (a *app) proxies() *cobra.Command {
	list := &cobra.Command{
		Use:               "list DB",
		Short:             "List the proxies of a database and their acknowledgements",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE:              a.run(listProxies),
	}
	return a.client(group(&cobra.Command{
		Use:   "proxies DB",
		Short: "Manage the proxies in front of a database",
	}, list, a.addProxy(), a.changeProxy(), a.removeProxy()))
}

// The words for a proxy's state.
const (
	inForce = "in force"
	behind  = "behind"
	failing = "failing" // an older agent does not say how
)

// stateOf sums up what a proxy said.
func stateOf(proxy api.ProxyAcknowledgement, generation int64) string {
	switch {
	case proxy.Error != "":
		return or(proxy.ErrorKind, failing)
	case proxy.At.IsZero():
		return "never seen"
	case proxy.InForce >= generation:
		return inForce
	case proxy.Applied >= generation:
		return "applied"
	}
	return behind
}

// problemOf returns what is wrong with a proxy, in words that follow its name.
func problemOf(proxy api.ProxyAcknowledgement) string {
	switch proxy.ErrorKind {
	case api.ErrorUnreachable:
		return proxy.Error // it says so itself
	case api.ErrorUndeliverable:
		return "can't be given its policy: " + proxy.Error
	case api.ErrorRefused:
		return "refuses its policy: " + proxy.Error
	}
	return "does not follow its policy: " + proxy.Error
}

func listProxies(s *session) error {
	acknowledgements, err := s.Acknowledgements(s, s.args[0])
	if err != nil {
		return err
	}
	database, err := s.Database(s, s.args[0])
	if err != nil {
		return err
	}
	return s.out.show(acknowledgements, func() {
		if len(acknowledgements.Proxies) == 0 {
			s.out.line("%[1]s has no proxy, so nothing can be in force. Add one: pgmtls proxies add %[1]s NAME", clean(database.Name))
			return
		}
		s.out.line("generation %d of %s", acknowledgements.Generation, clean(database.Name))
		rows := [][]string{{"PROXY", "STATE", "APPLIED", "IN FORCE", "LAST REPORT", "CLOCK", "DELIVERY", onlyWide + "VERSION"}}
		for _, proxy := range acknowledgements.Proxies {
			heard := "-"
			if !proxy.At.IsZero() {
				heard = elapsed(s.app.env.Now().Sub(proxy.At)) + " ago"
			}
			rows = append(rows, []string{
				proxy.Proxy, stateOf(proxy, acknowledgements.Generation), generation(proxy, proxy.Applied),
				generation(proxy, proxy.InForce), heard, clock(proxy), delivery(database, proxy.Proxy), or(proxy.Version, "-"),
			})
		}
		s.out.table(rows...)
		for _, proxy := range acknowledgements.Proxies {
			if proxy.Error != "" {
				s.out.line("%s %s", clean(proxy.Proxy), clean(problemOf(proxy)))
			} else if text := silence(database, proxy, acknowledgements.Generation, s.app.env.Now()); text != "" {
				s.out.line("%s %s", clean(proxy.Proxy), text)
			}
			if proxy.Drift != "" {
				s.out.line("%s: its directory was changed by something else: %s", clean(proxy.Proxy), clean(proxy.Drift))
			}
		}
		s.out.waiting(acknowledgements)
	})
}

// silentAfter is how long nothing may be heard of a proxy that has something to do. It takes less than a second to do it.
const silentAfter = 30 * time.Second

// silence says who may be down when nothing is heard of a proxy, in words that follow its name. It is empty when all is well.
func silence(database api.Database, proxy api.ProxyAcknowledgement, generation int64, now time.Time) string {
	remedy := "Is its agent running, and connected?"
	if i := slices.IndexFunc(database.Proxies, func(p api.Proxy) bool { return p.Name == proxy.Proxy }); i >= 0 && database.Proxies[i].PolicyDir != "" {
		remedy = "Is the daemon beside it running?"
		if node := database.Proxies[i].Node; node != "" {
			remedy = fmt.Sprintf("Is the daemon %s running?", clean(node))
		}
	}
	switch {
	case proxy.Applied >= generation:
		return ""
	case proxy.At.IsZero():
		return "was never heard from. " + remedy
	case now.Sub(proxy.At) >= silentAfter:
		return fmt.Sprintf("was last heard from %s ago. %s", elapsed(now.Sub(proxy.At)), remedy)
	}
	return ""
}

// generation returns the number of one that a proxy follows, and ? for a proxy that can't be asked.
func generation(proxy api.ProxyAcknowledgement, number int64) string {
	if number == 0 && proxy.ErrorKind == api.ErrorUnreachable {
		return "?"
	}
	return strconv.FormatInt(number, 10)
}

// clock returns how far the clock of a proxy is from the control plane's. Less than some seconds is the way of the message.
func clock(proxy api.ProxyAcknowledgement) string {
	switch {
	case proxy.ClockSkew == nil:
		return "-"
	case -30 < *proxy.ClockSkew && *proxy.ClockSkew < 30:
		return "ok"
	case *proxy.ClockSkew > 0:
		return "+" + elapsed(time.Duration(*proxy.ClockSkew)*time.Second)
	}
	return "-" + elapsed(time.Duration(-*proxy.ClockSkew)*time.Second)
}

// delivery returns who delivers the policy to a proxy.
func delivery(database api.Database, name string) string {
	for _, proxy := range database.Proxies {
		if proxy.Name == name && proxy.PolicyDir != "" {
			return or(proxy.Node, "daemon") + ":" + proxy.PolicyDir
		}
	}
	return "agent"
}

const metricsUsage = "`host:port` at which Prometheus reaches the proxy's admin address"

func proxyFlags(cmd *cobra.Command, proxy *api.NewProxy) {
	flags := cmd.Flags()
	flags.StringVar(&proxy.PolicyDir, "policy-dir", "", "the proxy's policy_dir, on the daemon's machine; without it an agent delivers")
	flags.StringVar(&proxy.Admin, "admin", "", "the proxy's admin `address`, with --policy-dir, such as 127.0.0.1:9815")
	flags.StringVar(&proxy.Metrics, "metrics", "", metricsUsage)
	flags.StringVar(&proxy.Node, "node", "", "the daemon beside the proxy, if there are several")
	_ = cmd.MarkFlagDirname("policy-dir") // it is there
	cmd.MarkFlagsRequiredTogether("policy-dir", "admin")
}

func (a *app) addProxy() *cobra.Command {
	var proxy api.NewProxy
	cmd := &cobra.Command{
		Use:   "add DB NAME",
		Short: "Register a proxy",
		Long: `Registers a proxy in front of a database. From then on a change of the database is in force only when this proxy has
acknowledged it. With --policy-dir the daemon writes the policy itself; without it, an agent on the proxy's machine does.`,
		Example: `  pgmtls proxies add shop local --policy-dir /var/lib/pgmtls/policies/shop --admin 127.0.0.1:9815
  pgmtls proxies add shop edge-1`,
		Args:              exactly(2),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			if proxy.PolicyDir != "" && !filepath.IsAbs(proxy.PolicyDir) {
				return usage(fmt.Errorf("--policy-dir %s is relative: the daemon has another working directory, so write the absolute path", proxy.PolicyDir))
			}
			proxy.Name = s.args[1]
			database, err := s.AddProxy(s, s.args[0], proxy)
			if err != nil {
				return err
			}
			return s.out.show(database, func() {
				s.out.line("%s is a proxy of %s", clean(proxy.Name), clean(database.Name))
				if proxy.PolicyDir == "" {
					s.out.line("To enrol its agent: pgmtls agents create %s %s", clean(database.Name), clean(proxy.Name))
				}
			})
		}),
	}
	proxyFlags(cmd, &proxy)
	return cmd
}

func (a *app) changeProxy() *cobra.Command {
	var metrics string
	cmd := &cobra.Command{
		Use:   "set DB NAME --metrics HOST:PORT",
		Short: "Set the address at which Prometheus reaches a proxy",
		Long: `Sets the address at which Prometheus reaches a proxy's admin address, for GET /v1/targets. Without one, a proxy beside the
daemon is reached at its admin address, and one with an agent is left out. An empty address removes it.`,
		Example:           `  pgmtls proxies set shop edge-1 --metrics edge-1.example.com:9815`,
		Args:              exactly(2),
		ValidArgsFunction: a.complete(databaseThenProxy),
		RunE: a.run(func(s *session) error {
			database, err := s.ChangeProxy(s, s.args[0], s.args[1], api.ChangedProxy{Metrics: &metrics})
			if err != nil {
				return err
			}
			return s.out.show(database, func() {
				s.out.line("Prometheus reaches %s at %s", clean(s.args[1]), or(clean(metrics), "no address of its own"))
			})
		}),
	}
	cmd.Flags().StringVar(&metrics, "metrics", "", metricsUsage)
	_ = cmd.MarkFlagRequired("metrics") // it is there
	return cmd
}

func (a *app) removeProxy() *cobra.Command {
	return &cobra.Command{
		Use:               "remove DB NAME",
		Short:             "Remove a proxy: changes no longer wait for it, and it keeps its policy",
		Args:              exactly(2),
		ValidArgsFunction: a.complete(databaseThenProxy),
		RunE: a.run(func(s *session) error {
			database, err := s.RemoveProxy(s, s.args[0], s.args[1])
			if err != nil {
				return err
			}
			return s.out.show(database, func() {
				s.out.line("%s is no longer a proxy of %s. It keeps the policy that it has.", clean(s.args[1]), clean(database.Name))
			})
		}),
	}
}

// databaseThenProxy completes the arguments DB NAME.
func databaseThenProxy(s *session) ([]cobra.Completion, error) {
	var found []cobra.Completion
	switch len(s.args) {
	case 0:
		databases, err := s.Databases(s)
		if err != nil {
			return nil, err
		}
		for _, database := range databases {
			found = append(found, clean(database.Name))
		}
	case 1:
		database, err := s.Database(s, s.args[0])
		if err != nil {
			return nil, err
		}
		for _, proxy := range database.Proxies {
			found = append(found, clean(proxy.Name))
		}
	}
	return found, nil
}
