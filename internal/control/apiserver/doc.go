// Package apiserver answers the control plane's HTTP API: the paths of api's OpenAPI file, for people's tools, for
// clients of Heroku's data API, and for agents.
//
// It translates. Who asks, and what they may do, is access's to say; what is done, and whether it can be, is space's.
// Each route is one row of a table with its action, its bounds and its handler, and everything that is true of all
// requests (ids, limits, authentication, errors, the log, counts) is done in one place before and after. It keeps
// nothing but what waits: the open streams, which the [Server]'s Run feeds.
//
// It stands between a listener, which is its caller's, and the registry.
package apiserver
