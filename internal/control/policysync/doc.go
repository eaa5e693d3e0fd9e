// Package policysync delivers a policy to one proxy on this machine, and reports what the proxy says of it: applied,
// in force, refused.
//
// It does not know what a policy means, who changed it or where it is kept, and it talks to no other machine. It
// renders nothing: the files come with their final names and bytes, and one rename of policy.yaml is the only moment
// at which anything changes for the proxy.
//
// It stands at the end of the control plane: the registry renders an [api.Policy], the daemon beside a proxy, or the agent beside
// one elsewhere, gives it to a [Publisher], and the [api.Report] goes back.
package policysync
