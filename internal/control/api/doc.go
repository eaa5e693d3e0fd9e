// Package api is the words of the control plane's HTTP API: what goes over the wire, with its JSON names, the ids of
// errors, and the OpenAPI file that describes all of it.
//
// It serves nothing and asks nobody: apiserver answers with these values, apiclient, agent and cli read them. It has no
// rules of its own; what is right is registry's to say.
//
// There are two families of paths and one way for each thing. Mutual TLS, IP rules and client certificates of a
// database are under /postgres/v0, in the shape of Heroku's data API, so that its clients work; what is ours there is
// optional in requests and an additional field in answers. Everything else is under /v1.
//
// Times are RFC 3339 in UTC. A time that is not known, or will never be, is left out. {database} in a path is a name or
// an id. Lists are plain arrays.
package api

import _ "embed"

// OpenAPI is the description of the API, an OpenAPI 3.0.3 file in YAML. Do not change it.
//
//go:embed openapi.yaml
var OpenAPI []byte

// RequestIDHeader carries the id of a request: the client's own if it sends one, of 1 to 64 letters, digits, dots,
// dashes and underscores, else the server's. Answers, the server's log and the audit trail have it.
const RequestIDHeader = "X-Request-Id"

// Bounds of what is sent, in bytes.
const (
	MaxBody       = 64 << 10  // of a request
	MaxImport     = 256 << 10 // of a request that brings a certificate authority
	MaxReport     = 1 << 20   // of an agent's reports and answers
	MaxAnswer     = 16 << 20  // of an answer that is one JSON value
	MaxStreamLine = 16 << 20  // of a line of the agents' stream, with its newline
	MaxEvent      = 256 << 10 // of an event of the event stream
)

// Page limits of the audit trail.
const (
	DefaultPage = 100
	MaxPage     = 1000
)
