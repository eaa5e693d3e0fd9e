package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/api"
)

// snapshot has only save: restore works without a server, and is cmd/pgmtls's.
func (a *app) snapshot() *cobra.Command {
	var force bool
	save := &cobra.Command{
		Use:   "save FILE",
		Short: "Copy the store of a running control plane to a file",
		Long: `Copies the store of a running control plane to a file, for pgmtls snapshot restore. Private keys in it are encrypted with
the master key: keep a copy of that key as well, in another place.`,
		Args: exactly(1),
		RunE: a.run(func(s *session) error { return saveSnapshot(s, s.args[0], force) }),
	}
	save.Flags().BoolVar(&force, "force", false, "overwrite an existing file")
	cmd := &cobra.Command{Use: "snapshot", Short: "Save and restore the store"}
	cmd.AddCommand(a.client(save))
	return cmd
}

func saveSnapshot(s *session, path string, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return fmt.Errorf("%s already exists: choose another name, or overwrite it with --force", path)
	}
	size, err := fetchSnapshot(s, path)
	if err != nil {
		return err
	}
	return s.out.show(map[string]any{"file": path, "bytes": size}, func() {
		s.out.line("wrote %s, %d bytes", path, size)
		s.out.line("It is useless without the master key: keep a copy of the key as well.")
	})
}

// fetchSnapshot writes beside the file and renames, so that a broken transfer leaves nothing that looks like a snapshot.
func fetchSnapshot(s *session, path string) (size int64, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".pgmtls-snapshot-*") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if size, err = s.Snapshot(s, file); err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, errors.New("the control plane sent an empty snapshot")
	}
	if err := file.Sync(); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	if err := file.Close(); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return 0, fmt.Errorf("write the snapshot: %w", err)
	}
	return size, nil
}

// versions is what `pgmtls version` prints as JSON.
type versions struct {
	Client      string         `json:"client"`
	Server      string         `json:"server,omitempty"`
	ClientBuild buildinfo.Info `json:"client_build"`
	ServerBuild *api.Version   `json:"server_build,omitempty"`
}

func (a *app) version() *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "version",
		Short: "Print the version, the toolchain and the modules, and the control plane's version if it is reachable",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := versions{Client: a.env.Built.Version, ClientBuild: a.env.Built}
			s, err := a.open(cmd.Context())
			if err == nil {
				defer s.CloseIdle()
				server, askErr := s.Version(s)
				if err = askErr; err != nil {
					err = s.explain(err)
				} else {
					found.Server, found.ServerBuild = server.Version, &server
				}
			}
			out := a.printer()
			if printErr := out.show(found, func() {
				out.line("pgmtls %s", found.Client)
				if server := found.ServerBuild; server != nil {
					out.line("server %s, built with %s", clean(server.Version), or(clean(server.Go), "an unknown Go"))
				}
				for line := range strings.Lines(found.ClientBuild.Text()) {
					out.line("%s", strings.TrimSuffix(line, "\n"))
				}
			}); printErr != nil {
				return &failure{exitFailure, printErr}
			}
			// Whoever named a server wants to know; for everybody else this program's version is the answer.
			if a.server.url != "" || a.env.Getenv("PGMTLS_URL") != "" {
				return err
			}
			return nil
		},
	})
}
