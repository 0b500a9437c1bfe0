package server

import (
	"context"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/engramdb/engram/server/internal/limit"
)

// A stream that its client opens and resets costs the client a few bytes, and the
// server all that comes before a handler (CVE-2023-44487). A connection is closed
// where, of the streams that its client opens within abandonedWindow, it does not
// wait for more than maxAbandoned, nor for half of them. Of a client that waits for
// all, no more than maxStreams are under way.
const (
	abandonedWindow = time.Second
	maxAbandoned    = 2 * maxStreams
)

// meteredListener accepts connections that are metered, as many as there may be.
type meteredListener struct{ boundedListener }

func (l meteredListener) Accept() (net.Conn, error) {
	conn, err := l.boundedListener.Accept()
	if err != nil {
		return nil, err
	}
	return &meteredConn{Conn: conn, address: addressOf(conn.RemoteAddr().String()), counted: l.server.underWay.connections}, nil
}

// meteredConn counts the streams of a connection. They find it by the address of
// their peer, which passes through TLS and gRPC.
type meteredConn struct {
	net.Conn

	address string // of the client, by which it is counted
	counted *limit.Shares[string]
	left    sync.Once

	mu      sync.Mutex // guards the fields below
	since   time.Time
	opened  int // since then
	pending int // of them, without those that the client waited for
	closed  bool
}

type meteredAddr struct {
	net.Addr

	conn *meteredConn
}

// Close counts the connection as ended. gRPC may close it more than once.
func (c *meteredConn) Close() error {
	c.left.Do(func() { c.counted.Return(c.address, 1) })
	return c.Conn.Close()
}

func (c *meteredConn) RemoteAddr() net.Addr { return meteredAddr{c.Conn.RemoteAddr(), c} }

// meteredOf returns the connection of a stream; it is nil where the listener is
// another.
func meteredOf(ctx context.Context) *meteredConn {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return nil
	}
	addr, _ := p.Addr.(meteredAddr)
	return addr.conn
}

// open counts a stream, and reports whether the connection takes it. first: it is
// the one that closes it.
func (c *meteredConn) open(now time.Time) (taken, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= abandonedWindow {
		c.since, c.opened, c.pending = now, 0, 0
	}
	c.opened++
	c.pending++
	first = !c.closed && c.pending > max(maxAbandoned, c.opened/2)
	c.closed = c.closed || first
	return !c.closed, first
}

// waited takes back a stream whose end the client has waited for.
func (c *meteredConn) waited() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending--
}

// admitStream is asked for each stream before anything else is done for it.
func (s *Server) admitStream(ctx context.Context, _ *tap.Info) (context.Context, error) {
	ctx = newArriving(ctx)
	conn := meteredOf(ctx)
	if conn == nil {
		return ctx, nil
	}
	taken, first := conn.open(time.Now())
	if first {
		s.options.Logger.Warn("connection closed: its client gives up its calls", zap.Stringer("remote", conn.Conn.RemoteAddr()))
		_ = conn.Close() // its reader says how that went
	}
	if !taken {
		return ctx, status.Error(codes.Unavailable, "the connection has been closed")
	}
	return ctx, nil
}

// streamEnded notes the end of a call that has begun.
func streamEnded(ctx context.Context) {
	if conn := meteredOf(ctx); conn != nil && ctx.Err() == nil {
		conn.waited()
	}
}
