package api_test

import (
	"testing"

	"pgmtls-proxy/internal/control/api"
)

func TestURLsSayWhereAndHow(t *testing.T) {
	cases := []struct {
		place     api.Place
		url, jdbc string
	}{
		{api.Place{Host: "db.example.com", Port: 5432},
			"postgres://db.example.com:5432/?sslmode=verify-full",
			"jdbc:postgresql://db.example.com:5432/?sslmode=verify-full"},
		{api.Place{Host: "db.example.com", Port: 6432, User: "app", DBName: "shop", SSLMode: api.SSLRequire},
			"postgres://app@db.example.com:6432/shop?sslmode=require",
			"jdbc:postgresql://db.example.com:6432/shop?sslmode=require&user=app"},
		{api.Place{Host: "2001:db8::7", Port: 5432, User: "a@b/c d+e", DBName: "x?y z"},
			"postgres://a%40b%2Fc%20d+e@[2001:db8::7]:5432/x%3Fy%20z?sslmode=verify-full",
			"jdbc:postgresql://[2001:db8::7]:5432/x%3Fy%20z?sslmode=verify-full&user=a%40b%2Fc%20d%2Be"},
		{api.Place{Host: "db-1.pg.example.com", Port: 5432, User: "a/b", Roots: api.RootsBundle},
			"postgres://a%2Fb@db-1.pg.example.com:5432/?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt",
			"jdbc:postgresql://db-1.pg.example.com:5432/?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt&user=a%2Fb"},
		{api.Place{Host: "db-1.pg.example.com", Port: 5432, Roots: "/my roots/a&b.pem"},
			"postgres://db-1.pg.example.com:5432/?sslmode=verify-full&sslrootcert=/my+roots/a%26b.pem",
			"jdbc:postgresql://db-1.pg.example.com:5432/?sslmode=verify-full&sslrootcert=/my%20roots/a%26b.pem"},
	}
	for _, c := range cases {
		got := api.Connect(c.place)
		if got.URL != c.url {
			t.Errorf("URL of %+v:\n%s, not\n%s", c.place, got.URL, c.url)
		}
		if got.JDBC != c.jdbc {
			t.Errorf("JDBC URL of %+v:\n%s, not\n%s", c.place, got.JDBC, c.jdbc)
		}
	}
}

func TestDigestIsOfThePolicyFile(t *testing.T) {
	policy := api.Policy{Files: map[string][]byte{api.PolicyFile: []byte("abc"), "server.key": []byte("x")}}
	// FIPS 180-2, B.1
	if got := api.Digest(policy); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("digest %s", got)
	}
	if got := api.Digest(api.Policy{}); got != "" {
		t.Errorf("no policy has the digest %q", got)
	}
}
