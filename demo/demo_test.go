package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The whole demo, as make demo ONCE=1 runs it.
func TestDemoDoesWhatItSaysAndLeavesNothingRunning(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a PostgreSQL and builds the proxy")
	}
	o := options{port: freePort(t), adminPort: freePort(t), once: true, root: t.TempDir()}
	var out bytes.Buffer
	err := run(t.Context(), o, &out)
	text := out.String()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}

	if good := strings.Count(text, "\n✓ "); good != len(steps) || strings.Contains(text, "✗") {
		t.Errorf("%d of %d steps have a good verdict:\n%s", good, len(steps), text)
	}
	if strings.Contains(text, "\x1b") {
		t.Error("there are colours in what is no terminal")
	}
	if err := o.checkPorts(); err != nil {
		t.Errorf("a port is still in use: %v", err)
	}
	ended := regexp.MustCompile(`\(process (\d+)\) has ended`).FindAllStringSubmatch(text, -1)
	if len(ended) != 2 || !strings.Contains(text, "has ended, with exit code 0.") {
		t.Errorf("proxy and PostgreSQL did not both end well:\n%s", text)
	}
	for _, match := range ended {
		pid, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
}

func TestFailedStepIsCountedAndTheRestGoesOn(t *testing.T) {
	var out bytes.Buffer
	d := &demo{show: &printer{out: &out}}
	failed := d.play(t.Context(), []step{
		{"wrong", func(context.Context, *demo) (string, error) { return "fine", errors.New("it was not refused") }},
		{"right", func(context.Context, *demo) (string, error) { return "fine", nil }},
	})
	want := "\n== 1. wrong\n✗ it was not refused\n\n== 2. right\n✓ fine\n"
	if failed != 1 || out.String() != want {
		t.Errorf("%d failed:\n%s", failed, out.String())
	}
}

func TestBusyPortIsNamedWithTheVariableThatChoosesAnother(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options{port: taken.Addr().(*net.TCPAddr).Port, adminPort: freePort(t), once: true, root: t.TempDir()}
	var out bytes.Buffer
	err = run(t.Context(), o, &out)
	want := "port " + strconv.Itoa(o.port) + ", for the proxy, can't be used: another program has it, perhaps another demo; choose another: make demo DEMO_PORT=NUMBER"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.state()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of whoever has the port was touched: %v", err)
	}
}

func TestOnePortForBothIsRefused(t *testing.T) {
	port := freePort(t)
	err := options{port: port, adminPort: port}.checkPorts()
	if err == nil || !strings.Contains(err.Error(), "DEMO_ADMIN_PORT=") {
		t.Errorf("%v", err)
	}
}

func TestOptionsComeFromTheEnvironment(t *testing.T) {
	environment := map[string]string{"ONCE": "1", "DEMO_PORT": "6000"}
	getenv := func(name string) string { return environment[name] }
	o, err := optionsFrom(t.Context(), getenv)
	if err != nil || !o.once || o.port != 6000 || o.adminPort != defaultAdminPort || !strings.HasSuffix(o.root, "/.demo") {
		t.Errorf("%+v, %v", o, err)
	}
	environment["DEMO_PORT"] = "65536"
	if _, err := optionsFrom(t.Context(), getenv); err == nil || !strings.Contains(err.Error(), `DEMO_PORT is "65536"`) {
		t.Errorf("%v", err)
	}
}

func TestCommandsCanBePasted(t *testing.T) {
	var out bytes.Buffer
	p := &printer{out: &out}
	p.command("psql", "sslcert=app.crt sslkey=app.key", "-c", `\conninfo`, "it's", "it's $1", "")
	if want := `$ psql 'sslcert=app.crt sslkey=app.key' -c '\conninfo' "it's" 'it'\''s $1' ''` + "\n"; out.String() != want {
		t.Errorf("%s", out.String())
	}
}

func TestOutputIsIndentedByLinesHoweverItComes(t *testing.T) {
	var out bytes.Buffer
	w := (&printer{out: &out}).indented()
	for _, part := range []string{"one\ntw", "o\n", "\nthree"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "    one\n    two\n    \n    three"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestDifferenceShowsTheLinesOfOneTextOnly(t *testing.T) {
	if got := difference("a\nb\nc\n", "a\nx\nc\n"); got != "- b\n+ x\n" {
		t.Errorf("%q", got)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
