package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
)

// completionTimeout is how long a shell waits for names. Without an answer it has none.
const completionTimeout = 2 * time.Second

type completion = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective)

// complete completes from the server. It never shows an error: it would stand in the middle of the command line.
func (a *app) complete(list func(*session) ([]cobra.Completion, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completionTimeout)
		defer cancel()
		s, err := a.open(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer s.CloseIdle()
		s.args = args
		found, err := list(s)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// databaseNames completes the first argument.
func (a *app) databaseNames() completion {
	return a.complete(func(s *session) ([]cobra.Completion, error) {
		if len(s.args) > 0 {
			return nil, nil
		}
		databases, err := s.Databases(s)
		var found []cobra.Completion
		for _, database := range databases {
			found = append(found, cobra.CompletionWithDesc(clean(database.Name), clean("space "+database.Space)))
		}
		return found, err
	})
}

// ids completes the flag --id of a command whose first argument is a database.
func (a *app) ids(cmd *cobra.Command, list func(*session) ([]cobra.Completion, error)) {
	err := cmd.RegisterFlagCompletionFunc("id", a.complete(func(s *session) ([]cobra.Completion, error) {
		if len(s.args) == 0 {
			return nil, nil
		}
		return list(s)
	}))
	if err != nil {
		panic(err) // the flag is not there, or has one already: the program is wrong
	}
}

func ruleIDs(s *session) ([]cobra.Completion, error) {
	rules, err := s.Rules(s, s.args[0])
	var found []cobra.Completion
	for _, rule := range rules {
		found = append(found, cobra.CompletionWithDesc(rule.ID, clean(rule.CIDR+" "+rule.Description)))
	}
	return found, err
}

func certificateIDs(s *session) ([]cobra.Completion, error) {
	certificates, err := s.Certificates(s, s.args[0])
	var found []cobra.Completion
	for _, certificate := range certificates {
		if certificate.Status != api.Disabled {
			found = append(found, cobra.CompletionWithDesc(certificate.ID, clean(certificate.Name+" "+certificate.Status)))
		}
	}
	return found, err
}

// choices completes a flag from a fixed list.
func choices(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there: the program is wrong
	}
}
