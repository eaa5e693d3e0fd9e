package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pgmtls-proxy/bench/control/internal/standin"
	"pgmtls-proxy/bench/internal/proc"
	"pgmtls-proxy/internal/control/api"
)

// What a run in a directory has for its stand-ins: a file with their names, and the socket on which they tell how far the
// control plane is.
const (
	standInNames = "stand-ins"
	tallySocket  = "tally"
)

// playProxies serves the stand-ins of a run in a process of their own.
func playProxies(ctx context.Context, dir string) error {
	names, err := os.Open(filepath.Join(dir, standInNames))
	if err != nil {
		return err
	}
	defer names.Close()
	b := &bench{dir: dir}
	var places []standin.Place
	for lines := bufio.NewScanner(names); lines.Scan(); {
		places = append(places, standin.Place{Dir: b.policyDir(lines.Text()), Socket: b.socket(lines.Text())})
	}
	return standin.Serve(ctx, places, filepath.Join(dir, tallySocket))
}

// startStandIns starts one process for all the names, and returns when it answers.
func (b *bench) startStandIns(ctx context.Context, names []string) error {
	if err := os.WriteFile(filepath.Join(b.dir, standInNames), []byte(strings.Join(names, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	for _, name := range names {
		if err := b.makePolicyDir(name); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if b.standIns, err = proc.Start(proc.Program{Path: self, Args: []string{"-stand-in", b.dir}, Dir: b.dir, Log: filepath.Join(b.dir, "log", "stand-ins")}); err != nil {
		return err
	}
	return until(ctx, 10*time.Millisecond, "the stand-ins answer", func(ctx context.Context) (bool, error) {
		select {
		case <-b.standIns.Exited():
			return false, fmt.Errorf("the stand-ins have ended: %s", b.standIns.LogTail())
		default:
		}
		_, err := b.asked(ctx, time.Now())
		return err == nil, nil
	})
}

// makePolicyDir makes what the daemon would make, since a proxy that starts first waits for it longer.
func (b *bench) makePolicyDir(name string) error {
	err := os.Mkdir(b.policyDir(name), 0o750)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// asked says how many stand-ins the daemon has asked for their status since a moment.
func (b *bench) asked(ctx context.Context, since time.Time) (answer standin.Asked, err error) {
	target := "http://tally/?since=" + url.QueryEscape(since.Format(time.RFC3339Nano))
	return answer, askSocket(ctx, filepath.Join(b.dir, tallySocket), target, &answer)
}

// askSocket reads a JSON answer; into may be nil.
func askSocket(ctx context.Context, socket, target string, into any) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// startProxy starts a real proxy, and returns when it answers.
func (b *bench) startProxy(ctx context.Context, name string) error {
	if err := b.makePolicyDir(name); err != nil {
		return err
	}
	text := fmt.Sprintf(`listen: ["127.0.0.1:0"]
backend: {address: %q}
policy_dir: %q
admin: %q
log: {level: warn}
`, "unix:"+filepath.Join(b.dir, "nobody"), b.policyDir(name), "unix:"+b.socket(name))
	file := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	p, err := b.start("pgmtls-proxy", name, "--config", file)
	if err != nil {
		return err
	}
	b.others = append(b.others, p)
	return until(ctx, 10*time.Millisecond, "proxy "+name+" answers", func(ctx context.Context) (bool, error) {
		select {
		case <-p.Exited():
			return false, fmt.Errorf("proxy %s has ended: %s", name, p.LogTail())
		default:
		}
		return askSocket(ctx, b.socket(name), "http://admin/livez", nil) == nil, nil
	})
}

// registered makes a database with one proxy beside the daemon, and its mutual TLS.
func (b *bench) registered(ctx context.Context, name string) error {
	return b.register(ctx, name, api.NewProxy{Name: "edge", PolicyDir: b.policyDir(name), Admin: "unix:" + b.socket(name)})
}

func (b *bench) register(ctx context.Context, name string, proxy api.NewProxy) error {
	database := api.NewDatabase{Name: name, Space: "bench", Hosts: []string{name + ".example.com"}, Proxies: []api.NewProxy{proxy}}
	if _, err := b.clients.one().CreateDatabase(ctx, database); err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	if _, err := b.clients.one().CreateTLSEndpoint(ctx, name); err != nil {
		return fmt.Errorf("create mutual TLS of %s: %w", name, err)
	}
	return nil
}

// operational waits until the mutual TLS of every database is.
func (b *bench) operational(ctx context.Context) error {
	return until(ctx, 50*time.Millisecond, "mutual TLS of every database is operational", func(ctx context.Context) (bool, error) {
		databases, err := b.clients.one().Databases(ctx)
		for _, db := range databases {
			if db.MTLS != api.Operational {
				return false, err
			}
		}
		return err == nil, err
	})
}
