package api

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Connection specifies where a database is reached.
type Connection struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	URL  string `json:"url"`      // for libpq and its kin
	JDBC string `json:"jdbc_url"` // for pgjdbc

	// Public: the host is the public one, whose certificate the roots of the system verify. PreviousURL is that of the
	// private name then, which stays valid.
	Public      bool   `json:"public"`
	PreviousURL string `json:"previous_url,omitempty"`
	// ClientCertificate: clients need one.
	ClientCertificate bool `json:"client_certificate"`
}

// The values of sslmode that make sense here.
const (
	SSLRequire    = "require"     // the server is not verified
	SSLVerifyFull = "verify-full" // it is, with its name, against the root certificate
)

// Place is what a [Connection] is made of.
type Place struct {
	Host    string // name or IP address
	Port    int
	User    string // of PostgreSQL; may be empty
	DBName  string // of PostgreSQL; may be empty
	SSLMode string // empty: verify-full
	Roots   string // file with the roots of the server's certificate; empty: the URL names none
}

// RootsBundle is the file with the roots that most Linux systems trust. [RootsSystem] has libpq 16 and later, and pgx, ask
// the system; other drivers refuse it.
const (
	RootsBundle = "/etc/ssl/certs/ca-certificates.crt"
	RootsSystem = "system"
)

// Connect writes the URLs of a place. They name no file but that of the roots: where the client's certificate lies is the
// client's to know.
func Connect(p Place) Connection {
	if p.SSLMode == "" {
		p.SSLMode = SSLVerifyFull
	}
	host := net.JoinHostPort(p.Host, strconv.Itoa(p.Port))
	query := url.Values{"sslmode": {p.SSLMode}}
	if p.Roots != "" {
		query.Set("sslrootcert", p.Roots)
	}
	// A slash needs no escape in a query, and people read the path of the roots.
	path := url.QueryEscape(p.Roots)
	readable := strings.NewReplacer("sslrootcert="+path, "sslrootcert="+strings.ReplaceAll(path, "%2F", "/"))
	libpq := url.URL{Scheme: "postgres", Host: host, Path: "/" + p.DBName, RawQuery: readable.Replace(query.Encode())}
	if p.User != "" {
		libpq.User = url.User(p.User)
		query.Set("user", p.User) // pgjdbc ignores the user part of the authority
	}
	// The scheme of a JDBC URL has a colon in it, which net/url knows no way to write. %20 is a space to everybody, a
	// plus to some.
	jdbc := url.URL{Host: host, Path: "/" + p.DBName, RawQuery: strings.ReplaceAll(readable.Replace(query.Encode()), "+", "%20")}
	return Connection{Host: p.Host, Port: p.Port, URL: libpq.String(), JDBC: "jdbc:postgresql:" + jdbc.String()}
}
