package apiserver

import (
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policysync"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/registry"
)

// newProxy takes a proxy that is to be registered. One beside the daemon makes the daemon write files, perhaps as
// root, and ask an address: both only where the daemon's own operator has said so, whatever the API's callers may do.
func (c *call) newProxy(asks api.NewProxy) (registry.NewProxy, error) {
	if asks.PolicyDir == "" && asks.Admin == "" {
		if asks.Node != "" {
			return registry.NewProxy{}, invalid("node requires a policy_dir; a proxy with an agent has no node")
		}
		return registry.NewProxy{Name: asks.Name, Metrics: asks.Metrics}, nil
	}
	if asks.PolicyDir == "" || asks.Admin == "" {
		return registry.NewProxy{}, invalid("a proxy beside the daemon needs both policy_dir and admin; one with an agent needs neither")
	}
	if asks.Node != "" && asks.Node != c.server.node {
		return registry.NewProxy{}, invalid("this daemon is the node %s and can't check directories of another node; send the request to the daemon of %s", c.server.node, problem.Quote(asks.Node))
	}
	admin, err := config.ParseAddress(asks.Admin)
	if err == nil {
		err = admin.CheckLocal()
	}
	if err != nil {
		return registry.NewProxy{}, invalid("admin: %s", err)
	}
	dir, err := policysync.Below(c.server.roots, asks.PolicyDir)
	if err != nil {
		return registry.NewProxy{}, invalid("policy_dir: %s", err)
	}
	return registry.NewProxy{Name: asks.Name, Node: c.server.node, PolicyDir: dir, Admin: admin.String(), Metrics: asks.Metrics}, nil
}
