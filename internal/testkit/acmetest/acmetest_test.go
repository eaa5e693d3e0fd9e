package acmetest

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// update sends one record as a dynamic update.
func update(t *testing.T, d *DNS, record, secret string) (code int) {
	t.Helper()
	rr, err := dns.NewRR(record)
	if err != nil {
		t.Fatal(err)
	}
	message := new(dns.Msg).SetUpdate(d.Zone)
	message.Insert([]dns.RR{rr})
	message.SetTsig(d.KeyName, d.KeyAlgorithm, 300, time.Now().Unix())
	client := &dns.Client{Net: "tcp", TsigSecret: map[string]string{d.KeyName: secret}}
	answer, _, err := client.Exchange(message, d.Address)
	if answer == nil {
		t.Fatal(err)
	}
	return answer.Rcode
}

func TestTheKeyOfTheZoneWritesTXTRecordsAndNothingElse(t *testing.T) {
	t.Parallel()
	d := StartDNS(t, "example.test", "db A 127.0.0.1")
	if code := update(t, d, "_acme-challenge.db.example.test. 1 TXT hello", d.KeySecret); code != dns.RcodeSuccess {
		t.Fatalf("update of a TXT record: %s", dns.RcodeToString[code])
	}
	if got := d.TXT("_acme-challenge.db.example.test"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("TXT: %q", got)
	}
	if code := update(t, d, "other.example.test. 1 A 127.0.0.2", d.KeySecret); code != dns.RcodeRefused {
		t.Errorf("update of an A record: %s", dns.RcodeToString[code])
	}
	if code := update(t, d, "x.example.test. 1 TXT x", "c29tZWJvZHkgZWxzZQ=="); code != dns.RcodeNotAuth {
		t.Errorf("update with another secret: %s", dns.RcodeToString[code])
	}
}

func TestFaultsAreInFrontOfPebbleUntilTheyAreHealed(t *testing.T) {
	t.Parallel()
	d := StartDNS(t, "example.test")
	ca := StartCA(t, Options{DNS: d.Address, CAAIdentities: []string{"pebble.test"}})
	f := StartFaults(t, ca)
	client := &http.Client{Transport: f.Client()}
	get := func() (int, string) {
		answer, err := client.Get(f.Directory)
		if err != nil {
			return 0, ""
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	f.Fail(DirectoryPath, 1, Problem(http.StatusServiceUnavailable, "serverInternal", "closed for today", "Retry-After", "7"))
	f.Fail(DirectoryPath, -1, Cut)
	if status, text := get(); status != http.StatusServiceUnavailable || !strings.Contains(text, "closed for today") {
		t.Errorf("first answer: %d %s", status, text)
	}
	if status, _ := get(); status != 0 {
		t.Errorf("second answer: %d", status)
	}
	f.Heal()
	_, text := get()
	var directory map[string]any
	if err := json.Unmarshal([]byte(text), &directory); err != nil {
		t.Fatal(err)
	}
	if url := directory["newOrder"].(string); !strings.HasPrefix(url, strings.TrimSuffix(f.Directory, DirectoryPath)) {
		t.Errorf("URLs of the directory lead past the proxy: %s", url)
	}
	if n := f.Requests(DirectoryPath); n < 3 {
		t.Errorf("%d requests were counted", n)
	}
	block, _ := pem.Decode(ca.Root(0))
	if block == nil {
		t.Fatal("the root is no PEM")
	}
	if root, err := x509.ParseCertificate(block.Bytes); err != nil || !root.IsCA {
		t.Errorf("the root is no CA certificate: %v", err)
	}
}
