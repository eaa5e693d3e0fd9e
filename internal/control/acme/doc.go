// Package acme gets server certificates from public certificate authorities by ACME (RFC 8555), keeps them in the
// store, and renews them before they end.
//
// It is the protocol, the challenges by DNS, and the order machine. It is not the place that knows what a certificate
// is for: a [Certificate] has names and a space, and the registry takes the newest [Leaf] of one into the policy of a
// database. It stands above docstore, and below the registry.
//
// An order is a record in the store. Each step is one commit, and then at most one effect outside: a request to the
// authority, or a change in the DNS. A process that is killed anywhere loses at most the order that it was just asking
// for, and the next leader goes on with the step that was committed last. A TXT record is written down before it is
// made, so that whoever goes on removes it. All of it runs on the leader only ([Manager.Run]), and would do no harm on
// two: every commit has the revisions of what it changes as its conditions.
//
// What authorities and name servers answer is not trusted: it is bounded in size and in time, URLs must be of the
// directory's host, and a chain is stored only when key, names, dates, order and strength are right.
package acme
