package store

import (
	"crypto/tls"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"pgmtls-proxy/internal/testkit/testpki"
)

// secured starts one etcd that asks for a certificate and for a password, and lets the user daemon do what it likes
// below /pgmtls/. It gives its endpoint.
func secured(t *testing.T, ca *testpki.CA) string {
	t.Helper()
	stem := filepath.Join(t.TempDir(), "etcd")
	if err := ca.MustIssue(t, testpki.Server("127.0.0.1")).Write(stem); err != nil {
		t.Fatal(err)
	}
	if err := testpki.WriteFile(stem+".ca", ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	config := embed.NewConfig()
	config.Name = "secured"
	config.Dir = filepath.Join(t.TempDir(), "data")
	config.ListenPeerUrls = nil
	config.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Host: "secured"}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.EnableGRPCGateway = false
	config.BcryptCost = 4 // the least: passwords take seconds otherwise, with the race detector
	config.ClientTLSInfo = transport.TLSInfo{
		CertFile: stem + ".crt", KeyFile: stem + ".key", TrustedCAFile: stem + ".ca", ClientCertAuth: true,
	}
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ctx := within(t)
	select {
	case <-server.Server.ReadyNotify():
	case <-ctx.Done():
		t.Fatal("etcd did not become ready")
	}

	admin := v3client.New(server.Server)
	defer admin.Close()
	const all = clientv3.PermissionType(clientv3.PermReadWrite)
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "secret of root"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "pgmtls"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "pgmtls", "/pgmtls/", clientv3.GetPrefixRangeEnd("/pgmtls/"), all)
			return err
		},
		func() error { _, err := admin.UserAdd(ctx, "daemon", "secret"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "daemon", "pgmtls"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return "https://" + server.Clients[0].Addr().String()
}

func TestStoreLogsInWithItsCertificateAndPassword(t *testing.T) {
	ca := testpki.MustCA(t, "etcd")
	endpoint := secured(t, ca)
	good := Options{
		Endpoints: []string{endpoint},
		TLS: &tls.Config{
			RootCAs:      ca.Pool(),
			Certificates: []tls.Certificate{ca.MustIssue(t, testpki.Client("")).TLS()},
		},
		Username: "daemon",
		Password: "secret",
	}
	s := open(t, good)
	start := put(t, s, "a", "1")
	commit(t, s, new(Tx).If("a", start).DeletePrefix("a").Put("b", []byte("2")))
	if got := content(t, s, ""); !slices.Equal(got, []string{"b=2"}) {
		t.Errorf("got %q", got)
	}
	for events, err := range s.Watch(within(t), "b", start) {
		if err != nil || len(events) != 1 {
			t.Errorf("%v, %v", events, err)
		}
		break
	}
	if err := s.Health(within(t)); err != nil {
		t.Error(err)
	}
	if _, err := s.Stats(within(t)); err != nil {
		t.Error(err)
	}
	var leading leaders
	arrives(t, stand(t, s, "one", &leading).elected, "the election")

	bad := good
	bad.Password = "another"
	_, err := Open(within(t), bad)
	says(t, err, "authentication failed")
	bad = good
	bad.Prefix = "/others/"
	_, err = Open(within(t), bad)
	says(t, err, "permission denied")
	bad = good
	bad.TLS = &tls.Config{Certificates: good.TLS.Certificates}
	_, err = Open(within(t), bad)
	says(t, err, "certificate signed by unknown authority")
	bad = good
	bad.TLS = &tls.Config{RootCAs: ca.Pool()}
	bad.DialTimeout = 500 * time.Millisecond
	if _, err = Open(within(t), bad); err == nil {
		t.Error("let in without a certificate")
	}
}
