package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/retry"
)

// policyName is the one file of a policy directory whose name is given; it names the others.
const policyName = "policy.yaml"

// Files is one consistent view of a policy directory: all of it stood there at one moment.
type Files struct {
	Dir      string
	Policy   *config.Policy
	Database string            // name in the control plane's header; empty: there is none
	Contents map[string][]byte // of every file that Policy names, by its path as written
	Digest   string            // SHA-256 over names and bytes, in hex
}

// PolicyPath is the path of policy.yaml, for problems that hang on no line.
func (f *Files) PolicyPath() string { return filepath.Join(f.Dir, policyName) }

// How long readDir has patience. A directory is replaced within milliseconds by who does it right; the rest is for
// who does not.
const (
	swapPause  = 20 * time.Millisecond  // between two views that differ, or lack a file
	swapTries  = 5                      // at a file that is not there
	writePause = 100 * time.Millisecond // between two views of a file that is being written
	writeHeld  = 3 * time.Second        // a file that somebody holds open and leaves unchanged is taken after this
	readLimit  = 30 * time.Second       // for all of it
)

// readDir reads a policy directory. The error is [config.Problems], with every file that is missing or not fit to be
// used and the line that names it, or the context's cause.
//
// A directory has no transactions, so a view counts when it was seen twice, from scratch, without a difference and
// without a file that somebody has open for writing. While there is none, readDir waits, up to half a minute.
func readDir(ctx context.Context, dir string) (*Files, error) {
	v, err := readView(ctx, dir)
	if err != nil {
		return nil, err
	}
	return v.result()
}

// readView is readDir for who wants to know which files a policy names that can't be used.
func readView(ctx context.Context, dir string) (*view, error) {
	return readSettled(ctx, dir, func() *view { return readOnce(dir) })
}

// readSettled looks until there is a view that counts.
func readSettled(ctx context.Context, dir string, look func() *view) (*view, error) {
	end := time.Now().Add(readLimit)
	var written string // digest of the last view with a file that was being written
	var since time.Time
	for missing := 0; ; {
		first, second := look(), look()
		pause := swapPause
		switch {
		case first.digest != second.digest:
		case second.writing != "":
			if written != second.digest {
				written, since = second.digest, time.Now()
			} else if time.Since(since) >= writeHeld {
				return second, nil
			}
			pause = writePause
		case second.missing && missing < swapTries:
			missing++
		default:
			return second, nil
		}
		if time.Now().After(end) {
			return nil, unsettled(dir, second.writing)
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func unsettled(dir, writing string) error {
	p := config.Problem{Position: config.Position{File: dir}, Message: fmt.Sprintf("has been changing for %v", readLimit),
		Fix: "write new files beside the old ones and rename them into place"}
	if writing != "" {
		p.File, p.Message = writing, fmt.Sprintf("has been written to for %v", readLimit)
	}
	return config.Problems{p}
}

// view is a policy directory as it was seen once.
type view struct {
	files    *Files
	problems config.Problems
	digest   string // of the contents and of the problems
	missing  bool   // a file was not there
	writing  string // the path of a file that was being written, or empty
}

func (v *view) result() (*Files, error) {
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	return v.files, nil
}

// readOnce reads the directory once.
func readOnce(dir string) *view {
	v := &view{files: &Files{Dir: dir, Contents: map[string][]byte{}}}
	at := resolveDirs(dir)
	path := v.files.PolicyPath()
	text, err := v.read([]string{at.policy}, publicFile)
	if err != nil {
		v.refuse(config.File{Position: config.Position{File: path}}, err)
		return v.seal(nil)
	}
	return v.follow(at, path, text)
}

// follow reads the files that the text of a policy names. File is its name in problems.
func (v *view) follow(at *resolvedDirs, file string, text []byte) *view {
	policy, err := config.ParsePolicy(file, text)
	if err != nil {
		errors.As(err, &v.problems)
		return v.seal(text)
	}
	v.files.Policy, v.files.Database = policy, config.HeaderName(text)
	lists := 0
	for _, ref := range references(policy) {
		content, err := v.read(at.candidates(ref.Path), ref.kind)
		if ref.kind == listFile {
			lists += len(content)
			if lists > maxAllLists && err == nil {
				content, err = nil, fmt.Errorf("with it the revocation lists are larger than %d MiB together", maxAllLists>>20)
			}
		}
		if err != nil {
			v.refuse(ref.File, err)
		}
		v.files.Contents[ref.Path] = content
	}
	return v.seal(text)
}

// read reads a file at the first place where it is.
func (v *view) read(candidates []string, what kind) ([]byte, error) {
	var missing error
	for _, path := range candidates {
		file, err := openAndRead(path, what)
		if errors.Is(err, fs.ErrNotExist) {
			missing = cmp.Or(missing, err)
			continue
		}
		if file.writing {
			v.writing = path
		}
		return file.text, err
	}
	v.missing = true
	return nil, missing
}

func (v *view) refuse(f config.File, err error) {
	p := config.Problem{Position: f.Position, Field: f.Field, Value: f.Path, Message: "is refused: " + err.Error()}
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Path == "":
		p.Message, p.Fix = "does not exist", "write the policy, or correct policy_dir"
	case errors.Is(err, fs.ErrNotExist):
		p.Message, p.Fix = "does not exist", "put the file into the policy directory, or correct the name"
	case errors.Is(err, fs.ErrPermission):
		p.Message, p.Fix = "can't be read", fmt.Sprintf("let the proxy's user (uid %d) read it; in a Kubernetes volume, by defaultMode: 0440 and the pod's fsGroup", os.Geteuid())
	}
	v.problems = append(v.problems, p)
}

// seal makes the digest.
func (v *view) seal(policy []byte) *view {
	hash := sha256.New()
	put := func(name string, text []byte) {
		fmt.Fprintf(hash, "%d %s %d ", len(name), name, len(text))
		hash.Write(text)
	}
	put(policyName, policy)
	for _, name := range slices.Sorted(maps.Keys(v.files.Contents)) {
		put(name, v.files.Contents[name])
	}
	if len(v.problems) > 0 {
		put("problems", []byte(v.problems.Error()))
	}
	v.digest = hex.EncodeToString(hash.Sum(nil))
	v.files.Digest = v.digest
	return v
}

// reference is a file that a policy names.
type reference struct {
	config.File
	kind kind
}

func references(p *config.Policy) []reference {
	var out []reference
	for _, f := range p.ClientCA {
		out = append(out, reference{f, publicFile})
	}
	for _, f := range p.ClientCRL {
		out = append(out, reference{f, listFile})
	}
	for _, c := range p.Certificates {
		out = append(out, reference{c.Cert, publicFile}, reference{c.Key, keyFile})
	}
	return out
}
