package tlsconf

import (
	"strings"
	"testing"
)

func TestGODEBUGThatWeakensTLSIsRefused(t *testing.T) {
	for value, want := range map[string]string{
		"":                                  "",
		"gctrace=1":                         "",
		"tls10server=0":                     "",
		"tlsmlkem=1,rsa1024min=1":           "",
		"tlsmaxrsasize=4096":                "",
		"fips140=on":                        "",
		"tls10server=1":                     "GODEBUG tls10server=1 allows TLS 1.0 and 1.1; remove it from the environment",
		"gctrace=1,tlsrsakex=1":             "tlsrsakex=1",
		" tls3des=1 ":                       "tls3des=1",
		"x509sha1=1#2":                      "x509sha1=1",
		"tlssha1=1,tlssha1=0":               "tlssha1=1",
		"rsa1024min=0":                      "rsa1024min=0",
		"tlsmlkem=0":                        "tlsmlkem=0",
		"tlsmaxrsasize=16384":               "tlsmaxrsasize=16384",
		"x509negativeserial=1":              "x509negativeserial=1",
		"tls10server=1,tls3des=1,gctrace=1": "tls10server=1 allows TLS 1.0 and 1.1; remove it from the environment\nGODEBUG tls3des=1",
	} {
		err := CheckGODEBUG(value)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", value, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", value, err, want)
		}
	}
}
