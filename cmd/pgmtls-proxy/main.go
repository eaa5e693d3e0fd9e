// Pgmtls-proxy is the gate in front of a PostgreSQL database: it ends TLS, checks where a client comes from and which
// certificate it has, and then pipes bytes.
//
// This command parses, builds, runs and turns the outcome into an exit code. What it builds from stands in the
// internal packages.
package main

import (
	"context"
	"os"

	"pgmtls-proxy/internal/buildinfo"
)

// version is set when a release is built (-ldflags "-X main.version=v1.2.3").
var version string

// built is what this program was built from.
var built = buildinfo.Read(version)

func main() {
	os.Exit(run(context.Background(), environment{
		args:   os.Args[1:],
		getenv: os.Getenv,
		stdout: os.Stdout,
		stderr: os.Stderr,
	}))
}
