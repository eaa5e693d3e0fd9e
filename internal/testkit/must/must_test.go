package must

import (
	"errors"
	"testing"
)

// failure records what a test would have failed with.
type failure struct {
	testing.TB
	args []any
}

func (f *failure) Helper() {}

func (f *failure) Fatal(args ...any) { f.args = args }

func TestOnlyAnErrorFailsTheTest(t *testing.T) {
	f := failure{TB: t}
	if OK(&f, nil); f.args != nil {
		t.Errorf("no error fails the test with %v", f.args)
	}
	wrong := errors.New("wrong")
	if OK(&f, wrong); len(f.args) != 1 || f.args[0] != wrong {
		t.Errorf("the test fails with %v, want %v", f.args, wrong)
	}
}
