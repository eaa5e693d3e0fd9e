//go:build soak

package leader

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/registry/registrytest"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Ten thousand databases with public certificates of which none is due: all that a leader does for them in two minutes,
// store included, takes little of a core, and nobody is asked for an order. The goal is 5 % of a core.
func TestTenThousandPublicCertificatesAtRest(t *testing.T) {
	const many = 10_000
	ca := acmetest.StartCA(t, acmetest.Options{DNS: "127.0.0.1:1"}) // it has nothing to validate
	faults := acmetest.StartFaults(t, ca)
	faults.Fail(acmetest.RenewalInfoPath, -1, acmetest.Answer(http.StatusOK, "application/json",
		fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, time.Now().AddDate(0, 0, 30).UTC().Format(time.RFC3339), time.Now().AddDate(0, 0, 32).UTC().Format(time.RFC3339)),
		"Retry-After", "21600"))
	docs := docstoretest.Open(t)
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	manager, err := acme.New(acme.Options{Docs: docs, CAs: []acme.CA{{Name: "pebble", Directory: faults.Directory}}, Transport: faults.Client(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	trail := audit.New(docs, nil)
	r := registry.New(registry.Options{Docs: docs, Audit: trail, Outbox: outbox.New(outbox.Options{Docs: docs, Audit: trail, Log: log}), Log: log,
		Public: registry.Public{Manager: manager, Zone: "example.test", Names: config.ACMENamesOpaque}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	fill(ctx, t, docs, r, many)

	hub := informer.New(docs, log)
	run, stop := context.WithCancel(ctx)
	work := []func(context.Context) error{hub.Run, manager.Run, r.FollowPublic, Loop{Registry: r, Hub: hub, Log: log}.Run}
	ended := make(chan error, len(work))
	for _, f := range work {
		go func() { ended <- f(run) }()
	}
	atStart := cpu(t)
	<-time.After(30 * time.Second)
	t.Logf("the start took %s of CPU in 30s", (cpu(t) - atStart).Round(time.Millisecond))
	const measured = 2 * time.Minute
	before, asked := cpu(t), faults.Requests(acmetest.RenewalInfoPath)
	<-time.After(measured)
	used := cpu(t) - before
	t.Logf("%d public certificates at rest: %.1f %% of a core, %d questions about renewal in %s", many, 100*used.Seconds()/measured.Seconds(),
		faults.Requests(acmetest.RenewalInfoPath)-asked, measured)
	if used > measured/2 {
		t.Errorf("it took %s of CPU in %s", used, measured)
	}
	if n := faults.Requests(acmetest.NewOrderPath); n != 0 {
		t.Errorf("%d orders were asked for", n)
	}
	stop()
	for range work {
		<-ended
	}
}

// cpu is what this process has used of it.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// fill makes so many databases of one that was made in the ordinary way, each with a certificate that lives 45 days more.
func fill(ctx context.Context, t *testing.T, docs *docstore.Docs, r *registry.Registry, many int) {
	t.Helper()
	if _, err := r.CreateDatabase(ctx, registrytest.Admin, registry.NewDatabase{Name: "first", Hosts: []string{"first.example.com"}}); err != nil {
		t.Fatal(err)
	}
	first, err := r.EnableEnhanced(ctx, registrytest.Admin, "first")
	if err != nil {
		t.Fatal(err)
	}
	read := func(key string) (document map[string]any) {
		item, err := docs.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(item.Value, &document); err != nil {
			t.Fatal(err)
		}
		return document
	}
	database, certificate := read("databases/"+first.ID), read("public-certificates/"+first.ID)
	authority := testpki.MustCA(t, "Public")
	now := time.Now().UTC()
	for from := 0; from < many; from += 50 {
		tx := new(store.Tx)
		for i := from; i < from+50; i++ {
			id, host := fmt.Sprintf("%s%012d", first.ID[:len(first.ID)-12], i), fmt.Sprintf("db-%d.example.test", i)
			times := map[string]any{"not_before": now.Add(-time.Hour), "not_after": now.AddDate(0, 0, 45)}
			leaf := map[string]any{"id": "leaf-" + id, "ca": "pebble", "names": []string{host}, "issuer": authority.Cert.Subject.CommonName, "serial": fmt.Sprintf("%x", i), "ari": fmt.Sprintf("aki.%d", i)}
			maps.Copy(leaf, times)
			c := maps.Clone(certificate)
			maps.Copy(c, map[string]any{"id": id, "names": []string{host}, "reason": "issued", "leaf": leaf})
			enhanced := maps.Clone(database["enhanced"].(map[string]any))
			copied := map[string]any{"id": "copy-" + id, "source": "leaf-" + id, "issuer": "Public", "serial": fmt.Sprintf("%x", i)}
			maps.Copy(copied, times)
			maps.Copy(enhanced, map[string]any{"status": "Enabled", "host": host, "names": []string{host}, "certificate": id, "leaf": copied, "announced": true})
			d := maps.Clone(database)
			maps.Copy(d, map[string]any{"id": id, "name": fmt.Sprintf("db-%d", i), "enhanced": enhanced})
			if err := docstore.Put(tx, "databases/"+id, d); err != nil {
				t.Fatal(err)
			}
			if err := docstore.Put(tx, "public-certificates/"+id, c); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := docs.Commit(ctx, tx); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.DeleteDatabase(ctx, registrytest.Admin, "first"); err != nil && !strings.Contains(err.Error(), "enhanced") {
		t.Fatal(err)
	}
}
