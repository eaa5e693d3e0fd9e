package control

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// heroku makes of a caller what clients of Heroku's data API are: the token is the password of Basic with an empty
// user, and Accept and User-Agent are theirs.
func heroku(w *web, token string) *web {
	w.dress = func(r *http.Request) {
		r.SetBasicAuth("", token)
		r.Header.Set("Accept", "application/vnd.heroku+json; version=3.sdk")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("User-Agent", "heroku-cli")
	}
	return w
}

// newShop is a plane with the database shop, whose mutual TLS is not enabled, and a client of Heroku's.
func newShop(t *testing.T) (*plane, *front, *web) {
	p := configured(t, nil)
	f := newFront(t, p.policyDir(t, "shop"))
	w := heroku(p.web(t, ""), p.admin(t))
	body := fmt.Sprintf(`{"name": "shop", "hosts": ["localhost"], "proxies": [{"name": "beside", "policy_dir": %q, "admin": %q}]}`, f.PolicyDir, f.Admin)
	w.gets(t, http.StatusCreated, "POST /v1/databases", body, nil)
	return p, f, w
}

const (
	endpointPath = "/postgres/v0/databases/shop/tls-endpoint"
	rulesPath    = endpointPath + "/ip-rules"
	certsPath    = endpointPath + "/certificates"

	endpointFields    = "app addon status enabled_by active_ip_rules certificate_authority_chain"
	ruleFields        = "id cidr description status created_at updated_at"
	certificateFields = "id name status created_at updated_at expires_at"
)

func TestLifeAsHerokusClientsLeadIt(t *testing.T) {
	t.Parallel()
	_, f, w := newShop(t)
	w.refused(t, http.StatusNotFound, "GET "+endpointPath, "mutual TLS")
	var endpoint, rule, certificate fields
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "", &endpoint) // with an empty body
	endpoint.has(t, endpointFields)
	if endpoint.text("addon") != "shop" || endpoint.text("status") != "Provisioning" {
		t.Errorf("got %v", endpoint)
	}
	endpoint = w.polled(t, endpointPath, "status", "Operational")

	w.gets(t, http.StatusCreated, "POST "+rulesPath, `{"cidr": "127.0.0.0/8", "description": "This machine"}`, &rule)
	rule.has(t, ruleFields)
	if rule.text("status") != "Authorizing" || rule.text("cidr") != "127.0.0.0/8" || rule.text("description") != "This machine" {
		t.Errorf("got %v", rule)
	}
	moment(t, rule.text("created_at"))
	w.polled(t, rulesPath+"/"+rule.text("id"), "status", "Authorized")
	w.refuses(t, "POST "+rulesPath, `{"cidr": "127.0.0.0/8"}`)
	w.refuses(t, "POST "+rulesPath, `{"cidr": "10.0.0.1/8"}`)

	for i := range 59 {
		w.rule(t, fmt.Sprintf("10.0.0.%d/32", i), "")
	}
	w.refuses(t, "POST "+rulesPath, `{"cidr": "198.51.100.1/32"}`) // the 61st

	w.gets(t, http.StatusCreated, "POST "+certsPath, "", &certificate)
	certificate.has(t, certificateFields, "serial")
	if status := certificate.text("status"); status != "pending" && status != "ready" {
		t.Errorf("got %v", certificate)
	}
	path := certsPath + "/" + certificate.text("id")
	certificate = w.polled(t, path, "status", "ready")
	certificate.has(t, certificateFields+" private_key certificate_with_chain", "serial")
	v := filesOf(t, f, certificate, endpoint)
	v.comesIn(t)

	var list []fields
	w.gets(t, http.StatusOK, "GET "+certsPath, "", &list)
	if len(list) != 2 || list[1].text("id") != certificate.text("id") || list[0]["private_key"] != nil || list[1]["private_key"] != nil {
		t.Errorf("got %v, want two without keys, the oldest first", list)
	}
	live := v.converse(t)
	w.gets(t, http.StatusAccepted, "DELETE "+path, "", &certificate)
	if certificate.text("status") != "disabling" {
		t.Errorf("got %v", certificate)
	}
	w.polled(t, path, "status", "404")
	live.wasEnded(t, "revoked")
	w.gets(t, http.StatusOK, "GET "+certsPath, "{}", &list)
	if len(list) != 2 || list[1].text("status") != "disabled" {
		t.Errorf("got %v, want the disabled one in its place", list)
	}

	w.gets(t, http.StatusAccepted, "DELETE "+endpointPath, "", &endpoint)
	if endpoint.text("status") != "Deprovisioning" {
		t.Errorf("got %v", endpoint)
	}
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "", &endpoint) // right after
	w.polled(t, endpointPath, "status", "Operational")
	w.gets(t, http.StatusOK, "GET "+rulesPath, "", &list)
	if len(list) != 0 {
		t.Errorf("got the rules %v of the one before", list)
	}
	w.gets(t, http.StatusAccepted, "DELETE "+endpointPath, "", nil)
	w.polled(t, endpointPath, "status", "404")
	v.staysOut(t, "")
}

// refuses wants 422 for a body.
func (w *web) refuses(t testing.TB, request, body string) {
	t.Helper()
	var said struct{ ID, Message string }
	w.gets(t, http.StatusUnprocessableEntity, request, body, &said)
	if said.ID != "invalid_params" || said.Message == "" {
		t.Errorf("%s %s: got %+v", request, body, said)
	}
}

// filesOf writes the files of psql from what the API has answered.
func filesOf(t testing.TB, f *front, certificate, endpoint fields) visitor {
	t.Helper()
	dir := t.TempDir() + string(filepath.Separator)
	writeFile(t, dir+"postgresql.crt", certificate.text("certificate_with_chain"))
	writeFile(t, dir+"postgresql.key", certificate.text("private_key"))
	writeFile(t, dir+"root.crt", endpoint.text("certificate_authority_chain"))
	if _, err := tls.LoadX509KeyPair(dir+"postgresql.crt", dir+"postgresql.key"); err != nil {
		t.Error(err)
	}
	return visitor{front: f, files: dir}
}

// A provider of Terraform creates ten things at a time, polls each, reads all of them back to see whether they are what
// was declared, replaces what has changed, and destroys everything.
func TestSequenceOfATerraformProvider(t *testing.T) {
	t.Parallel()
	_, _, w := newShop(t)
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "{}", nil)
	w.polled(t, endpointPath, "status", "Operational")
	var mu sync.Mutex
	declared := map[string]fields{} // by CIDR
	atOnce := func(n int, each func(i int)) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { each(i) })
		}
		all.Wait()
	}
	create := func(i int) {
		cidr := fmt.Sprintf("198.51.100.%d/32", i)
		got, err := w.send(http.MethodPost, rulesPath, fmt.Sprintf(`{"cidr": %q, "description": "number %d"}`, cidr, i))
		if err != nil || got.status != http.StatusCreated {
			t.Errorf("create %s: %d %s %v", cidr, got.status, got.body, err)
			return
		}
		rule := decoded(t, got.body)
		rule = w.reaches(t, rulesPath+"/"+rule.text("id"), "Authorized")
		mu.Lock()
		defer mu.Unlock()
		declared[cidr] = rule
	}
	const rules = 10
	atOnce(rules, create)
	reconcile := func() {
		t.Helper()
		var list []fields
		w.gets(t, http.StatusOK, "GET "+rulesPath, "", &list)
		for cidr, rule := range declared {
			i := slices.IndexFunc(list, func(f fields) bool { return f.text("id") == rule.text("id") })
			if i < 0 || list[i].text("cidr") != cidr || list[i].text("description") != rule.text("description") || list[i].text("status") != "Authorized" {
				t.Errorf("%s is not as declared in %v", cidr, list)
			}
		}
		if len(list) != len(declared) {
			t.Errorf("%d rules, declared were %d", len(list), len(declared))
		}
	}
	reconcile()
	// Replaced: deleted, awaited, and created with the same network.
	destroy := func(i int) {
		cidr := fmt.Sprintf("198.51.100.%d/32", i)
		mu.Lock()
		path := rulesPath + "/" + declared[cidr].text("id")
		delete(declared, cidr)
		mu.Unlock()
		got, err := w.send(http.MethodDelete, path, "")
		if err != nil || got.status != http.StatusAccepted && got.status != http.StatusOK {
			t.Errorf("delete %s: %d %s %v", cidr, got.status, got.body, err)
			return
		}
		w.reaches(t, path, "404")
	}
	atOnce(3, func(i int) { destroy(i); create(i) })
	reconcile()
	atOnce(rules, destroy)
	reconcile()
	w.gets(t, http.StatusAccepted, "DELETE "+endpointPath, "", nil)
	w.polled(t, endpointPath, "status", "404")
	w.gets(t, http.StatusNoContent, "DELETE /v1/databases/shop", "", nil)
}

// reaches is [web.polled] for a goroutine of its own: it gives up in place of ending the test.
func (w *web) reaches(t testing.TB, path, status string) fields {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var seen answer
	for {
		var err error
		if seen, err = w.send(http.MethodGet, path, ""); err != nil {
			t.Error(err)
			return nil
		}
		if status == "404" && seen.status == http.StatusNotFound {
			return nil
		}
		if object := decoded(t, seen.body); seen.status == http.StatusOK && object.text("status") == status {
			return object
		}
		select {
		case <-deadline.C:
			t.Errorf("%s is %d %s, and not %s", path, seen.status, seen.body, status)
			return nil
		case <-tick.C:
		}
	}
}
