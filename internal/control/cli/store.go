package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// store has the maintenance of a store that runs inside the daemon.
func (a *app) store() *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Maintain the store inside the control plane"}
	cmd.AddCommand(
		a.maintenance("compact", "Give unused space of the store back to its disk",
			`Forgets the history of the store and gives its unused space back to the disk. Other
requests wait meanwhile. It works while the store is full.`,
			"The store is compacted.", func(ctx context.Context, s *session) error { return s.CompactStore(ctx) }),
		a.maintenance("disarm", "Let a store that was full take writes again",
			`Clears the alarm of a store that had reached its quota, so that it takes writes again.
Make space first, with pgmtls store compact: the alarm comes back otherwise.`,
			"The store takes writes again.", func(ctx context.Context, s *session) error { return s.DisarmStore(ctx) }),
	)
	return cmd
}

func (a *app) maintenance(use, short, long, done string, do func(context.Context, *session) error) *cobra.Command {
	return a.client(&cobra.Command{
		Use: use, Short: short,
		Long: long + `

An etcd cluster of your own is maintained with etcdctl.`,
		Args: exactly(0),
		RunE: a.run(func(s *session) error {
			if err := do(s, s); err != nil {
				return err
			}
			return s.out.show(map[string]any{"done": use}, func() { s.out.line("%s", done) })
		}),
	})
}
