// Package agent delivers the policies of one database to a proxy on a machine where no daemon of the control plane is:
// it enrols once with a one-time token, holds a stream to the control plane open, gives each policy that comes to a
// policysync.Syncer, and sends back what the proxy says.
//
// It decides nothing and renders nothing. When the control plane is away the proxy keeps what it has, and what somebody
// edits in its directory is still put right. The agent never goes back to an older generation of a policy, whoever
// offers it.
//
// It stands at the other end of apiserver's agent paths. What it keeps is in one directory: its key and certificate,
// which were made here and whose key never leaves, and the newest generation that it has had.
package agent
