package admin

import (
	"net"
	"net/http"
	"net/netip"

	"pgmtls-proxy/internal/adminapi"
)

// checkHost refuses requests that name this server by a name that is not its own. A web page can make its visitor's
// browser ask a loopback address, by a name that its owner has pointed there (DNS rebinding), and would read the answer.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.AnyHost && !local(r.Host) {
			text(w, http.StatusMisdirectedRequest, "use an IP address or localhost as the host name")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local reports whether a Host is an address, localhost or [adminapi.LocalName].
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" || host == adminapi.LocalName {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
