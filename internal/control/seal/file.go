package seal

import (
	"fmt"

	"pgmtls-proxy/internal/secretfile"
)

// LoadRing reads a key file that nobody else can read, by the rule of [secretfile.Check]. It follows symbolic links, which
// is how Kubernetes hands out secrets.
func LoadRing(path string) (*Ring, error) {
	text, err := secretfile.Read(path, maxText)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	defer clear(text)
	ring, err := ParseRing(text)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", path, err)
	}
	return ring, nil
}
