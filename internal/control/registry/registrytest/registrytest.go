// Package registrytest makes registries on real stores for the tests of the packages above the registry.
package registrytest

import (
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
)

// Admin is who changes things in tests.
var Admin = audit.Actor{Name: "admin"}

// World is a registry with what it stands on, as a daemon has it, with the machine's clock.
type World struct {
	*registry.Registry
	Docs    *docstore.Docs
	Trail   *audit.Trail
	Queries *proxyquery.Queries
	Log     zerolog.Logger
}

// New returns a world on a store of its own, which ends with the test. It logs into the test's log.
func New(t testing.TB) World {
	t.Helper()
	return On(docstoretest.Open(t), docstoretest.Log(t))
}

// On returns a world on a store that is open, as of one more daemon. Change may set more options.
func On(docs *docstore.Docs, log zerolog.Logger, change ...func(*registry.Options)) World {
	w := World{Docs: docs, Log: log, Trail: audit.New(docs, nil), Queries: proxyquery.New(proxyquery.Options{Docs: docs, Log: log})}
	options := registry.Options{
		Docs: docs, Audit: w.Trail, Log: log, Ask: w.Queries.Reports,
		Outbox: outbox.New(outbox.Options{Docs: docs, Audit: w.Trail, Log: log}),
	}
	for _, f := range change {
		f(&options)
	}
	w.Registry = registry.New(options)
	return w
}
