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
	defaultPort        = 15432
	defaultAdminPort   = 9815
	defaultControlPort = 9816
)

// options is what the user chooses, in environment variables: make passes them on.
type options struct {
	port        int    // of the proxy: DEMO_PORT
	adminPort   int    // of its admin address: DEMO_ADMIN_PORT
	controlPort int    // of the control plane's API: DEMO_CONTROL_PORT
	once        bool   // end after the steps: ONCE=1
	root        string // the directory for everything that the demo writes: .demo in the repository
	colour      bool
}

func optionsFrom(ctx context.Context, getenv func(string) string) (options, error) {
	o := options{once: getenv("ONCE") != "" && getenv("ONCE") != "0"}
	for _, port := range o.ports() {
		var err error
		if *port.number, err = portFrom(getenv, port); err != nil {
			return options{}, err
		}
	}
	// go.mod stands at the root of the repository, wherever in it the demo was started.
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return options{}, fmt.Errorf("go env GOMOD: %w", err)
	}
	o.root = filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), ".demo")
	return o, nil
}

// port is one of those that the demo needs.
type port struct {
	what, variable string
	standard       int
	number         *int
}

func (o *options) ports() []port {
	return []port{
		{"the proxy", "DEMO_PORT", defaultPort, &o.port},
		{"the admin address", "DEMO_ADMIN_PORT", defaultAdminPort, &o.adminPort},
		{"the control plane", "DEMO_CONTROL_PORT", defaultControlPort, &o.controlPort},
	}
}

func portFrom(getenv func(string) string, p port) (int, error) {
	text := getenv(p.variable)
	if text == "" {
		return p.standard, nil
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return 0, fmt.Errorf("%s is %q; it must be a port, a number from 1 to 65535", p.variable, text)
	}
	return int(number), nil
}

// checkPorts gives an error for a port that can't be had. Who has the proxy's port also has the directory that
// is named after it, so this comes before anything is written.
func (o options) checkPorts() error {
	var problems []error
	for _, want := range o.ports() {
		listener, err := net.Listen("tcp", loopback(*want.number))
		if err == nil {
			defer listener.Close() // after the others, so that two equal ports are noticed
			continue
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.New("another program uses it, perhaps another demo")
		}
		problems = append(problems, fmt.Errorf("port %d, for %s, can't be used: %w; choose another: make demo %s=NUMBER",
			*want.number, want.what, err, want.variable))
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
