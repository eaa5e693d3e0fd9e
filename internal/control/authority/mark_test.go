package authority

import (
	"bytes"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Files that were saved on Windows begin with a byte order mark.
func TestMarkInFrontOfAFileIsSkipped(t *testing.T) {
	marked := func(text []byte) []byte { return append([]byte("\ufeff"), text...) }
	certPEM, keyPEM := outside(t, testpki.Authority("intermediate"))
	if _, err := ParseCA(marked(certPEM), marked(keyPEM)); err != nil {
		t.Error(err)
	}
	if _, err := ParseCA(marked(marked(certPEM)), keyPEM); err == nil {
		t.Error("two marks are skipped")
	}
}

func TestFilesThatWereJoinedWithoutALineBreakAreTold(t *testing.T) {
	certPEM, keyPEM := outside(t, testpki.Authority("intermediate"))
	for _, joined := range [][]byte{
		bytes.Replace(certPEM, []byte("-----\n-----BEGIN"), []byte("----------BEGIN"), 1),
		append(bytes.TrimRight(certPEM, "\n"), keyPEM...),
	} {
		if _, err := ParseCA(joined, keyPEM); err == nil || !strings.Contains(err.Error(), "joined without a line break") || strings.Contains(err.Error(), "copy") {
			t.Errorf("got %v", err)
		}
	}
}
