package control

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// keyMarks are what every private key of P-256 has in it, whoever's it is, in the forms in which it could lie about:
// the PEM header, PKCS #8 in DER and in base64, and SEC 1 in DER.
var keyMarks = [][]byte{
	[]byte("PRIVATE KEY"),
	{0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20},
	[]byte("BG0wawIBAQQg"),
	{0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20},
}

// mayHaveKey names the files that are there to hold a private key: a proxy's own, and an agent's.
var mayHaveKey = regexp.MustCompile(`^(server-[0-9a-f]{16}\.key|agent\.json)$`)

// mayHaveToken names the files that are there to hold a token.
var mayHaveToken = regexp.MustCompile(`^(admin|agent)\.token$`)

// leavesNoSecret looks at every byte that daemon, agent and proxies have on disk. What they logged was looked at when
// they ended.
func (w *wreck) leavesNoSecret(t *testing.T) {
	t.Helper()
	var key fields
	w.gets(t, http.StatusCreated, "POST "+certsPath, "", &key)
	w.gets(t, http.StatusOK, "GET "+certsPath+"/"+key.text("id"), "", &key)
	if text := []byte(key.text("private_key")); !bytes.Contains(text, keyMarks[0]) || !bytes.Contains(text, keyMarks[2]) {
		t.Fatal("the marks do not find a private key")
	}
	w.plane.stop(t) // what is in memory only must not be missed
	master := []byte(strings.TrimSpace(readFile(t, filepath.Join(w.Dir, "master.key"))))
	files, keys := 0, 0
	for _, root := range []string{w.Dir, w.agent.State, filepath.Dir(w.agent.State), w.edge.PolicyDir, filepath.Dir(w.edge.config), filepath.Dir(w.beside.config)} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			files++
			private := false
			for _, mark := range keyMarks {
				if bytes.Contains(text, mark) {
					private = true
				}
			}
			if private {
				keys++
				if !mayHaveKey.MatchString(entry.Name()) {
					t.Errorf("%s has a private key in clear", path)
				}
			}
			if token.Match(text) && !mayHaveToken.MatchString(entry.Name()) {
				t.Errorf("%s has a token in clear", path)
			}
			if bytes.Contains(text, master) && entry.Name() != "master.key" {
				t.Errorf("%s has the master key in it", path)
			}
			if secret := private || token.Match(text) || entry.Name() == "master.key"; secret && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if files < 15 || keys < 2 {
		t.Errorf("only %d files, %d of them with keys, were looked at", files, keys)
	}
}
