package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Whatever is asked, the answer is one of those that are documented, and a yes only to who has a good certificate.
func FuzzExplain(f *testing.F) {
	p := newProgram(f)
	p.apply(good)
	stranger := testpki.MustCA(f, "Strangers").MustIssue(f, testpki.Client("app"))
	certificate, err := json.Marshal(string(stranger.CertPEM))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		`{"address": "127.0.0.1", "user": "app"}`, `{"address": "::ffff:127.0.0.1%eth0", "sni": "\u0000\u202e"}`, `{"conn": "0000000000000"}`,
		`{"address": "127.0.0.1", "certificate": ` + string(certificate) + `}`, `{"address": "127.0.0.1", "certificate": "0A:0b"}`, `{}{`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		answer := httptest.NewRecorder()
		p.handler.ServeHTTP(answer, httptest.NewRequest("POST", "http://localhost/explain", strings.NewReader(body)))
		switch answer.Code {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
			return
		case http.StatusOK:
		default:
			t.Fatalf("%q is answered %d", body, answer.Code)
		}
		var e adminapi.Explanation
		if err := json.Unmarshal(answer.Body.Bytes(), &e); err != nil || e.Decision != "refused" || e.Refusal == nil || len(e.Steps) != 5 {
			t.Errorf("%q is answered %v: %+v", body, err, e)
		}
		if strings.ContainsAny(e.Refusal.Text, "\x1b\x00\u202e") {
			t.Errorf("%q is answered with what acts on a terminal: %q", body, e.Refusal.Text)
		}
	})
}
