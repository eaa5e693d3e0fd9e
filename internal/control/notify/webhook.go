package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	webhookTimeout = 30 * time.Second // of one attempt, all of it
	maxAnswer      = 1 << 10          // bytes that are read of an answer's body
	maxHeader      = 64 << 10         // bytes of an answer's header
)

// Webhook posts notices as Standard Webhooks (standardwebhooks.com) asks: a JSON object with type, timestamp and data,
// the notice's id as webhook-id, and a signature per secret. Its zero value is of no use. It never follows a redirect:
// the signed text is for the one receiver that was configured.
type Webhook struct {
	URL     string   // https, or http to this machine itself; it may hold a secret in its path, so errors name the host only
	Secrets []string // whsec_…; several while they rotate
	// Client: nil is one that trusts the system's authorities, uses the proxy that the environment names, and keeps no
	// connection: notices are months apart.
	Client *http.Client
}

// event is the body of a webhook.
type event struct {
	Type      Kind      `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      eventData `json:"data"`
}

type eventData struct {
	Database    string       `json:"database,omitempty"`
	Space       string       `json:"space,omitempty"`       // in all but store.space
	Certificate *Certificate `json:"certificate,omitempty"` // of a client, or of a space's authority
	Proxy       string       `json:"proxy,omitempty"`
	ClockSkew   int64        `json:"clock_skew_seconds,omitempty"`
	Public      *Public      `json:"public,omitempty"` // a public certificate, or its authority
	Ends        time.Time    `json:"ends,omitzero"`    // of the public certificate
	Summary     string       `json:"summary"`          // one line for people
	Text        string       `json:"text"`             // what happened, and what to do
	Command     string       `json:"command"`          // that does it
}

// Check returns what is wrong with the settings, nil when they can work. It sends nothing.
func (w Webhook) Check() error {
	if _, err := w.target(); err != nil {
		return err
	}
	return checkSecrets(w.Secrets)
}

// String names the webhook without what is secret of it.
func (w Webhook) String() string {
	if u, err := url.Parse(w.URL); err == nil && u.Host != "" {
		return "webhook to " + clean(u.Host)
	}
	return "webhook"
}

func (w Webhook) target() (*url.URL, error) {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil, u.Host == "":
		return nil, errors.New("the webhook's URL is invalid; use the form https://host/path")
	case u.User != nil:
		return nil, errors.New("the webhook's URL has a user or a password; remove them: receivers authenticate requests by their signature")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, errors.New("the webhook's URL must use https unless it is on this machine")
	}
	return u, nil
}

// Send posts the notice once. 2xx is success. 4xx is permanent but 408 and 429, which are the receiver's word for later.
func (w Webhook) Send(ctx context.Context, n Notice) error {
	if err := n.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	request, err := w.request(ctx, n)
	if err != nil {
		return fmt.Errorf("%s: %w", w, err)
	}
	answer, err := w.client(request.URL).Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // without the URL
		}
		return fmt.Errorf("%s: %w", w, err)
	}
	defer answer.Body.Close()
	return w.verdict(answer)
}

// request signs the notice. The timestamp is the wall clock's, whatever clock the notice is of: receivers compare it
// with their own, and refuse a captured request that is played again after some minutes.
func (w Webhook) request(ctx context.Context, n Notice) (*http.Request, error) {
	u, err := w.target()
	if err != nil {
		return nil, err
	}
	if err := checkSecrets(w.Secrets); err != nil {
		return nil, err
	}
	m, err := n.words()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(event{n.Kind, n.At.UTC(), eventData{
		Database: n.Database, Space: n.Space, Certificate: n.Certificate, Proxy: n.Proxy, ClockSkew: int64(n.Skew / time.Second),
		Public: n.Public, Ends: n.Ends.UTC(), Summary: m.subject, Text: m.happened + "\n" + m.advice, Command: m.command}})
	if err != nil {
		return nil, fmt.Errorf("encode the notice: %w: %w", err, ErrPermanent)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signature, err := signatures(w.Secrets, append([]byte(n.ID+"."+now+"."), text...))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "pgmtls")
	request.Header.Set("Webhook-Id", n.ID)
	request.Header.Set("Webhook-Timestamp", now)
	request.Header.Set("Webhook-Signature", signature)
	return request, nil
}

// client is a copy, so that the caller's own may follow redirects elsewhere.
func (w Webhook) client(u *url.URL) *http.Client {
	client := &http.Client{}
	if w.Client != nil {
		*client = *w.Client
	} else {
		transport := &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxHeader,
			ForceAttemptHTTP2:      true,
		}
		if u.Scheme == "http" {
			transport.Proxy = nil
			transport.DialContext = (&net.Dialer{ControlContext: onlyLoopback}).DialContext
		}
		client.Transport = transport
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client
}

func (w Webhook) verdict(answer *http.Response) error {
	code := answer.StatusCode
	if code/100 == 2 {
		return nil
	}
	start, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // what came is for people
	said := ""
	if len(start) > 0 {
		said = ": " + clean(string(start))
	}
	switch {
	case code == http.StatusGone:
		return fmt.Errorf("%s: the receiver is gone (410)%s; remove notify.webhook from pgmtls.yaml, or set its new URL: %w", w, said, ErrPermanent)
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return fmt.Errorf("%s: the receiver refused the notice (%d)%s: %w", w, code, said, ErrPermanent)
	case code/100 == 3:
		return fmt.Errorf("%s: the receiver redirects (%d), and redirects are not followed; set the URL to the target", w, code)
	}
	return fmt.Errorf("%s: the receiver answered %d%s", w, code, said)
}
