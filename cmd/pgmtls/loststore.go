package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/store"
)

// checkStoreIsThere refuses to begin with an empty store where there has been one: what the daemon leaves beside its
// store is there and the store is not. It was lost with a disk, or not restored yet, and an empty one would be served
// in its place without a word. It runs before anything is made in the directory.
func checkStoreIsThere(cfg *config.Control) error {
	if len(cfg.Store.Endpoints) > 0 {
		return nil // a cluster is not in a directory
	}
	dir := storeDir(cfg)
	exists, err := store.Exists(dir)
	if err != nil || exists {
		return err
	}
	for _, trace := range []string{
		filepath.Join(cfg.DataDir, filepath.Base(cfg.MasterKeyFile)), // not one that is kept elsewhere: it may be given before the first start
		filepath.Join(cfg.DataDir, controlCAFile), filepath.Join(cfg.DataDir, clientFile), filepath.Join(cfg.DataDir, adminTokenFile),
	} {
		_, err := os.Lstat(trace)
		if err == nil {
			return fmt.Errorf("there is no store in %s, but %s is there from an earlier one: restore the last snapshot (pgmtls snapshot restore FILE --data-dir %s, see docs/control-plane.md#restore), or, for a control plane that begins anew with this key, start it once with --new-store", dir, trace, cfg.DataDir)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
