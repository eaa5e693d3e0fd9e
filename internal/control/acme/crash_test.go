package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
)

// leaderVariable tells this binary to be a leader that a test kills.
const leaderVariable = "PGMTLS_TEST_ACME_LEADER"

// leader is what such a process is told.
type leader struct {
	DataDir, Directory, DNS, Zone string
	KeyName, KeyAlgorithm, Secret string
	Master, Trust                 []byte
}

func TestMain(m *testing.M) {
	if text := os.Getenv(leaderVariable); text != "" {
		lead(text)
		return
	}
	m.Run()
}

// lead runs a manager until it is killed, and wants one certificate.
func lead(text string) {
	ctx := context.Background()
	log := zerolog.New(os.Stderr)
	fatal := func(err error) {
		if err != nil {
			log.Fatal().Err(err).Msg("leader")
		}
	}
	var l leader
	fatal(json.Unmarshal([]byte(text), &l))
	kept, err := store.Open(ctx, store.Options{DataDir: l.DataDir, Log: zerolog.Nop()})
	fatal(err)
	ring, err := seal.ParseRing(l.Master)
	fatal(err)
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(l.Trust)
	m, err := New(Options{Docs: &docstore.Docs{Store: kept, Ring: ring}, Log: log,
		CAs:       []CA{{Name: "pebble", Directory: l.Directory}},
		Solver:    &RFC2136{Server: l.DNS, Zone: l.Zone, Key: TSIGKey{Name: l.KeyName, Algorithm: l.KeyAlgorithm, secret: l.Secret}},
		Resolver:  Resolver{Servers: []string{l.DNS}},
		Check:     []string{l.DNS},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}},
	})
	fatal(err)
	_, err = m.Want(ctx, Want{ID: "db", Space: "acme", Names: []string{"db." + zone}})
	fatal(err)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			cert, o, err := m.read(ctx, "db")
			fatal(err)
			if cert.Reason == Issued && o == nil {
				os.Exit(0)
			}
		}
	}()
	fatal(m.Run(ctx))
}

// start starts a leader, which ends by itself when the certificate is there and its order is over.
func (l leader) start(t *testing.T, output *bytes.Buffer) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), leaderVariable+"="+string(text))
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

// openKept opens what a leader has left.
func (w *world) openKept(l leader) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	w.t.Cleanup(cancel)
	kept, err := store.Open(ctx, store.Options{DataDir: l.DataDir, Log: zerolog.Nop()})
	w.done(err)
	w.t.Cleanup(func() { kept.Close() })
	ring, err := seal.ParseRing(l.Master)
	w.done(err)
	w.ctx = ctx
	w.Manager, err = New(Options{Docs: &docstore.Docs{Store: kept, Ring: ring}, CAs: []CA{{Name: "pebble", Directory: l.Directory}}, Now: w.clock})
	w.done(err)
}

// A leader is killed at the moment at which the authority has done something, and its answer is on the way: the worst
// moment of each step. The next one goes on, with one more order at most, and the same key.
func TestALeaderThatIsKilledCostsOneOrderAtMost(t *testing.T) {
	t.Parallel()
	d := acmetest.StartDNS(t, zone)
	ca := acmetest.StartCA(t, acmetest.Options{DNS: d.Address, CAAIdentities: []string{"pebble.test"}})
	front := acmetest.StartFaults(t, ca)
	for _, c := range []struct {
		name, path string
		orders     int // that may be made
	}{
		{"at the account", acmetest.NewAccountPath, 1},
		{"at the order", acmetest.NewOrderPath, 2},
		{"at the challenges", acmetest.AuthzPath, 1},
		{"at the look at the record", acmetest.ChallengePath, 1},
		{"at the request for the certificate", acmetest.FinalizePath, 1},
		{"at the download", acmetest.CertificatePath, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := leader{DataDir: filepath.Join(t.TempDir(), "etcd"), Directory: front.Directory, DNS: d.Address, Zone: d.Zone,
				KeyName: d.KeyName, KeyAlgorithm: d.KeyAlgorithm, Secret: d.KeySecret, Master: seal.Generate(), Trust: front.CertificatePEM()}
			var output bytes.Buffer
			started := make(chan *exec.Cmd, 1)
			front.Fail(c.path, 1, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
				forward.ServeHTTP(httptest.NewRecorder(), r)
				if err := (<-started).Process.Kill(); err != nil {
					t.Error(err)
				}
				panic(http.ErrAbortHandler)
			})
			orders := front.Requests(acmetest.NewOrderPath)
			first := l.start(t, &output)
			started <- first
			_ = first.Wait()
			if status := first.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
				t.Fatalf("the leader was not killed, but %s:\n%s", first.ProcessState, output.String())
			}
			if err := l.start(t, &output).Wait(); err != nil {
				t.Fatalf("the next leader: %v\n%s", err, output.String())
			}
			w := &world{t: t, ca: ca, dns: d, moment: time.Now().UTC()}
			w.openKept(l)
			w.issued("db")
			if n := front.Requests(acmetest.NewOrderPath) - orders; n > c.orders {
				t.Errorf("%d orders", n)
			}
		})
	}
}
