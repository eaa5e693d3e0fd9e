package main

import (
	"bytes"
	"context"
	"errors"
	"io"
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
		t.Skip("it starts a PostgreSQL and builds the programs")
	}
	o := options{port: freePort(t), adminPort: freePort(t), controlPort: freePort(t), once: true, root: t.TempDir()}
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
	// Two more than run at a time: a proxy is replaced, and the control plane gets its file. The one that is killed says nothing.
	if len(ended) != 5 || strings.Count(text, "has ended, with exit code 0.") != 4 {
		t.Errorf("control plane, both proxies and PostgreSQL did not all end well:\n%s", text)
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
	o := options{port: taken.Addr().(*net.TCPAddr).Port, adminPort: freePort(t), controlPort: freePort(t), once: true, root: t.TempDir()}
	var out bytes.Buffer
	err = run(t.Context(), o, &out)
	want := "port " + strconv.Itoa(o.port) + ", for the proxy, can't be used: another program uses it, perhaps another demo; choose another: make demo DEMO_PORT=NUMBER"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(o.state()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of whoever has the port was touched: %v", err)
	}
}

func TestOnePortForTwoIsRefused(t *testing.T) {
	port := freePort(t)
	err := options{port: port, adminPort: freePort(t), controlPort: port}.checkPorts()
	if err == nil || !strings.Contains(err.Error(), "DEMO_CONTROL_PORT=") {
		t.Errorf("%v", err)
	}
}

func TestOptionsComeFromTheEnvironment(t *testing.T) {
	environment := map[string]string{"ONCE": "1", "DEMO_PORT": "6000"}
	getenv := func(name string) string { return environment[name] }
	o, err := optionsFrom(t.Context(), getenv)
	if err != nil || !o.once || o.port != 6000 || o.adminPort != defaultAdminPort || o.controlPort != defaultControlPort || !strings.HasSuffix(o.root, "/.demo") {
		t.Errorf("%+v, %v", o, err)
	}
	environment["DEMO_PORT"] = "65536"
	if _, err := optionsFrom(t.Context(), getenv); err == nil || !strings.Contains(err.Error(), `DEMO_PORT is "65536"`) {
		t.Errorf("%v", err)
	}
}

func TestCommandsCanBePasted(t *testing.T) {
	got := commandLine("psql", "sslcert=app.crt sslkey=app.key", "-c", `\conninfo`, "it's", "it's $1", "")
	if want := `psql 'sslcert=app.crt sslkey=app.key' -c '\conninfo' "it's" 'it'\''s $1' ''`; got != want {
		t.Errorf("%s", got)
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

func TestShellHasTheExportedLinesAndNothingOfTheMachine(t *testing.T) {
	t.Setenv("PGMTLS_URL", "https://elsewhere")
	t.Setenv("PGHOST", "elsewhere")
	var out bytes.Buffer
	d := &demo{options: options{root: t.TempDir()}, show: &printer{out: &out}}
	if err := os.MkdirAll(d.state(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.export("export ONE='1 and'", `export TWO="$ONE 2"`); err != nil {
		t.Fatal(err)
	}
	o, err := d.fails(t.Context(), `echo "$TWO$PGMTLS_URL$PGHOST"; exit 3`, 3, "1 and 2\n")
	if err != nil || o.text != "1 and 2\n" {
		t.Errorf("%q, %v", o.text, err)
	}
	if want := `$ echo "$TWO$PGMTLS_URL$PGHOST"; exit 3` + "\n    1 and 2\n"; out.String() != want {
		t.Errorf("%s", out.String())
	}
}

func TestCommandThatDoesSomethingElseIsAnError(t *testing.T) {
	d := &demo{options: options{root: t.TempDir()}, show: &printer{out: io.Discard}}
	if err := os.MkdirAll(d.state(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.export("export ONE=1"); err != nil {
		t.Fatal(err)
	}
	_, wrongCode := d.must(t.Context(), "exit 1")
	_, wrongText := d.must(t.Context(), "echo one", "two")
	_, success := d.fails(t.Context(), "true", 1)
	for _, err := range []error{wrongCode, wrongText, success} {
		if err == nil {
			t.Error("it was taken for what was wanted")
		}
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
