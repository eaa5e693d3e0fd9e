package policy

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks bounds the links of one path, as the kernel does (MAXSYMLINKS).
const maxLinks = 40

// addWatchPaths adds to names every path whose replacement gives the path another meaning: the links on the way, the
// directory that is last before the file, and the file itself. The parents of all names have no links in them.
// Further up, only links are swapped; a directory that is moved away is found by the slow look.
func addWatchPaths(path string, names map[string]bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	done := string(filepath.Separator) // a directory without links in its path
	rest := split(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(done, rest[0])
		target, err := os.Readlink(next)
		if err != nil { // no link, or nothing there
			if len(rest) <= 2 {
				names[next] = true
			}
			done, rest = next, rest[1:]
			continue
		}
		names[next] = true
		if links++; links > maxLinks {
			return
		}
		if filepath.IsAbs(target) {
			done = string(filepath.Separator)
		}
		rest = append(split(target), rest[1:]...)
	}
}

// split returns a path's elements. An element ".." stays: filepath.Join in follow takes it away when what it leaves has no
// links.
func split(path string) []string {
	var out []string
	for _, e := range strings.Split(path, string(filepath.Separator)) {
		if e != "" && e != "." {
			out = append(out, e)
		}
	}
	return out
}
