package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// AnyHost in [Options.Hosts] takes every host.
const AnyHost = "*"

// checkHost refuses a request that was sent to another name than the server's.
// A web page may make its own name resolve to this machine (DNS rebinding): the
// browser then takes the server for the page's origin, and only the name tells.
// An address is no name, nobody else can resolve it; and a request without a
// Host comes from no browser.
func (s *Server) checkHost(r *http.Request) error {
	host := hostName(r.Host)
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	for _, allowed := range s.options.Hosts {
		if allowed == AnyHost || host == hostName(allowed) {
			return nil
		}
	}
	return refuse(kindHost, "the server does not answer to the host that was asked")
}

// hostName returns the name in host or host:port as names are compared: in
// lower case, without the dot of the root.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
