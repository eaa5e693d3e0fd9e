package buildinfo

import (
	"maps"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersionComesFromTheReleaseThenTheModuleThenTheCommit(t *testing.T) {
	t.Parallel()
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "false"}}
	dirty := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"}}
	short := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123"}}
	for _, row := range []struct {
		name, stamped, module string
		settings              []debug.BuildSetting
		version, revision     string
	}{
		{"stamped", "v1.2.3", "v0.9.0", commit, "v1.2.3", "0123456789abcdef0123"},
		{"installed as a module", "", "v0.9.0", nil, "v0.9.0", ""},
		{"built from a commit", "", "(devel)", commit, "devel-0123456789ab", "0123456789abcdef0123"},
		{"built from changed files", "", "", dirty, "devel-0123456789ab-dirty", "0123456789abcdef0123-dirty"},
		{"a short revision", "", "", short, "devel-0123", "0123"},
		{"nothing is known", "", "", nil, "devel", ""},
	} {
		got := from(&debug.BuildInfo{Main: debug.Module{Version: row.module}, Settings: row.settings}, row.stamped)
		if got.Version != row.version || got.Revision != row.revision {
			t.Errorf("%s: %q, %q; want %q, %q", row.name, got.Version, got.Revision, row.version, row.revision)
		}
	}
}

func TestReplacedModuleIsNamedAsWhatIsLinked(t *testing.T) {
	t.Parallel()
	got := from(&debug.BuildInfo{GoVersion: "go1.26.11", Deps: []*debug.Module{
		{Path: "example.com/b", Version: "v1.0.0"},
		{Path: "example.com/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}},
	}}, "v1")
	if want := map[string]string{"example.com/b": "v1.0.0", "example.com/fork": "v1.0.1"}; !maps.Equal(got.Modules, want) {
		t.Errorf("%v, want %v", got.Modules, want)
	}
	if got, want := got.Text(), "built with go1.26.11\n  example.com/b v1.0.0\n  example.com/fork v1.0.1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadNamesTheToolchainThatRuns(t *testing.T) {
	t.Parallel()
	if got := Read("v1"); got.Go != runtime.Version() || got.Version != "v1" {
		t.Errorf("%+v", got)
	}
}
