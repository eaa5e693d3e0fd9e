package policy

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/safetext"
)

// Draft is the text of a policy.yaml that is not in the directory.
type Draft struct {
	Name string // in problems
	Text []byte
}

// Try reads and builds a draft as if it stood in the policy directory, with the files that lie there, and puts nothing
// in force. The error is [config.Problems], or the context's cause.
func (k *Reloader) Try(ctx context.Context, draft Draft) (*Snapshot, error) {
	name := safetext.Escape(draft.Name, maxName)
	v, err := readSettled(ctx, k.Dir, func() *view {
		v := &view{files: &Files{Dir: k.Dir, Contents: map[string][]byte{}}}
		return v.follow(resolveDirs(k.Dir), name, draft.Text)
	})
	if err != nil {
		return nil, err
	}
	files, err := v.result()
	if err != nil {
		return nil, err
	}
	return k.Builder.Build(files, k.Live.Current(), time.Now())
}

// ProblemsIn lists what a policy was refused for. An error of another kind gives none.
func ProblemsIn(err error) []config.Problem {
	var problems config.Problems
	errors.As(err, &problems)
	return problems
}
