// Package registry is the control plane's domain: databases, the space's certificate authorities, client certificates,
// IP rules, and the state of each change, up to "in force on every proxy".
//
// A [Registry] is the one writer. Each change is one transaction of the store: the database's document, what it
// refers to, and its audit record. From the document alone [Registry.Policy] makes what a proxy reads, so the same
// generation is always the same bytes. What a proxy says of itself comes in by [Registry.Acknowledge], and moves what it
// confirms from Authorizing to Authorized, from disabling to disabled, and so on.
//
// It is not the API (apiserver), it knows no tokens (access), it writes no files (policysync), and it tells nobody: what
// people are to know goes into the outbox, and what daemons are to know, informer sees in the store.
package registry
