package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// What Standard Webhooks allows for a symmetric secret.
const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes
	maxSecret    = 64
)

// maxSecrets bounds how many sign at once: one, and two while they rotate, with room.
const maxSecrets = 5

// ParseSecrets reads the text of a file of webhook secrets, one a line; empty lines and those that start with # do not
// count. Each is whsec_ and 24 to 64 bytes in base64, and all of them sign, so their order does not matter.
// Errors name the line and never show a secret.
func ParseSecrets(text []byte) ([]string, error) {
	var secrets []string
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := secretKey(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		secrets = append(secrets, line)
	}
	return secrets, checkSecrets(secrets)
}

func checkSecrets(secrets []string) error {
	switch {
	case len(secrets) == 0:
		return errors.New(`no secret; generate one: echo "whsec_$(openssl rand -base64 32)"`)
	case len(secrets) > maxSecrets:
		return fmt.Errorf("%d secrets; keep at most %d, those that receivers still use", len(secrets), maxSecrets)
	}
	for _, s := range secrets {
		if _, err := secretKey(s); err != nil {
			return err
		}
	}
	return nil
}

func secretKey(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf(`a webhook secret must be whsec_ and %d to %d bytes in base64; generate one: echo "whsec_$(openssl rand -base64 32)"`, minSecret, maxSecret)
	}
	return key, nil
}

// signatures is the value of the webhook-signature header: one signature per secret, so that a receiver that knows any
// of them accepts it.
func signatures(secrets []string, signed []byte) (string, error) {
	var out []string
	for _, s := range secrets {
		key, err := secretKey(s)
		if err != nil {
			return "", err
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(signed)
		out = append(out, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(out, " "), nil
}
