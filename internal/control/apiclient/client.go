// Package apiclient asks the control plane: a typed client of every path of its API.
//
// It keeps nothing, decides nothing and prints nothing. Every call takes a context and has a deadline, every answer is
// bounded, a redirect is not followed, since it would carry the token elsewhere, and what the server refuses comes back
// as [*api.Error]. It stands between apiserver on one side, cli and agent on the other.
package apiclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"pgmtls-proxy/internal/safetext"
)

// DefaultTimeout is how long a call may take, all attempts together.
const DefaultTimeout = 30 * time.Second

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 60 * time.Second
)

// Options say whom to ask, and as whom.
type Options struct {
	URL   string // https://host:port; http:// only to loopback
	CA    []byte // PEM of what the server's certificate is verified with; empty: the system's
	Token string // empty: none is shown

	// Certificate is asked for the client's certificate at each new connection. Nil: there is none.
	Certificate func() (*tls.Certificate, error)

	UserAgent string
	Timeout   time.Duration // of a call; 0: [DefaultTimeout]. Streams have none, but must not fall silent
}

// Client asks one control plane. It is safe for concurrent use.
type Client struct {
	base      string // without a final slash
	token     string
	userAgent string
	timeout   time.Duration
	http      *http.Client
}

// New makes a client. It connects to nobody yet.
func New(options Options) (*Client, error) {
	base, err := parseURL(options.URL)
	if err != nil {
		return nil, err
	}
	roots, err := pool(options.CA)
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if options.Certificate != nil {
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return options.Certificate()
		}
	}
	timeout := options.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	// HTTP/1.1 alone: a stream has a connection of its own, so that a dead one is seen where it is, and a renewed
	// certificate is shown by whatever connects next.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{
		base:      base,
		token:     options.Token,
		userAgent: options.UserAgent,
		timeout:   timeout,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:           dialer.DialContext,
				TLSClientConfig:       tlsConfig,
				TLSHandshakeTimeout:   handshakeTimeout,
				ResponseHeaderTimeout: timeout,
				IdleConnTimeout:       idleTimeout,
				MaxIdleConnsPerHost:   4,
				Protocols:             protocols,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL is where the client asks.
func (c *Client) URL() string { return c.base }

// CloseIdle closes the connections that carry nothing now. The next call makes a new one, with the certificate of then.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// parseURL reads an address as people type it: without a scheme it is https, never anything that shows the token.
func parseURL(text string) (string, error) {
	full := strings.TrimSpace(text)
	if full != "" && !strings.Contains(full, "://") {
		full = "https://" + full
	}
	at, err := url.Parse(full)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the text may hold a password, and is known to whoever gave it
		}
		return "", fmt.Errorf("the control plane's URL: %w", err)
	}
	switch {
	case at.Hostname() == "" || at.Scheme != "https" && at.Scheme != "http" || strings.HasSuffix(at.Host, ":"):
		return "", fmt.Errorf("the control plane's URL is like https://127.0.0.1:9816, not %q", at.Redacted())
	case at.User != nil:
		return "", errors.New("the control plane's URL has no user and no password: give the token by itself")
	case at.RawQuery != "" || at.Fragment != "":
		return "", errors.New("the control plane's URL has no query and no fragment")
	case at.Scheme == "http" && !loopback(at.Hostname()):
		return "", fmt.Errorf("http:// would show the token to everybody on the way to %s: use https://", at.Host)
	}
	return strings.TrimRight(at.String(), "/"), nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

func pool(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(safetext.WithoutMark(pem)) {
		return nil, errors.New("the control plane's CA has no certificate in PEM")
	}
	return roots, nil
}

// timed gives a call its deadline.
func (c *Client) timed(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}
