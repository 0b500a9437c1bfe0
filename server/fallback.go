package server

import (
	"net"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

// maxWarnedClients bounds how many clients are remembered to have been warned
// of: beyond that, the counter has to do.
const maxWarnedClients = 1024

// fallbacks counts requests that named no space. A client of several tenants
// that forgets to name them mixes all of them in one space, so it is said aloud,
// once for each client.
type fallbacks struct {
	count atomic.Uint64

	mu     sync.Mutex // guards warned
	warned map[string]struct{}
}

// fallBack allows that the default space is taken, and says so.
func (s *Server) fallBack(remote, asked string) error {
	if s.options.RequireSpace {
		return refuse(kindSpaceRequired, "the request names no space")
	}
	s.fallbacks.count.Add(1)
	if client := clientOf(remote); s.fallbacks.isNew(client) {
		s.options.Logger.Warn("a client names no space and gets the default one",
			zap.String("client", client), zap.String("route", asked))
	}
	return nil
}

// isNew reports whether the client is met for the first time.
func (f *fallbacks) isNew(client string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, met := f.warned[client]; met || len(f.warned) == maxWarnedClients {
		return false
	}
	if f.warned == nil {
		f.warned = map[string]struct{}{}
	}
	f.warned[client] = struct{}{}
	return true
}

// clientOf returns the address without the port, which changes with each connection.
func clientOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
