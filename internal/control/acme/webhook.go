package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Webhook has records made by an HTTP server that speaks the httpreq protocol of lego, for which there are adapters to
// most DNS services: POST URL/present and URL/cleanup with {"fqdn": "…", "value": "…"}.
type Webhook struct {
	URL      *url.URL
	Username string // for basic authentication; empty: none
	Password string

	// Transport is http.DefaultTransport if nil. Redirects are not followed.
	Transport http.RoundTripper
}

// Present implements [Solver].
func (s *Webhook) Present(ctx context.Context, record TXT) error {
	return s.post(ctx, "present", record)
}

// Remove implements [Solver].
func (s *Webhook) Remove(ctx context.Context, record TXT) error {
	return s.post(ctx, "cleanup", record)
}

func (s *Webhook) post(ctx context.Context, action string, record TXT) error {
	body, err := json.Marshal(map[string]string{"fqdn": record.Name, "value": record.Value})
	if err != nil {
		return err
	}
	where := s.URL.JoinPath(action)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", userAgent)
	if s.Username != "" {
		request.SetBasicAuth(s.Username, s.Password)
	}
	client := http.Client{Transport: s.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the DNS webhook: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxDetail))
	if err != nil {
		return fmt.Errorf("read the answer of the DNS webhook: %w", err)
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the DNS webhook answers %s to %s: %s", answer.Status, where.Redacted(), clean(string(text)))
	}
	return nil
}
