package access

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/seal"
)

func TestFirstStartMakesOneToken(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	file := filepath.Join(t.TempDir(), "admin.token")
	made, err := a.Tokens.Bootstrap(t.Context(), file)
	if err != nil || !made {
		t.Fatalf("got %t, %v", made, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	caller, err := a.Tokens.Check(t.Context(), read(t, file))
	if err != nil || caller.Kind != All || caller.Name != "admin" {
		t.Errorf("got %+v, %v", caller, err)
	}
	// It is done once, whatever becomes of the token and of its file.
	make1(t, a, NewToken{Name: "mine", Kind: All})
	if _, err := a.Tokens.Revoke(t.Context(), caller.ID); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if made, err := a.Tokens.Bootstrap(t.Context(), file); made || err != nil {
		t.Errorf("the second start: %t, %v", made, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the second start wrote a file")
	}
}

func TestWhoHasLostEveryTokenGetsAnother(t *testing.T) {
	a := newSite(t).open(t)
	file := filepath.Join(t.TempDir(), "admin.token")
	if _, err := a.Tokens.Bootstrap(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	lost := read(t, file)
	token, err := a.Tokens.Recover(t.Context(), file)
	if err != nil || token.Kind != All {
		t.Fatalf("got %+v, %v", token, err)
	}
	if caller, err := a.Tokens.Check(t.Context(), read(t, file)); err != nil || caller.ID != token.ID {
		t.Errorf("got %+v, %v", caller, err)
	}
	if _, err := a.Tokens.Check(t.Context(), lost); err != nil { // it may not be lost but stolen: its owner revokes it
		t.Errorf("the first token: %v", err)
	}
	if _, err := a.Tokens.Recover(t.Context(), filepath.Join(t.TempDir(), "none", "admin.token")); err == nil {
		t.Error("a token without a file was made")
	}
	if tokens, err := a.Tokens.List(t.Context()); err != nil || len(tokens) != 2 {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
}

func TestOfDaemonsThatStartTogetherOneMakesTheToken(t *testing.T) {
	site := newSite(t)
	files := make([]string, 8)
	made := make([]bool, len(files))
	errs := make([]error, len(files))
	var racing sync.WaitGroup
	for i := range files {
		files[i] = filepath.Join(t.TempDir(), "admin.token")
		racing.Go(func() {
			a, err := Open(t.Context(), site.options())
			if err != nil {
				errs[i] = err
				return
			}
			made[i], errs[i] = a.Tokens.Bootstrap(t.Context(), files[i])
		})
	}
	racing.Wait()
	winners := 0
	a := site.open(t)
	for i, file := range files {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		_, err := os.Stat(file)
		if made[i] != (err == nil) {
			t.Errorf("daemon %d: made %t, and its file: %v", i, made[i], err)
		}
		if made[i] {
			winners++
			if _, err := a.Tokens.Check(t.Context(), read(t, file)); err != nil {
				t.Error(err)
			}
		}
	}
	if winners != 1 {
		t.Errorf("%d made it", winners)
	}
}

func TestDaemonThatDiedBeforeTheTokenWasGoodMakesAnother(t *testing.T) {
	a := newSite(t).open(t)
	file := filepath.Join(t.TempDir(), "admin.token")
	_, lost, _ := newSecret()
	if err := writeToken(file, lost); err != nil {
		t.Fatal(err)
	}
	if made, err := a.Tokens.Bootstrap(t.Context(), file); !made || err != nil {
		t.Fatalf("got %t, %v", made, err)
	}
	if _, err := a.Tokens.Check(t.Context(), read(t, file)); err != nil {
		t.Error(err)
	}
}

func TestTokenThatCannotBeWrittenIsNotMade(t *testing.T) {
	a := newSite(t).open(t)
	made, err := a.Tokens.Bootstrap(t.Context(), filepath.Join(t.TempDir(), "missing", "admin.token"))
	if made || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %t, %v", made, err)
	}
	if tokens, err := a.Tokens.List(t.Context()); err != nil || len(tokens) != 0 {
		t.Errorf("there are %v, %v", tokens, err)
	}
}

func TestDaemonsShareOneControlCA(t *testing.T) {
	site := newSite(t)
	texts := make([]string, 4)
	var racing sync.WaitGroup
	for i := range texts {
		racing.Go(func() {
			if a, err := Open(t.Context(), site.options()); err == nil {
				texts[i] = a.Control.CertificatePEM()
			}
		})
	}
	racing.Wait()
	for _, text := range texts {
		if text == "" || text != texts[0] {
			t.Fatalf("got %q and %q", text, texts[0])
		}
	}
}

func TestControlCANeedsTheMasterKey(t *testing.T) {
	site := newSite(t)
	first := site.open(t).Control.CertificatePEM()
	oldText := seal.Generate()
	other := site.options()
	other.Docs = &docstore.Docs{Store: site.docs.Store, Ring: docstoretest.Ring(t, oldText)}
	if _, err := Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), "master key file") {
		t.Errorf("with another key: %v", err)
	}
	if site.open(t).Control.CertificatePEM() != first {
		t.Error("it is another one now")
	}
}

func TestControlCAIsSealedAgainUnderANewMasterKey(t *testing.T) {
	site := newSite(t)
	old, fresh := seal.Generate(), seal.Generate()
	ring := func(text []byte) *seal.Ring { return docstoretest.Ring(t, text) }
	site.docs.Ring = ring(old)
	first := site.open(t).Control.CertificatePEM()
	site.docs.Ring = ring(append(append([]byte{}, fresh...), old...))
	site.open(t)
	site.docs.Ring = ring(fresh) // the old line is gone from the file
	if site.open(t).Control.CertificatePEM() != first {
		t.Error("it is another one now")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}
