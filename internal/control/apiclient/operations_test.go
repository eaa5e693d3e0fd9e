package apiclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/legacy"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// calls has a call for every operation of the description.
var calls = map[string]func(context.Context, *apiclient.Client) error{
	"getTLSEndpoint":    func(ctx context.Context, c *apiclient.Client) error { return second(c.TLSEndpoint(ctx, "db")) },
	"createTLSEndpoint": func(ctx context.Context, c *apiclient.Client) error { return second(c.CreateTLSEndpoint(ctx, "db")) },
	"deleteTLSEndpoint": func(ctx context.Context, c *apiclient.Client) error { return second(c.DeleteTLSEndpoint(ctx, "db")) },
	"listRules":         func(ctx context.Context, c *apiclient.Client) error { return second(c.Rules(ctx, "db")) },
	"createRule":        createRule,
	"getRule":           func(ctx context.Context, c *apiclient.Client) error { return second(c.Rule(ctx, "db", "r")) },
	"deleteRule":        deleteRule,
	"listCertificates":  func(ctx context.Context, c *apiclient.Client) error { return second(c.Certificates(ctx, "db")) },
	"createCertificate": createCertificate,
	"getCertificate":    func(ctx context.Context, c *apiclient.Client) error { return second(c.Certificate(ctx, "db", "c")) },
	"deleteCertificate": deleteCertificate,
	"keepCertificate":   func(ctx context.Context, c *apiclient.Client) error { return second(c.KeepCertificate(ctx, "db", "c")) },
	"getCertificateFiles": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.CertificateFiles(ctx, "db", "c"))
	},
	"listDatabases":  func(ctx context.Context, c *apiclient.Client) error { return second(c.Databases(ctx)) },
	"createDatabase": createDatabase,
	"getDatabase":    func(ctx context.Context, c *apiclient.Client) error { return second(c.Database(ctx, "db")) },
	"deleteDatabase": func(ctx context.Context, c *apiclient.Client) error { return c.DeleteDatabase(ctx, "db") },
	"addProxy": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.AddProxy(ctx, "db", api.NewProxy{Name: "p"}))
	},
	"changeProxy": func(ctx context.Context, c *apiclient.Client) error {
		address := "db1:9815"
		return second(c.ChangeProxy(ctx, "db", "p", api.ChangedProxy{Metrics: &address}))
	},
	"listTargets":         func(ctx context.Context, c *apiclient.Client) error { return second(c.Targets(ctx)) },
	"removeProxy":         func(ctx context.Context, c *apiclient.Client) error { return second(c.RemoveProxy(ctx, "db", "p")) },
	"getAcknowledgements": func(ctx context.Context, c *apiclient.Client) error { return second(c.Acknowledgements(ctx, "db")) },
	"getConnection": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.Connection(ctx, "db", apiclient.Login{User: "u", DBName: "d", SSLMode: "require", Roots: "bundle"}))
	},
	"getEnhancedCertificate": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.EnhancedCertificate(ctx, "db"))
	},
	"enableEnhancedCertificate": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.EnableEnhancedCertificate(ctx, "db"))
	},
	"disableEnhancedCertificate": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.DisableEnhancedCertificate(ctx, "db"))
	},
	"renewEnhancedCertificate": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.RenewEnhancedCertificate(ctx, "db", api.Renewal{Reason: api.KeyCompromise}))
	},
	"uploadEnhancedCertificate": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.UploadEnhancedCertificate(ctx, "db", api.UploadedCertificate{Certificate: "c", PrivateKey: "k", Host: "h"}))
	},
	"listDNSRecords": func(ctx context.Context, c *apiclient.Client) error { return second(c.DNSRecords(ctx, "db")) },
	"getACME":        func(ctx context.Context, c *apiclient.Client) error { return second(c.ACME(ctx)) },
	"rollOverACME": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.RollOverACME(ctx, "letsencrypt"))
	},
	"listSpaces": func(ctx context.Context, c *apiclient.Client) error { return second(c.Spaces(ctx)) },
	"listAuthorities": func(ctx context.Context, c *apiclient.Client) error {
		return errors.Join(second(c.Authorities(ctx, "s")), second(c.AskAuthorities(ctx, "s")))
	},
	"rotateCA": func(ctx context.Context, c *apiclient.Client) error { return second(c.RotateCA(ctx, "s")) },
	"importCA": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.ImportCA(ctx, "s", api.ImportCA{Certificate: "c", PrivateKey: "k"}))
	},
	"getCRL": func(ctx context.Context, c *apiclient.Client) error { return second(c.CRL(ctx, "s", "a")) },
	"retireCA": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.RetireCA(ctx, apiclient.Retirement{Space: "s", ID: "a", Force: true}))
	},
	"listTokens": func(ctx context.Context, c *apiclient.Client) error { return second(c.Tokens(ctx)) },
	"createToken": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.CreateToken(ctx, api.NewToken{Name: "n", Scope: api.ScopeDatabase, Database: "db", ExpiresAt: moment}))
	},
	"revokeToken": func(ctx context.Context, c *apiclient.Client) error { return c.RevokeToken(ctx, "t") },
	"listAgents":  func(ctx context.Context, c *apiclient.Client) error { return second(c.Agents(ctx)) },
	"createEnrolment": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.CreateEnrolment(ctx, api.NewEnrolment{Database: "db", Proxy: "p"}))
	},
	"revokeAgent": func(ctx context.Context, c *apiclient.Client) error { return c.RevokeAgent(ctx, "a") },
	"listAudit": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.Audit(ctx, apiclient.AuditQuery{Database: "db", Actor: "a", Action: "x", Before: "b", Limit: 5}))
	},
	"streamEvents": func(ctx context.Context, c *apiclient.Client) error {
		for _, err := range c.Events(ctx, apiclient.Following{After: "1", Database: "db"}) {
			return err
		}
		return nil
	},
	"saveSnapshot": func(ctx context.Context, c *apiclient.Client) error { return second(c.Snapshot(ctx, io.Discard)) },
	"compactStore": func(ctx context.Context, c *apiclient.Client) error { return c.CompactStore(ctx) },
	"disarmStore":  func(ctx context.Context, c *apiclient.Client) error { return c.DisarmStore(ctx) },
	"getVersion":   func(ctx context.Context, c *apiclient.Client) error { return second(c.Version(ctx)) },
	"enrollAgent": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.Enroll(ctx, api.Certify{CSR: "c"}))
	},
	"renewAgent": func(ctx context.Context, c *apiclient.Client) error {
		return second(c.Renew(ctx, api.Certify{CSR: "c"}))
	},
	"streamAgent": func(ctx context.Context, c *apiclient.Client) error {
		for _, err := range c.Stream(ctx, apiclient.Has{Generation: 3, Digest: strings.Repeat("0", 64)}) {
			return err
		}
		return nil
	},
	"report": func(ctx context.Context, c *apiclient.Client) error {
		return c.Report(ctx, api.Report{Applied: 1, AppliedAt: moment, Certificates: map[string]api.Usage{"0a": {Sessions: 1}}})
	},
	"answer": func(ctx context.Context, c *apiclient.Client) error {
		return c.Answer(ctx, "q", api.Answer{Effect: &api.Effect{OK: true, Sessions: []api.Session{{Connection: "c"}}}})
	},
}

// notAsked are operations for other clients.
var notAsked = []string{"herokuEnable", "herokuDisable", "herokuStatus", "getHealth", "getMetrics", "getOpenAPI"}

var moment = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func createRule(ctx context.Context, c *apiclient.Client) error {
	return second(c.CreateRule(ctx, "db", api.NewRule{CIDR: "192.0.2.1/32", ExpiresAt: moment}))
}

func deleteRule(ctx context.Context, c *apiclient.Client) error {
	if _, err := c.DryRunDeleteRule(ctx, "db", "r"); err != nil {
		return err
	}
	return second(c.DeleteRule(ctx, "db", "r"))
}

func createCertificate(ctx context.Context, c *apiclient.Client) error {
	return second(c.CreateCertificate(ctx, "db", api.NewCertificate{Name: "n", CSR: "c"}))
}

func deleteCertificate(ctx context.Context, c *apiclient.Client) error {
	if _, err := c.DeleteCertificate(ctx, apiclient.Deletion{Database: "db", ID: "c"}); err != nil {
		return err
	}
	return second(c.DeleteCertificate(ctx, apiclient.Deletion{Database: "db", ID: "c", After: 36 * time.Hour}))
}

func createDatabase(ctx context.Context, c *apiclient.Client) error {
	return second(c.CreateDatabase(ctx, api.NewDatabase{
		Name: "db", Hosts: []string{"h"}, Proxies: []api.NewProxy{{Name: "p", PolicyDir: "/d", Admin: "127.0.0.1:9815"}},
	}))
}

func second[T any](_ T, err error) error { return err }

func TestEveryOperationIsAskedForAsTheDescriptionSays(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	var wanted []string
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			wanted = append(wanted, operation.OperationID)
		}
	}
	for name := range calls {
		if !slices.Contains(wanted, name) {
			t.Errorf("%s is no operation", name)
		}
	}
	for _, name := range wanted {
		call, ok := calls[name]
		if !ok {
			if !slices.Contains(notAsked, name) {
				t.Errorf("nothing asks for %s", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				r.URL.Scheme, r.URL.Host = "", ""
				route, params, err := router.FindRoute(r)
				if err != nil {
					t.Errorf("%s %s: %v", r.Method, r.URL, err)
					return
				}
				if route.Operation.OperationID != name {
					t.Errorf("it asks for %s", route.Operation.OperationID)
				}
				if err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
					Request: r, PathParams: params, Route: route,
					Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
				}); err != nil {
					t.Error(err)
				}
				answer(w, route.Operation)
			})
			if err := call(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
}

// answer answers with next to nothing, of the right kind.
func answer(w http.ResponseWriter, operation *openapi3.Operation) {
	for status, response := range operation.Responses.Map() {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		code := http.StatusOK
		fmt.Sscan(status, &code)
		w.WriteHeader(code)
		switch {
		case response.Value.Content["application/json"] != nil && response.Value.Content["application/json"].Schema.Value.Type.Is("array"):
			io.WriteString(w, "[]")
		case response.Value.Content["application/json"] != nil:
			io.WriteString(w, "{}")
		case response.Value.Content["text/event-stream"] != nil:
			io.WriteString(w, ": hello\n\nid: 2\nevent: x\ndata: {\"id\":\"2\"}\n\n")
		case response.Value.Content["application/x-ndjson"] != nil:
			io.WriteString(w, `{"heartbeat":{"at":"2027-01-01T00:00:00Z"}}`+"\n")
		}
		return
	}
}

func TestSnapshotIsCopied(t *testing.T) {
	want := bytes.Repeat([]byte("etcd"), 1<<16)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(want) })
	var got bytes.Buffer
	n, err := client.Snapshot(t.Context(), &got)
	if err != nil || n != int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func TestSnapshotThatBreaksOffIsAnError(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		hangUp(t, w)
	})
	if n, err := client.Snapshot(t.Context(), io.Discard); err == nil {
		t.Fatalf("%d bytes and no error", n)
	}
}
