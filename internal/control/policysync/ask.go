package policysync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"pgmtls-proxy/internal/config"
)

const (
	statusTimeout = 5 * time.Second
	dryRunTimeout = 45 * time.Second // the proxy waits up to half a minute for a directory that keeps changing
	maxAnswer     = 8 << 20          // bytes
	maxHeaders    = 64 << 10         // bytes
	adminHost     = "admin"          // what the proxy lets clients of a unix socket call it (internal/admin, LocalName)
)

// inquiry is a request to the proxy's admin address.
type inquiry struct {
	method, path string
	body         []byte
	limit        time.Duration
}

// ask gives the code and the bounded body of the proxy's answer. Each request has a connection of its own: when
// a new proxy takes over, a connection that was kept would go on asking the old one.
func ask(ctx context.Context, admin config.Address, q inquiry) (code int, body []byte, err error) {
	if err := checkAdmin(admin); err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, q.method, "http://"+adminHost+q.path, bytes.NewReader(q.body))
	if err != nil {
		return 0, nil, err
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, admin.Network, admin.Address)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true, // a bound on what is sent is then one on what is read
			MaxResponseHeaderBytes: maxHeaders,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the proxy at %s: %w", admin.Address, rootCause(err))
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("read the answer of the proxy at %s: %w", admin.Address, err)
	case len(body) > maxAnswer:
		return 0, nil, fmt.Errorf("the answer of %s has more than %d MiB: is that a proxy?", admin.Address, maxAnswer>>20)
	}
	return response.StatusCode, body, nil
}

// rootCause takes off what names a URL that nobody knows: the address is named already.
func rootCause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// checkAdmin refuses addresses beyond this machine. What comes back decides what is taken for in force, and neither
// side proves who it is.
func checkAdmin(admin config.Address) error {
	switch admin.Network {
	case "unix":
		if filepath.IsAbs(admin.Address) {
			return nil
		}
		return fmt.Errorf("the admin address unix:%.200q is no absolute path", admin.Address)
	case "tcp":
		address, err := netip.ParseAddrPort(admin.Address)
		switch {
		case err != nil || address.Port() == 0:
			return fmt.Errorf("the admin address %.200q is no IP address with a port, such as 127.0.0.1:9815", admin.Address)
		case !address.Addr().Unmap().IsLoopback():
			return fmt.Errorf("the admin address %s is not on loopback, and what others could answer in the proxy's name would be believed: give the proxy's loopback address or unix socket, and run an agent beside a proxy elsewhere", admin.Address)
		}
		return nil
	}
	return fmt.Errorf("the admin address %.200q of network %.20q is neither on loopback nor a unix socket", admin.Address, admin.Network)
}
