package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// get asks the admin address.
func (d *demo) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.adminURL(path), nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", d.adminURL(path), response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

func (d *demo) adminURL(path string) string { return "http://" + loopback(d.adminPort) + path }

// status is the part of GET /status that the demo looks at.
type status struct {
	StartedAt time.Time `json:"started_at"`
	Phase     string    `json:"phase"`
	Policy    struct {
		Generation string `json:"generation"`
		Rules      []struct {
			CIDR        string `json:"cidr"`
			Description string `json:"description"`
		} `json:"ip_rules"`
	} `json:"policy"`
	Reload struct {
		CheckedAt time.Time `json:"checked_at"`
		Error     string    `json:"error,omitempty"`
	} `json:"reload"`
	Sessions map[string]int `json:"sessions"`
}

func (d *demo) status(ctx context.Context) (status, error) {
	text, err := d.get(ctx, "/status")
	if err != nil {
		return status{}, err
	}
	var s status
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return status{}, fmt.Errorf("read /status: %w", err)
	}
	return s, nil
}

// alone waits until one session is left: psql may end a moment before the proxy knows.
func (d *demo) alone(ctx context.Context) (now status, err error) {
	err = until(ctx, func(ctx context.Context) error {
		if now, err = d.status(ctx); err != nil {
			return err
		}
		count := 0
		for _, n := range now.Sessions {
			count += n
		}
		if count != 1 {
			return fmt.Errorf("the proxy has %d sessions, not 1", count)
		}
		return nil
	})
	return now, err
}

// metrics gives those lines of GET /metrics that begin with one of the names and are not at zero.
func (d *demo) metrics(ctx context.Context, names ...string) ([]string, error) {
	text, err := d.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, name := range names {
			if strings.HasPrefix(line, name) && !strings.HasSuffix(line, " 0") {
				lines = append(lines, line)
			}
		}
	}
	return lines, nil
}
