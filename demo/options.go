package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The ports are outside the range from which Linux takes those of outgoing connections.
const (
	defaultPort      = 15432
	defaultAdminPort = 9815
)

// options is what the user chooses, in environment variables: make passes them on.
type options struct {
	port      int    // of the proxy: DEMO_PORT
	adminPort int    // of its admin address: DEMO_ADMIN_PORT
	once      bool   // end after the steps: ONCE=1
	root      string // the directory for everything that the demo writes: .demo in the repository
	colour    bool
}

func optionsFrom(ctx context.Context, getenv func(string) string) (options, error) {
	o := options{once: getenv("ONCE") != "" && getenv("ONCE") != "0"}
	var err error
	if o.port, err = portFrom(getenv, "DEMO_PORT", defaultPort); err != nil {
		return options{}, err
	}
	if o.adminPort, err = portFrom(getenv, "DEMO_ADMIN_PORT", defaultAdminPort); err != nil {
		return options{}, err
	}
	// go.mod stands at the root of the repository, wherever in it the demo was started.
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return options{}, fmt.Errorf("go env GOMOD: %w", err)
	}
	o.root = filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), ".demo")
	return o, nil
}

func portFrom(getenv func(string) string, name string, standard int) (int, error) {
	text := getenv(name)
	if text == "" {
		return standard, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%s is %q; it must be a port, a number from 1 to 65535", name, text)
	}
	return int(port), nil
}

// checkPorts gives an error for a port that can't be had. Who has the proxy's port also has the directory that
// is named after it, so this comes before anything is written.
func (o options) checkPorts() error {
	var problems []error
	for _, want := range []struct {
		what, variable string
		port           int
	}{{"the proxy", "DEMO_PORT", o.port}, {"the admin address", "DEMO_ADMIN_PORT", o.adminPort}} {
		listener, err := net.Listen("tcp", loopback(want.port))
		if err == nil {
			defer listener.Close() // after the other, so that two equal ports are noticed
			continue
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.New("another program has it, perhaps another demo")
		}
		problems = append(problems, fmt.Errorf("port %d, for %s, can't be used: %w; choose another: make demo %s=NUMBER",
			want.port, want.what, err, want.variable))
	}
	return errors.Join(problems...)
}

// loopback is the address with the port.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// state is the directory of this run. It is named after the port: demos on other ports have their own.
func (o options) state() string { return filepath.Join(o.root, strconv.Itoa(o.port)) }

// path is a file in the directory of this run.
func (o options) path(name ...string) string {
	return filepath.Join(append([]string{o.state()}, name...)...)
}

// isTerminal reports whether a person is likely to look at the file.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
