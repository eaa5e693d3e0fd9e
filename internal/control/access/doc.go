// Package access identifies the callers of the API and decides what they may do: API tokens, agents with client certificates, and the control
// CA behind the API's own certificate and those of the agents.
//
// It is no HTTP and it knows no database but by its id. It decides in one place, [Caller.May], for every kind of
// caller; apiserver asks it for each request, and does nothing that it was not told it may. The certificates of
// databases and their clients are of other authorities, those of the spaces: see space.
//
// Nothing is cached. A token or an agent that was revoked on one daemon is refused by all of them with the next
// request, and [Access.Hold] ends what is still open.
package access
