package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/goccy/go-yaml"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// tokens is how many clients take turns: the daemon allows each of them 50 requests a second.
const tokens = 16

// clients ask the daemon, each with a token of its own. They are safe for concurrent use.
type clients struct {
	all     []*apiclient.Client
	secrets []string
	url     string
	ca      string // the file
	next    atomic.Uint64
}

// newClients reads the settings that the daemon has left, and makes the tokens if those of the clients before are not given.
func newClients(ctx context.Context, settings string, before *clients) (*clients, error) {
	text, err := os.ReadFile(settings)
	if err != nil {
		return nil, err
	}
	var found struct {
		URL       string `yaml:"url"`
		TokenFile string `yaml:"token_file"`
		CA        string `yaml:"ca"`
	}
	if err := yaml.Unmarshal(text, &found); err != nil {
		return nil, fmt.Errorf("read %s: %w", settings, err)
	}
	dir := filepath.Dir(settings)
	c := &clients{url: found.URL, ca: filepath.Join(dir, found.CA)}
	ca, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	if before != nil {
		c.secrets = before.secrets
	} else if c.secrets, err = makeTokens(ctx, c.url, ca, filepath.Join(dir, found.TokenFile)); err != nil {
		return nil, err
	}
	for _, secret := range c.secrets {
		client, err := apiclient.New(apiclient.Options{URL: c.url, CA: ca, Token: secret, UserAgent: "bench"})
		if err != nil {
			return nil, err
		}
		c.all = append(c.all, client)
	}
	_, err = c.one().Version(ctx)
	return c, err
}

func makeTokens(ctx context.Context, url string, ca []byte, first string) ([]string, error) {
	secret, err := os.ReadFile(first)
	if err != nil {
		return nil, err
	}
	admin, err := apiclient.New(apiclient.Options{URL: url, CA: ca, Token: strings.TrimSpace(string(secret)), UserAgent: "bench"})
	if err != nil {
		return nil, err
	}
	var secrets []string
	for i := range tokens {
		token, err := admin.CreateToken(ctx, api.NewToken{Name: fmt.Sprintf("bench-%d", i), Scope: api.ScopeAll})
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, token.Secret)
	}
	return secrets, nil
}

// one is the client whose turn it is.
func (c *clients) one() *apiclient.Client {
	return c.all[c.next.Add(1)%uint64(len(c.all))]
}

func (c *clients) closeIdle() {
	for _, client := range c.all {
		client.CloseIdle()
	}
}
