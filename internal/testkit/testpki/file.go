package testpki

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write writes the certificate to stem.crt (0644) and its key to stem.key (0600), each by rename.
func (p *Pair) Write(stem string) error {
	if err := WriteFile(stem+".key", p.KeyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(stem+".crt", p.CertPEM, 0o644)
}

// WriteFile replaces the file by rename, so that no reader sees half of it, and gives it the mode whatever the
// umask is.
func WriteFile(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".testpki-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is nothing
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
