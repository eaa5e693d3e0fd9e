package policy

import (
	"path/filepath"
	"slices"
)

// dataLink is the link that Kubernetes swaps in a volume of a ConfigMap or a Secret: the files that one sees there are
// links through it.
const dataLink = "..data"

// resolvedDirs holds where the files of a policy directory are, with every symbolic link to a directory followed once: a link
// that is swapped while files are read would give the certificate of one version and the key of another.
type resolvedDirs struct {
	dir      string
	policy   string              // path of policy.yaml
	versions []string            // where its files are looked for, in this order
	resolved map[string][]string // the same for directories inside
}

func resolveDirs(dir string) *resolvedDirs {
	p := &resolvedDirs{dir: dir, resolved: map[string][]string{}}
	base := followDir(dir)
	p.policy = filepath.Join(base, policyName)
	// policy.yaml may itself be a link into a directory that holds one version of everything.
	if real, err := filepath.EvalSymlinks(p.policy); err == nil {
		p.policy = real
	} else if real, err := filepath.EvalSymlinks(filepath.Join(dir, policyName)); err == nil {
		p.policy = real
	}
	p.versions = distinct(filepath.Dir(p.policy), base, dir)
	return p
}

// candidates are the paths at which a file of the policy may be.
func (p *resolvedDirs) candidates(path string) []string {
	inner, name := filepath.Dir(path), filepath.Base(path)
	dirs := p.versions
	if inner != "." {
		dirs = p.inner(inner)
	}
	out := make([]string, len(dirs))
	for i, d := range dirs {
		out[i] = filepath.Join(d, name)
	}
	return out
}

// inner follows a directory inside: it may be a volume of its own.
func (p *resolvedDirs) inner(name string) []string {
	dirs, known := p.resolved[name]
	if !known {
		for _, v := range p.versions {
			dirs = append(dirs, followDir(filepath.Join(v, name)))
		}
		dirs = distinct(append(dirs, filepath.Join(p.dir, name))...)
		p.resolved[name] = dirs
	}
	return dirs
}

// followDir is the directory behind all links, that of a Kubernetes volume included, or the path as it is when there
// is none.
func followDir(dir string) string {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return dir
	}
	if data, err := filepath.EvalSymlinks(filepath.Join(real, dataLink)); err == nil {
		return data
	}
	return real
}

func distinct(paths ...string) []string {
	var out []string
	for _, p := range paths {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
