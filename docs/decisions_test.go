package docs_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var decisionHead = regexp.MustCompile(`^# (\d+)\. (.+)\n\n- Status: (.+)\n- Date: (\d{4}-\d\d-\d\d)\n\n`)

func TestEveryDecisionHasAStatusAndADate(t *testing.T) {
	paths, err := filepath.Glob("decisions/[0-9]*.md")
	if err != nil || len(paths) < 17 {
		t.Fatalf("%d decisions: %v", len(paths), err)
	}
	var index []string
	for _, path := range paths {
		name := filepath.Base(path)
		head := decisionHead.FindStringSubmatch(read(t, path))
		if head == nil {
			t.Errorf("%s does not begin with its number and title, a status and a date", name)
			continue
		}
		number, title, status, date := head[1], head[2], head[3], head[4]
		if !strings.HasPrefix(name, strings.Repeat("0", 4-len(number))+number+"-") {
			t.Errorf("%s is decision %s", name, number)
		}
		if _, err := time.Parse(time.DateOnly, date); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if word, _, _ := strings.Cut(status, " "); !strings.Contains("accepted; superseded withdrawn", word) {
			t.Errorf("%s has the status %q", name, status)
		}
		index = append(index, "| "+number+" | ["+title+"]("+name+") | "+status+" | "+date+" |")
	}
	var listed []string
	for line := range strings.Lines(read(t, "decisions/README.md")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| | ") {
			listed = append(listed, line)
		}
	}
	same(t, "decisions/README.md", listed, index)
}
