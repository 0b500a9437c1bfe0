package server

import (
	"net"
	"sync/atomic"

	"go.uber.org/zap"
)

// fallbacks counts requests that named no space. A client of several tenants
// that forgets to name them mixes all of them in one space, so it is said aloud,
// once for each client.
type fallbacks struct {
	count  atomic.Uint64
	warned clients
}

// fallBack allows that the default space is taken, and says so.
func (s *Server) fallBack(remote, asked string) error {
	if s.options.RequireSpace {
		return refuse(kindSpaceRequired, "the request names no space")
	}
	s.fallbacks.count.Add(1)
	if client := clientOf(remote); s.fallbacks.warned.isNew(client) {
		s.options.Logger.Warn("a client names no space and gets the default one",
			zap.String("client", client), zap.String("route", asked))
	}
	return nil
}

// clientOf returns the address without the port, which changes with each connection.
func clientOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
