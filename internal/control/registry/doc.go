// Package registry is the control plane's domain: databases, the space's certificate authorities, client certificates,
// IP rules, and the state of each change, up to "in force on every proxy".
//
// A [Registry] is the one writer. Each change is one transaction of the store: the database's document, what it
// refers to, and its audit record. From the document alone [Registry.Policy] makes what a proxy reads, so the same
// generation is always the same bytes. Proxies answer with [Registry.Acknowledge], and settling that moves what they
// confirmed from Authorizing to Authorized, from disabling to disabled, and so on.
//
// It is not the API (apiserver), it knows no tokens (access), and it writes no files (policysync).
package registry
