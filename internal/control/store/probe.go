package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
)

// probe tries to connect to every member, until one of them is reached. A client of etcd would keep trying, and tell
// only that the time is over: neither a name that is wrong, nor a certificate that nobody vouches for.
func probe(ctx context.Context, options Options) error {
	ctx, cancel := context.WithTimeout(ctx, options.DialTimeout)
	var probes sync.WaitGroup
	defer probes.Wait()
	defer cancel()
	results := make(chan error, len(options.Endpoints))
	for _, endpoint := range options.Endpoints {
		probes.Go(func() { results <- reach(ctx, endpoint, options.TLS) })
	}
	var failed []error
	for range options.Endpoints {
		err := <-results
		if err == nil {
			return nil
		}
		failed = append(failed, err)
	}
	return fmt.Errorf("%w; check that etcd runs there and is reachable from this host", errors.Join(failed...))
}

// reach connects to one member, and says nothing to it.
func reach(ctx context.Context, endpoint string, config *tls.Config) error {
	target, err := url.Parse(endpoint)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return fmt.Errorf("endpoint %q is not a URL such as https://10.0.0.1:2379", endpoint)
	}
	var conn net.Conn
	if target.Scheme == "https" {
		conn, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", target.Host)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", target.Host)
	}
	if err != nil {
		return fmt.Errorf("reach %s: %w", endpoint, err)
	}
	return conn.Close()
}
