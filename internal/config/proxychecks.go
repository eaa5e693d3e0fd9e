package config

import (
	"fmt"
	"net/netip"
	"strings"
)

func (v value) asListen() (netip.AddrPort, bool) { return v.asListenOn(5432) }

// asListenOn reads an address to serve on. The port is the one that an example in a problem shows.
func (v value) asListenOn(port int) (netip.AddrPort, bool) {
	if !v.is(scalar) {
		return netip.AddrPort{}, false
	}
	if strings.HasPrefix(v.text, "unix:") || strings.HasPrefix(v.text, "/") {
		v.refuse(complaint{"is a unix socket", fmt.Sprintf("clients come over TCP: write an address with a port, as in 0.0.0.0:%d", port)})
		return netip.AddrPort{}, false
	}
	ap, c := parseAddrPort(v.text, port)
	if c != nil {
		v.refuse(*c)
	}
	return ap, c == nil
}

func (v value) asAdmin() Address { return v.asAddress(parseAddress) }

func (v value) asAddress(parse func(string) (Address, *complaint)) Address {
	if !v.is(scalar) {
		return Address{}
	}
	a, c := parse(v.text)
	if c != nil {
		v.refuse(*c)
	}
	return a
}

// asBackend reads where PostgreSQL is. A name is looked up at every dial, so it stays a name.
func (v value) asBackend() Address {
	if !v.is(scalar) {
		return Address{}
	}
	if path, unix := strings.CutPrefix(v.text, "unix:"); unix {
		return v.asAddress(func(string) (Address, *complaint) { return parseSocket(path) })
	}
	if ap, err := netip.ParseAddrPort(v.text); err == nil && ap.Port() != 0 {
		return Address{"tcp", netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()}
	}
	host, port, hasPort := cutPort(v.text)
	addr, addrErr := netip.ParseAddr(v.text)
	switch {
	case isHostname(host) && hasPort && isPort(port):
		return Address{"tcp", host + ":" + port}
	case strings.HasPrefix(v.text, "/"):
		v.refuse(complaint{"is a path", "write unix:" + shown(v.text) + " for a unix socket"})
	case strings.Contains(v.text, "://"), strings.Contains(v.text, "="):
		v.refuseHidden("is a connection string", "write host:port only, or unix: and a path")
	case addrErr == nil:
		v.refuse(complaint{"has no port", "write " + netip.AddrPortFrom(addr, 5432).String()})
	case !hasPort && isHostname(v.text):
		v.refuse(complaint{"has no port", "write " + shown(v.text) + ":5432"})
	case hasPort && isHostname(host):
		v.refuse(complaint{"has a port that does not exist", "write a number from 1 to 65535"})
	default:
		v.refuse(complaint{"is not an address", "write it as in unix:/run/postgresql/.s.PGSQL.5432, db.internal:5432 or [2001:db8::1]:5432"})
	}
	return Address{}
}

func isPort(text string) bool {
	ap, err := netip.ParseAddrPort("0.0.0.0:" + text)
	return err == nil && ap.Port() != 0
}

func (v value) asServerName() string {
	text, ok := v.asText(textRule{1, 253, true})
	if !ok {
		return ""
	}
	if _, err := netip.ParseAddr(text); err != nil && !isHostname(text) {
		v.refuse(complaint{"is not a name", "write the DNS name or the IP address in PostgreSQL's certificate"})
		return ""
	}
	return text
}

// asProxyNetwork reads a network of balancers. One that is everywhere would let every client say who it is.
func (v value) asProxyNetwork() (netip.Prefix, bool) {
	p, ok := v.asCIDR()
	if ok && p.Bits() == 0 {
		v.refuse(complaint{"is every address: whoever connects could claim any client's", "write the balancers' own networks"})
		return netip.Prefix{}, false
	}
	return p, ok
}

// checkListen refuses an address that is bound twice. Port 0 is another port each time.
func (p *Proxy) checkListen(v value) {
	seen := map[netip.AddrPort]bool{}
	for _, ap := range p.Listen {
		if seen[ap] && ap.Port() != 0 {
			v.at("listen").refuseHidden("has "+ap.String()+" twice", "keep one")
		}
		seen[ap] = true
	}
	if admin, err := netip.ParseAddrPort(p.Admin.Address); err == nil && admin.Port() != 0 && seen[admin] {
		v.at("admin").refuseHidden("is an address of listen too", "write another port")
	}
}

// checkAdmin keeps the admin port away from other machines: it has no password.
func (p *Proxy) checkAdmin(v value) {
	if p.Admin.Network == "" || p.Admin.local() || p.AdminPublic || v.faulty("admin_public") {
		return
	}
	admin := v.at("admin")
	admin.text = p.Admin.Address
	admin.refuse(complaint{"can be reached from other machines", "write 127.0.0.1 for the address, or set admin_public: true if a firewall guards it"})
}

// check settles which of the TLS keys go together, so that none is there to no effect.
func (b *Backend) check(v value) {
	if b.TLS == "" || b.Network == "" {
		return // has its own problem
	}
	if b.TLS != BackendTLSOff && b.Network == "unix" {
		v.at("backend.tls").refuseHidden("is "+string(b.TLS)+" on a unix socket, where PostgreSQL speaks no TLS", "write tls: off")
		return
	}
	verifies := b.TLS == BackendTLSVerifyCA || b.TLS == BackendTLSVerifyFull
	if b.TLS == BackendTLSOff {
		v.without("backend.", []string{"ca", "cert", "key", "server_name"}, complaint{"has no effect with tls: off", "write tls: verify-full, or remove the key"})
		return
	}
	switch {
	case verifies && !v.has("backend.ca"):
		v.at("backend.tls").refuseHidden("is "+string(b.TLS)+" and there is no ca to verify with", "add ca: and the PEM file of the CA that issued PostgreSQL's certificate")
	case !verifies && v.has("backend.ca"):
		v.at("backend.ca").refuseHidden("has no effect with tls: require, which verifies nothing", "write tls: verify-full, or remove the key")
	}
	v.both(pair{"backend.cert", "backend.key", "the PEM file of its certificate", "the PEM file of its private key"})
	if b.ServerName == "" {
		host, _, _ := cutPort(b.Address)
		b.ServerName = strings.Trim(host, "[]")
	}
}
