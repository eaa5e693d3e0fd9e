// Package apiserver answers the control plane's HTTP API: the paths of api's OpenAPI file, for people's tools, for
// clients of Heroku's data API, and for agents.
//
// It only translates: package access decides who the caller is and what they may do, and package registry does the work.
// Each route is one row of a table with its action, its bounds and its handler, and everything that is true of all
// requests (ids, limits, authentication, errors, the log, counts) is done in one place before and after. It keeps
// nothing but what waits: the open streams, which the [Server]'s Run feeds.
//
// It stands between a listener, which is its caller's, and the registry.
package apiserver
