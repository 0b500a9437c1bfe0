package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/limit"
	"github.com/engramdb/engram/server/internal/metrics"
)

// Names of the bounds on what is under way, in answers.
const (
	limitUnderWay = "caller-under-way"
	limitExports  = "caller-exports"
	limitImports  = "caller-imports"
	limitBodies   = "body-bytes"
)

// maxCallerExports bounds the exports that one caller has under way. Each keeps what the
// space was in memory, and its files, until the client has taken all of it.
const maxCallerExports = 8

// maxCallerImports bounds the imports that one caller has under way. Each keeps in memory
// what the space that it makes has there, until the client has sent all of it.
const maxCallerImports = 8

// retryUnderWay is when it may help to send again what was refused because too much
// was under way.
const retryUnderWay = time.Second

// underWay bounds what clients have under way, over all transports.
type underWay struct {
	connections *limit.Shares[string] // by address
	requests    *limit.Shares[holder]
	exports     *limit.Shares[holder]
	imports     *limit.Shares[holder]
	bodies      *limit.Shares[holder] // bytes

	refused   atomic.Uint64 // connections
	addresses clients       // from which one was refused
}

func newUnderWay(o Options) *underWay {
	return &underWay{
		connections: limit.NewShares[string](int64(o.MaxAddressConnections), int64(o.MaxConnections)),
		requests:    limit.NewShares[holder](int64(o.MaxCallerRequests), noBound),
		exports:     limit.NewShares[holder](maxCallerExports, noBound),
		imports:     limit.NewShares[holder](maxCallerImports, noBound),
		// One caller leaves room for others.
		bodies: limit.NewShares[holder](o.callerBodyBytes(), o.MaxBodyBytes),
	}
}

const noBound = 1 << 62

// figures returns how much is under way.
func (u *underWay) figures() metrics.UnderWay {
	return metrics.UnderWay{
		Connections: u.connections.Taken(), Refused: u.refused.Load(),
		Requests: u.requests.Taken(), BodyBytes: u.bodies.Taken(),
	}
}

// holder is who has something under way: a credential, or, where nobody is asked for
// one, an address.
type holder struct{ credential, address string }

// held is what one request has of what is bounded.
type held struct {
	by    holder
	as    []*limit.Shares[holder] // it counts as one of each
	bytes int64                   // of its body, or then of its answer or events
}

// take counts a request as under way, for the caller whom it has been found to be of.
func (s *Server) take(r *request, address string) error {
	if r.principal != nil && s.options.Auth != nil {
		r.held.by = holder{credential: r.principal.Name()}
	} else {
		r.held.by = holder{address: address}
	}
	return r.holdAs(s.underWay.requests, limitUnderWay)
}

// holdExport counts a request as an export until it ends.
func (s *Server) holdExport(r *request) error { return r.holdAs(s.underWay.exports, limitExports) }

// holdImport counts a request as an import until it ends.
func (s *Server) holdImport(r *request) error { return r.holdAs(s.underWay.imports, limitImports) }

// holdAs counts a request as one of them until it ends.
func (r *request) holdAs(shares *limit.Shares[holder], name string) error {
	if !shares.Take(r.held.by, 1) {
		return &limitError{kind: kindUnderWay, limit: name, wait: retryUnderWay}
	}
	r.held.as = append(r.held.as, shares)
	return nil
}

// hold counts the bytes of the body that a request has in memory now.
func (s *Server) hold(r *request, bytes int64) error {
	more := bytes - r.held.bytes
	switch {
	case more < 0:
		s.underWay.bodies.Return(r.held.by, -more)
	case !s.underWay.bodies.Take(r.held.by, more):
		return &limitError{kind: kindUnderWay, limit: limitBodies, wait: retryUnderWay}
	}
	r.held.bytes = bytes
	return nil
}

// callerBodyBytes is how much of MaxBodyBytes one caller gets.
func (o *Options) callerBodyBytes() int64 { return o.MaxBodyBytes / 2 }

// holdAnswer counts what a request is answered with until it ends, instead of its body,
// which has been read. What one caller never has room for is refused as too large.
func (s *Server) holdAnswer(r *request, bytes int64) error {
	if most := s.options.callerBodyBytes(); bytes > most {
		return &engram.LimitError{What: "bytes of an answer", Got: bytes, Max: most}
	}
	return s.hold(r, max(bytes, r.held.bytes))
}

// holdEvents counts events until they are sent, where they are long, and no more of them
// than one caller has room for.
func (s *Server) holdEvents(r *request, bytes int) error {
	if bytes <= maxUncountedBytes {
		return nil
	}
	return s.hold(r, min(int64(bytes), s.options.callerBodyBytes()))
}

// letGo gives back the bytes that a request has in memory.
func (s *Server) letGo(r *request) {
	if r.held.bytes > 0 {
		s.underWay.bodies.Return(r.held.by, r.held.bytes)
	}
	r.held.bytes = 0
}

// release gives back what a request has.
func (s *Server) release(r *request) {
	s.letGo(r)
	for _, shares := range r.held.as {
		shares.Return(r.held.by, 1)
	}
	r.held = held{}
}

// boundedListener accepts as many connections as there may be. Of one that is refused
// nothing is read: it is closed at once.
type boundedListener struct {
	net.Listener

	server *Server
}

func (l boundedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := addressOf(connection.RemoteAddr().String())
		if l.server.underWay.connections.Take(address, 1) {
			return connection, nil
		}
		l.server.underWay.refused.Add(1)
		if l.server.underWay.addresses.isNew(address) {
			l.server.options.Logger.Warn("connections are refused: there are too many", zap.String("client", address))
		}
		_ = connection.Close() // nothing was sent that could be lost
	}
}

// connectionState is told what becomes of connections that a boundedListener accepted.
func (s *Server) connectionState(connection net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		if head, ok := connection.(*headConn); ok {
			head.forget()
		}
	case http.StateClosed, http.StateHijacked:
		s.underWay.connections.Return(addressOf(connection.RemoteAddr().String()), 1)
	}
}

// addressOf returns by what name a client's address, with or without a port, is
// counted: of IPv6 the network of 64 bits, which a single client has.
func addressOf(remote string) string {
	host := clientOf(remote)
	if !strings.Contains(host, ":") {
		return host
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if address = address.Unmap(); address.Is4() {
		return address.String()
	}
	network, err := address.WithZone("").Prefix(64)
	if err != nil { // impossible: IPv6 has that many
		return host
	}
	return network.String()
}

// maxClients bounds how many clients are remembered to have been warned of: beyond
// that, a counter has to do.
const maxClients = 1024

// clients are those that the log has warned of, each of them once.
type clients struct {
	mu  sync.Mutex // guards met
	met map[string]struct{}
}

// isNew reports whether the client is met for the first time.
func (c *clients) isNew(client string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, met := c.met[client]; met || len(c.met) == maxClients {
		return false
	}
	if c.met == nil {
		c.met = map[string]struct{}{}
	}
	c.met[client] = struct{}{}
	return true
}
