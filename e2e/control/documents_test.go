package control

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// walk is a reader who copies the blocks of some sections into a terminal, one after the other, on a clean machine.
type walk struct {
	name     string
	sections []section
	stdin    string   // what is typed into psql, if a block starts it
	then     []string // more that is typed at the end
	want     []string // in the output, in this order
}

type section struct{ document, heading string }

// The client of the documents is at the address that their rule allows, and the server has their name.
var walks = []walk{
	{
		name:     "a CA by hand and six lines",
		sections: []section{{"docs/install.md", "## A CA by hand"}, {"README.md", "## Six lines"}, {"docs/install.md", "## Build and check"}},
		stdin:    "select 'came in as ' || current_user;\n",
		want:     []string{"203.0.113.7/32", "came in as app"},
	},
	{
		name:     "with the control plane",
		sections: []section{{"README.md", "## With the control plane"}},
		then:     []string{`eval "$(pgmtls url orders --user app --dbname app | head -1)"`, `psql "$DATABASE_URL" -Atc "select 'came in as ' || current_user"`},
		want:     []string{"Operational", "Authorized after", "wrote", "DATABASE_URL='postgres://app@db.example.com:5432/app", "came in as app"},
	},
	{
		name:     "start",
		sections: []section{{"docs/control-plane.md", "## Start"}},
		then:     []string{`eval "$(pgmtls url shop --user app --dbname app | head -1)"`, `psql "$DATABASE_URL" -Atc "select 'came in as ' || current_user"`},
		want:     []string{"Operational", "Authorized after", "wrote", "came in as app"},
	},
}

var (
	blockPattern = regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$")
	filePattern  = regexp.MustCompile(`^# ([a-z/-]+\.yaml)\n`)
)

// blocks gives the fenced blocks of a section, up to the next heading of its level.
func (s section) blocks(t *testing.T) [][]string {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, "../../"+s.document), "\n"+s.heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", s.document, s.heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return blockPattern.FindAllStringSubmatch(text, -1)
}

// Whoever copies the commands of the documents, in order and without a change, gets what they promise.
func TestCommandsOfTheDocumentsDoWhatTheyPromise(t *testing.T) {
	t.Parallel()
	namespaces := []string{"unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Geteuid() != 0 {
		namespaces = append(namespaces, "--map-root-user")
	}
	if output, err := exec.Command(namespaces[0], append(namespaces[1:], "ip", "link", "set", "lo", "up")...).CombinedOutput(); err != nil {
		t.Skipf("this needs namespaces, with unshare and ip: %v: %s", err, output)
	}
	appDatabase(t)
	for _, w := range walks {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			var script strings.Builder
			script.WriteString(machine(t, dir))
			for _, s := range w.sections {
				ran := 0
				for _, block := range s.blocks(t) {
					ran += typed(t, &script, dir, block[1], block[2])
				}
				if ran == 0 {
					t.Errorf("%s, %s has no command", s.document, s.heading)
				}
			}
			for _, line := range w.then {
				script.WriteString(line + "\n")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			args := slices.Concat(namespaces[1:], []string{"bash", "-euo", "pipefail", "-c", script.String()})
			command := exec.CommandContext(ctx, namespaces[0], args...)
			command.Dir = dir
			command.Env = []string{"PATH=" + filepath.Join(dir, "path") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, raceOptions}
			command.Stdin = strings.NewReader(w.stdin)
			output, err := command.CombinedOutput()
			if err != nil {
				t.Fatalf("it ends with %v:\n%s\nthe commands:\n%s", err, output, &script)
			}
			says(t, string(output), w.want...)
			if strings.Contains(string(output), "DATA RACE") {
				t.Errorf("%s", output)
			}
		})
	}
}

// typed adds a block to the script, or writes the file that it is, and gives the number of blocks of commands.
func typed(t *testing.T, script *strings.Builder, dir, language, text string) int {
	t.Helper()
	if language == "yaml" {
		name := filePattern.FindStringSubmatch(text)
		if name == nil {
			return 0 // a part of a file
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name[1])), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name[1]), text)
		return 0
	}
	script.WriteString(text)
	if strings.Contains(text, " &\n") && !strings.Contains(text, "until ") {
		// A person takes longer for the next block than a program to begin to listen.
		script.WriteString("until (exec 3<>/dev/tcp/203.0.113.7/5432) 2>/dev/null; do sleep 0.1; done\n")
	}
	return 1
}

// machine is the beginning of a script that makes a clean machine of its namespaces: with the addresses and names of the
// documents, nothing in /var/lib and /run but PostgreSQL's socket in its place, and the programs as make build leaves them.
func machine(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "path")
	for _, sub := range []string{path, filepath.Join(dir, "built")} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, program := range map[string]string{"pgmtls": pgmtlsPath, "pgmtls-proxy": proxyPath} {
		for _, place := range []string{filepath.Join(path, name), filepath.Join(dir, "built", name)} {
			if err := os.Symlink(program, place); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Other tests build; make build is to leave the programs where the document has them.
	writeFile(t, filepath.Join(dir, "Makefile"), "build:\n\tmkdir -p bin && cp built/* bin/\n")
	writeFile(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost\n203.0.113.7 db.example.com\n")
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("there is no psql in PATH")
	}
	if err := os.Symlink(psql, filepath.Join(path, "psql")); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`ip link set lo up
ip address add 203.0.113.7/32 dev lo
mount --bind hosts /etc/hosts
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
mkdir /run/postgresql
ln -s %s /run/postgresql/.s.PGSQL.5432
umask 022
`, postgres.Server(t).SocketPath)
}

// Every block of commands of these documents is one of a walk's, so that none goes stale.
func TestNoCommandOfTheDocumentsIsLeftOut(t *testing.T) {
	for _, document := range []string{"README.md", "docs/install.md"} {
		walked := 0
		for _, w := range walks {
			for _, s := range w.sections {
				if s.document != document {
					continue
				}
				for _, block := range s.blocks(t) {
					if block[1] == "sh" {
						walked++
					}
				}
			}
		}
		all := 0
		for _, block := range blockPattern.FindAllStringSubmatch(readFile(t, "../../"+document), -1) {
			if block[1] == "sh" {
				all++
			}
		}
		if all == 0 || walked != all {
			t.Errorf("%s has %d blocks of commands, of which %d are run", document, all, walked)
		}
	}
}
