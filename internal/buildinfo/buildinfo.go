// Package buildinfo tells what a program was built from: its version, the toolchain, and the modules that are linked into it.
// It reads what the Go linker recorded and decides nothing.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Info is what a program was built from. It is part of the answers of both programs, so its JSON names are a contract.
type Info struct {
	Version  string            `json:"version"`            // never empty
	Revision string            `json:"revision,omitempty"` // the commit, with "-dirty" if files differed from it
	Go       string            `json:"go"`                 // the toolchain, like "go1.26.11"
	Modules  map[string]string `json:"modules,omitempty"`  // the version of each linked module, by its path
}

// Read returns the running program's Info. Stamped is the version that a release build sets with -ldflags; if it is empty,
// the version is the main module's, as recorded by go install, or else "devel" with the revision.
func Read(stamped string) Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{GoVersion: runtime.Version()}
	}
	return from(build, stamped)
}

func from(build *debug.BuildInfo, stamped string) Info {
	info := Info{Version: stamped, Go: build.GoVersion, Revision: revision(build.Settings)}
	for _, module := range build.Deps {
		for module.Replace != nil {
			module = module.Replace
		}
		if info.Modules == nil {
			info.Modules = make(map[string]string, len(build.Deps))
		}
		info.Modules[module.Path] = module.Version
	}
	if info.Version != "" {
		return info
	}
	info.Version = "devel"
	switch {
	case build.Main.Version != "" && build.Main.Version != "(devel)":
		info.Version = build.Main.Version
	case info.Revision != "":
		short, dirty := strings.CutSuffix(info.Revision, "-dirty")
		info.Version += "-" + short[:min(len(short), 12)]
		if dirty {
			info.Version += "-dirty"
		}
	}
	return info
}

func revision(settings []debug.BuildSetting) string {
	var commit, modified string
	for _, setting := range settings {
		switch setting.Key {
		case "vcs.revision":
			commit = setting.Value
		case "vcs.modified":
			modified = setting.Value
		}
	}
	if commit != "" && modified == "true" {
		commit += "-dirty"
	}
	return commit
}

// Text returns the lines that a version command prints after its first: the revision if it is known, the toolchain, and
// each module. Every line ends in a newline.
func (i Info) Text() string {
	var text strings.Builder
	if i.Revision != "" {
		fmt.Fprintln(&text, "revision", i.Revision)
	}
	fmt.Fprintln(&text, "built with", i.Go)
	paths := make([]string, 0, len(i.Modules))
	for path := range i.Modules {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		fmt.Fprintln(&text, " ", path, i.Modules[path])
	}
	return text.String()
}
