package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// confirmation is the flag --confirm of what can't be undone.
type confirmation struct{ given string }

func (c *confirmation) flag(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&c.given, "confirm", "", "the `name` of the "+what+", to confirm without a question")
}

// confirm requires the name of what is to be destroyed once more: from the flag, or from the person at the terminal.
func (s *session) confirm(c confirmation, name, consequence string) error {
	env := s.app.env
	given := c.given
	if given == "" {
		if !env.StdinTerminal {
			return usage(fmt.Errorf("%s\nTo confirm: --confirm %s", clean(consequence), clean(name)))
		}
		env.remark("%s\nType %s to continue: ", clean(consequence), clean(name))
		line, err := bufio.NewReader(io.LimitReader(env.Stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		given = strings.TrimSpace(line)
	}
	if given != name {
		return usage(fmt.Errorf("%q is not %q: nothing was changed", clean(given), clean(name)))
	}
	return nil
}
