package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/atomicfile"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/secretfile"
)

// masterKeyVariable has the master keys themselves, for who keeps them in a secret store and not in a file.
const masterKeyVariable = "PGMTLS_MASTER_KEY"

// maxSecret bounds a file with a password, a webhook's secrets or a private key, in bytes.
const maxSecret = 64 << 10

// masterKeys returns the keys that seal the store's secrets: from the environment, or from their file. A store that is
// still empty gets a new file; one that is not can't be read without the old keys, so none are made for it.
func masterKeys(ctx context.Context, cfg *config.Control, env environment, kept *store.Store, log zerolog.Logger) (*seal.Ring, error) {
	if text := env.getenv(masterKeyVariable); text != "" {
		ring, err := seal.ParseRing([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", masterKeyVariable, err)
		}
		return ring, nil
	}
	ring, err := seal.LoadRing(cfg.MasterKeyFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	items, err := kept.ListRange(ctx, store.Range{Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(items) > 0 {
		return nil, fmt.Errorf("the master key %s is missing, and the store has secrets sealed under it; restore it from your backup, or set %s", cfg.MasterKeyFile, masterKeyVariable)
	}
	if err := writeOnce(cfg.MasterKeyFile, seal.Generate()); err != nil {
		return nil, fmt.Errorf("write a new master key: %w", err)
	}
	log.Warn().Str("file", cfg.MasterKeyFile).Msg("created a new master key; back it up apart from the data: without it, no private key in the store can be read")
	return seal.LoadRing(cfg.MasterKeyFile)
}

// writeOnce writes a file for its owner only, durably, if there is none.
func writeOnce(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return atomicfile.SyncDirectory(filepath.Dir(path))
}

// line reads a file with one secret in one line; an empty path gives none.
func line(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := secretfile.Read(path, maxSecret)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("%s: write the secret on one line", path)
	}
	return secret, nil
}

// keyPair reads a certificate with its key, whose file nobody else may read.
func keyPair(cert, key config.File) (*tls.Certificate, error) {
	if cert.Path == "" {
		return nil, nil
	}
	certPEM, err := os.ReadFile(cert.Path)
	if err != nil {
		return nil, err
	}
	keyPEM, err := secretfile.Read(key.Path, maxSecret)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(safetext.WithoutMark(certPEM), keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", cert.Path, key.Path, err)
	}
	return &pair, nil
}
