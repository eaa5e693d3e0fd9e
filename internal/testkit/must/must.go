// Package must ends a test at once when a step that it builds on fails.
package must

import "testing"

// OK fails the test at once unless err is nil. It must be called from the test's own goroutine.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
