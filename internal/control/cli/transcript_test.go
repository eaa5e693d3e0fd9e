package cli_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the transcripts as they are now")

// Each file in testdata is a page of the manual: commands behind "$", or behind "tty$" on a terminal, with what they
// print. Lines of standard error begin with "! ", and an exit code other than 0 stands last.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			answers := pages[name]
			if answers == nil {
				t.Fatal("the page has no answers")
			}
			got := play(newWorld(t, answers()), string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("this differs; if it is meant to: go test ./internal/control/cli -run Transcripts -update\n%s", difference(string(text), got))
			}
		})
	}
}

// Every line of a table on a terminal fits it, unless it is asked for in full.
func TestTablesFitTheTerminal(t *testing.T) {
	for line := range strings.Lines(must(os.ReadFile("testdata/tables.txt"))) {
		command, tty := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "tty$ ")
		if !tty || strings.Contains(command, "--wide") {
			continue
		}
		for shown := range strings.Lines(session(newWorld(t, tablePages()), command, true)) {
			shown = regexp.MustCompile(`␛\[[0-9]*m`).ReplaceAllString(strings.TrimSuffix(shown, "\n"), "")
			if width := utf8.RuneCountInString(shown); width > 80 {
				t.Errorf("%s: %d columns: %s", command, width, shown)
			}
		}
	}
}

func must(text []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(text)
}

// play runs the commands of a page, and gives the page as it is now.
func play(w *world, page string) string {
	var got strings.Builder
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		command, tty := strings.CutPrefix(line, "tty$ ")
		command, plain := strings.CutPrefix(command, "$ ")
		switch {
		case strings.HasPrefix(line, "# "):
			fmt.Fprintln(&got, line)
		case tty || plain:
			if got.Len() > 0 && !strings.HasSuffix(got.String(), "\n\n") && !strings.HasPrefix(lastLine(got.String()), "# ") {
				fmt.Fprintln(&got)
			}
			fmt.Fprintln(&got, line)
			got.WriteString(session(w, command, tty))
		}
	}
	return got.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	return lines[len(lines)-1]
}

func session(w *world, command string, tty bool) string {
	command, input, _ := strings.Cut(command, " < ")
	w.tty, w.stdin = tty, input+"\n"
	command = strings.ReplaceAll(command, "/home/me", w.dir)
	result := w.run(words(command)[1:]...)
	var got strings.Builder
	got.WriteString(result.stdout)
	for line := range strings.Lines(result.stderr) {
		fmt.Fprint(&got, "! "+line)
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(&got)
		}
	}
	if result.code != 0 {
		fmt.Fprintf(&got, "exit %d\n", result.code)
	}
	return got.String()
}

// words splits a command line as a shell does, for the quotes that the pages use.
func words(line string) []string {
	var found []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			found = append(found, part)
			continue
		}
		found = append(found, strings.Fields(part)...)
	}
	return found
}

// difference shows the first line that differs, with what is around it.
func difference(want, got string) string {
	wanted, found := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wanted), len(found)) {
		if i >= len(wanted) || i >= len(found) || wanted[i] != found[i] {
			return fmt.Sprintf("line %d\nwant:\n%s\ngot:\n%s", i+1,
				strings.Join(wanted[min(i, len(wanted)):min(i+6, len(wanted))], "\n"),
				strings.Join(found[min(i, len(found)):min(i+6, len(found))], "\n"))
		}
	}
	return ""
}
