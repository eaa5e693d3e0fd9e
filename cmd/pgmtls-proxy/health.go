package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/config"
)

const healthTimeout = 3 * time.Second

// newHealth makes the probe that images without a shell need: the binary asks its own admin endpoint.
func newHealth(path *string, env environment) *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health --config proxy.yaml",
		Short: "Check whether the running proxy is alive, for container health checks",
		Long: `health queries /livez at the admin address of the configuration, or with --ready
/readyz, and exits with 0 if the answer is yes, and with 1 if it is no or none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			proxy, err := load(*path, env)
			if err != nil {
				return err
			}
			probe := "/livez"
			if ready {
				probe = "/readyz"
			}
			if err := queryHealth(cmd.Context(), proxy.Admin, probe); err != nil {
				return &exit{code: exitFailure, err: err}
			}
			return env.print([]byte("ok\n"))
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "check whether it accepts new connections")
	return cmd
}

func queryHealth(ctx context.Context, address config.Address, probe string) error {
	code, body, err := adminapi.Do(ctx, address.Network, address.Address, adminapi.Request{Method: http.MethodGet, Path: probe, Timeout: healthTimeout})
	switch {
	case err != nil:
		return fmt.Errorf("query %s at %s: %w", probe, address.Address, err)
	case code == http.StatusOK:
		return nil
	}
	return errors.New(shown(body))
}
