package pgtest_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// holdEnv makes this test program start a server, say its process id, and wait to be killed.
const holdEnv = "PGTEST_HOLD_A_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) != "" {
		server, err := pgtest.Launch(pgtest.Options{})
		if err != nil {
			panic(err)
		}
		fmt.Println(server.PID())
		select {}
	}
	m.Run()
}

func TestServerAnswersOnSocketAndPort(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{TCP: true})
	if got := server.Query(t, "select 1, current_user"); got != "1|postgres" {
		t.Errorf("over the socket: %q", got)
	}
	info, err := os.Stat(server.SocketPath)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("SocketPath: %v, %v", info, err)
	}
	got := psql(t, nil, dsn(server, "sslmode=disable"), "-Atc", "select inet_server_port()")
	if got.Stdout != strconv.Itoa(server.Port)+"\n" {
		t.Errorf("over TCP: %+v", got)
	}
}

func TestServerTakesSettingsAndHBA(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{
		TCP:      true,
		Settings: map[string]string{"max_connections": "7", "application_name": "it's"},
		HBA:      "local all all trust\nhost all all all scram-sha-256\n",
	})
	if got := server.Query(t, "select current_setting('max_connections')"); got != "7" {
		t.Errorf("max_connections: %q", got)
	}
	refused := psql(t, []string{"PGPASSWORD=wrong"}, dsn(server, ""), "-c", "select 1")
	if refused.ExitCode != 2 || !strings.Contains(refused.Stderr, "password authentication failed") {
		t.Errorf("a wrong password: %+v", refused)
	}
	allowed := psql(t, []string{"PGPASSWORD=" + pgtest.Password}, dsn(server, ""), "-Atc", "select 1")
	if allowed.Stdout != "1\n" {
		t.Errorf("the right password: %+v", allowed)
	}
}

func TestServerStartsAgainWithItsData(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	server.Query(t, "create table kept as select 42 as x")
	before := server.PID()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(before) || server.PID() != 0 {
		t.Errorf("process %d lives after Stop", before)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := server.Query(t, "select x from kept"); got != "42" {
		t.Errorf("after the restart: %q", got)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	server, err := pgtest.Launch(pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pid := server.PID()
	if err := errors.Join(server.Close(), server.Close()); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Errorf("process %d lives", pid)
	}
	if _, err := os.Stat(server.SocketDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

func TestServerThatCannotStartShowsItsLog(t *testing.T) {
	server, err := pgtest.Launch(pgtest.Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		t.Fatal(server.Close())
	}
	if !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Error(err)
	}
}

func TestKilledTestTakesItsServerAlong(t *testing.T) {
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"=1")
	output, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("the holder's server: %q, %v", line, err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); alive(pid); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the test that started it", pid)
		}
	}
}

func TestClientKnowsNothingOfTheMachine(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	t.Setenv("PGUSER", "nobody_of_that_name")
	t.Setenv("PGSSLMODE", "nonsense")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	if got := server.Query(t, "select current_user"); got != pgtest.Superuser {
		t.Errorf("current_user: %q", got)
	}
	got := psql(t, []string{"PGUSER=from_the_test"}, "host="+server.SocketDir, "-c", "select 1")
	if got.ExitCode != 2 || !strings.Contains(got.Stderr, `role "from_the_test" does not exist`) {
		t.Errorf("with PGUSER of the test: %+v", got)
	}
}

func TestClientEndsWithItsContext(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := pgtest.Psql(ctx, nil, server.DSN(), "-c", "select pg_sleep(60)")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// The distribution's psql gets direct TLS from the libpq of 17, and protocol 3.2 from that of 18.
func TestEmbeddedServersAndLibpqSpeakDirectTLS(t *testing.T) {
	cert, key := selfSigned(t)
	for major, extra := range map[int]string{17: "", 18: " min_protocol_version=3.2"} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			install := pgtest.Embedded(t, major)
			server := pgtest.Start(t, pgtest.Options{Install: install, TCP: true, Cert: cert, Key: key})
			got, err := pgtest.Client{LibDir: install.LibDir}.Run(t.Context(),
				dsn(server, "sslmode=require sslnegotiation=direct"+extra), "-Atc",
				"select split_part(current_setting('server_version'), '.', 1), ssl from pg_stat_ssl where pid = pg_backend_pid()")
			if err != nil {
				t.Fatal(err)
			}
			if want := strconv.Itoa(major) + "|t\n"; got.Stdout != want {
				t.Errorf("got %+v, want %q", got, want)
			}
		})
	}
}

func psql(t *testing.T, env []string, args ...string) pgtest.Result {
	t.Helper()
	result, err := pgtest.Psql(t.Context(), env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func dsn(server *pgtest.Server, extra string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s %s", server.Port, pgtest.Superuser, pgtest.Database, extra)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour)}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}
