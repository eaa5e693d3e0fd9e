package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// exactly requires n arguments, and shows how the command is used if there are others. It is also that of groups, to
// which a mistyped command is an argument.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		advice := ""
		if len(args) > 0 {
			if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
				advice = fmt.Sprintf("\nDid you mean %s %s?", cmd.CommandPath(), meant[0])
			}
		}
		return usage(fmt.Errorf("usage: %s%s", cmd.UseLine(), advice))
	}
}
