// Pgmtls is the control plane of pgmtls-proxy: the daemon that keeps databases, rules and certificates, the agent
// that delivers to a proxy elsewhere, and the command line that asks the daemon.
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
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
	}))
}
