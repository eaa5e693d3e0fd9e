package peers

import (
	"os"
	"testing"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/testkit/testpki"
)

func site(t *testing.T) Site {
	t.Helper()
	ca := testpki.MustCA(t, "CA")
	return Site{
		Dir: t.TempDir(), Port: 5432, Backend: "/tmp/db", Socket: ".s.PGSQL.5432", CA: ca.PEM(),
		Server: ca.MustIssue(t, testpki.Server("localhost")), Rules: 60, Sessions: 300,
	}
}

func TestTheProxysFilesAreWhatItReads(t *testing.T) {
	s := site(t)
	if _, err := configureProxy(s); err != nil {
		t.Fatal(err)
	}
	if cfg, err := config.LoadProxy(s.path("proxy.yaml")); err != nil || cfg.Limits.Sessions != s.Sessions || cfg.Backend.Address != s.socketPath() {
		t.Errorf("proxy.yaml says %+v, %v", cfg, err)
	}
	text, err := os.ReadFile(s.path("policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if policy, err := config.ParsePolicy("policy.yaml", text); err != nil || len(policy.IPRules) != s.Rules {
		t.Errorf("policy.yaml says %+v, %v", policy, err)
	}
}

func TestVersionsAreFoundInWhatProgramsPrint(t *testing.T) {
	for printed, want := range map[string]string{
		"PgBouncer 1.18.0\nlibevent 2.1.12-stable\n":                 "1.18.0",
		"nginx version: nginx/1.22.1":                                "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://":     "2.6.12-1+deb12u4",
		"stunnel 5.68 on x86_64-pc-linux-gnu platform":               "5.68",
		"pgmtls-proxy dcf985f-dirty\n":                               "dcf985f-dirty",
		"pgmtls-proxy v1.2.0-3-gdcf985f\n":                           "1.2.0-3-gdcf985f",
		"Initializing inetd mode configuration\nstunnel 5.68 on x86": "5.68",
	} {
		if got := versionText.FindString(printed); got != want {
			t.Errorf("in %q it is %q", printed, got)
		}
	}
}

func TestAProgramThatIsNotHereIsAnError(t *testing.T) {
	kind := Kind{Name: "x", program: "no-such-program-here"}
	if _, err := kind.Version(); err == nil {
		t.Error("it has a version")
	}
	if _, err := kind.Start(site(t)); err == nil {
		t.Error("it starts")
	}
}
