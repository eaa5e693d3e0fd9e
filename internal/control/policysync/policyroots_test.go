package policysync

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPolicyDirectoryMustBeBelowARootWithLinksFollowed(t *testing.T) {
	top := t.TempDir()
	mkdir := func(parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{top}, parts...)...)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to string, parts ...string) string {
		t.Helper()
		path := filepath.Join(append([]string{top}, parts...)...)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, inside, outside := mkdir("root"), mkdir("root", "orders"), mkdir("outside")
	mkdir("root-of-another", "orders")
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rootByLink := link(root, "link-to-root")
	for name, test := range map[string]struct {
		dir  string
		want string // the directory that is used; empty: refused
	}{
		"inside":                         {inside, inside},
		"inside, not there yet":          {filepath.Join(root, "new"), filepath.Join(root, "new")},
		"by a link to the root":          {filepath.Join(rootByLink, "orders"), inside},
		"a link inside to inside":        {link(inside, "root", "again"), inside},
		"with a slash behind":            {inside + "/", inside},
		"the root itself":                {root, ""},
		"outside":                        {outside, ""},
		"a name that begins like a root": {filepath.Join(top, "root-of-another", "orders"), ""},
		"up and out":                     {root + "/../outside", ""},
		"a link to outside":              {link(outside, "root", "way-out"), ""},
		"below a link to outside":        {filepath.Join(root, "way-out", "x"), ""},
		"a link to nothing":              {link(filepath.Join(outside, "none"), "root", "dangling"), ""},
		"two levels that are not there":  {filepath.Join(root, "a", "b"), ""},
		"a file":                         {file, ""},
		"relative":                       {"root/orders", ""},
		"empty":                          {"", ""},
		"with a zero byte":               {inside + "\x00", ""},
		"too long":                       {"/" + strings.Repeat("a/", 3000), ""},
		"a system directory":             {"/etc", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Below([]string{filepath.Join(top, "missing"), root}, test.dir)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	if _, err := Below(nil, inside); err == nil || !strings.Contains(err.Error(), "agent") {
		t.Errorf("without roots: %v", err)
	}
}
