package server

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
)

// keptHeadBytes holds a request's head: its header as bounded by net/http, and
// what that reads ahead.
const keptHeadBytes = maxHeaderBytes + 12<<10

// checkFraming refuses a request that says its length twice, by Content-Length
// and by Transfer-Encoding: a proxy that believes the one and a server that
// believes the other disagree on where the next request begins (RFC 9112,
// section 6.3). net/http believes the second and does not tell of the first, so
// the bytes themselves are asked. Where its header is not in what is known of them,
// the connection ends with the request, and with it what may be hidden behind it. So
// it does behind one of HTTP/1.0, where net/http passes over the second (section 6.1).
func (s *Server) checkFraming(x *exchange) error {
	old := !x.r.ProtoAtLeast(1, 1)
	if len(x.r.TransferEncoding) == 0 && !old {
		return nil
	}
	if old {
		x.w.Header().Set("Connection", "close")
	}
	head, _ := x.r.Context().Value(headKey{}).(*headConn)
	twice, known := head.framedTwice(x.r)
	if twice || !known {
		x.w.Header().Set("Connection", "close")
	}
	if twice {
		return refuse(kindFraming, "the request has both Content-Length and Transfer-Encoding")
	}
	return nil
}

// headListener accepts connections that keep the head of their request.
type headListener struct{ net.Listener }

func (l headListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if tcp, ok := connection.(*net.TCPConn); ok {
		// net/http wants to see connections of other kinds, TLS, as they are.
		return &headConn{TCPConn: tcp}, nil
	}
	return connection, err
}

type headKey struct{}

// withHead puts the connection where its requests find it.
func withHead(ctx context.Context, connection net.Conn) context.Context {
	if head, ok := connection.(*headConn); ok {
		return context.WithValue(ctx, headKey{}, head)
	}
	return ctx
}

// headConn keeps the last bytes that were read for a request.
type headConn struct {
	*net.TCPConn

	mu   sync.Mutex // guards tail: net/http reads while a handler runs
	tail []byte
}

func (c *headConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	p = p[max(0, n-keptHeadBytes):n]
	if len(c.tail)+len(p) > cap(c.tail) && len(c.tail) > keptHeadBytes {
		// Moved once in many reads: more is kept than is needed until then.
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-keptHeadBytes:]...)
	}
	c.tail = append(c.tail, p...)
	return n, err
}

// forget drops what was read for requests that are answered: what one of them has in
// its body says nothing of the next, which may be another client's behind a proxy. A
// byte may be of the next already: net/http waits for one while a handler runs.
func (c *headConn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-1):]...)
}

// framedTwice looks at every header that follows the request's first line in what
// was read for it. That may be in its body too, but there it is the client's own
// fault. It reports whether there is one, which a nil connection does not know.
func (c *headConn) framedTwice(r *http.Request) (twice, known bool) {
	if c == nil {
		return false, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := []byte(r.Method + " " + r.RequestURI + " " + r.Proto)
	for rest := c.tail; ; known = true {
		_, after, found := bytes.Cut(rest, first)
		if !found {
			return false, known
		}
		if saysLengthTwice(after) {
			return true, true
		}
		rest = after
	}
}

func saysLengthTwice(header []byte) bool {
	lines := bytes.Split(header, []byte("\n"))
	length, encoding := false, false
	for _, line := range lines[1:] {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		length = length || strings.EqualFold(string(name), "Content-Length")
		encoding = encoding || strings.EqualFold(string(name), "Transfer-Encoding")
	}
	return length && encoding
}
