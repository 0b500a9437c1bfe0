package server

import (
	"bytes"
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// memoryListener accepts connections within the process, each of a client with an
// address of its own.
type memoryListener struct {
	address net.TCPAddr
	clients atomic.Int32
	dialed  chan net.Conn
	closed  context.Context //nolint:containedctx // ends with the listener
	close   context.CancelFunc
}

// newMemoryListener returns the number-th listener, whose address no other has.
func newMemoryListener(number uint32) *memoryListener {
	l := &memoryListener{
		address: net.TCPAddr{IP: net.IPv4(127, byte(number>>16), byte(number>>8), byte(number)), Port: 80},
		dialed:  make(chan net.Conn),
	}
	l.closed, l.close = context.WithCancel(context.Background())
	return l
}

// Addr implements [net.Listener].
func (l *memoryListener) Addr() net.Addr { return &l.address }

// Close implements [net.Listener].
func (l *memoryListener) Close() error {
	l.close()
	return nil
}

// Accept implements [net.Listener].
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialed:
		return conn, nil
	case <-l.closed.Done():
		return nil, net.ErrClosed
	}
}

// dial returns a client's end of a new connection.
func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client := l.address
	client.Port = 1024 + int(l.clients.Add(1))
	up, down := newMemoryQueue(), newMemoryQueue()
	select {
	case l.dialed <- &memoryConn{reads: up, writes: down, local: &l.address, remote: &client}:
		return &memoryConn{reads: down, writes: up, local: &client, remote: &l.address}, nil
	case <-l.closed.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memoryConn is one end of a connection. It takes what is written at once, however
// much of it nobody has read.
type memoryConn struct {
	reads, writes *memoryQueue
	local, remote net.Addr
}

func (c *memoryConn) Read(p []byte) (int, error)         { return c.reads.read(p) }
func (c *memoryConn) Write(p []byte) (int, error)        { return c.writes.write(p) }
func (c *memoryConn) LocalAddr() net.Addr                { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr               { return c.remote }
func (c *memoryConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { return c.reads.until(t) }
func (c *memoryConn) SetWriteDeadline(_ time.Time) error { return nil }

// Close implements [net.Conn]. The other end reads what was written before.
func (c *memoryConn) Close() error {
	c.reads.abandon()
	c.writes.finish()
	return nil
}

// memoryQueue is what goes in one direction.
type memoryQueue struct {
	mu        sync.Mutex // guards the fields below
	changed   sync.Cond
	waiting   bytes.Buffer // what was written and not read
	finished  bool         // by the writer
	abandoned bool         // by the reader
	deadline  time.Time    // of the reader; zero: none
	alarm     *time.Timer  // at the deadline
}

func newMemoryQueue() *memoryQueue {
	q := &memoryQueue{}
	q.changed.L = &q.mu
	return q
}

func (q *memoryQueue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.abandoned:
			return 0, net.ErrClosed
		case !q.deadline.IsZero() && !time.Now().Before(q.deadline):
			return 0, os.ErrDeadlineExceeded
		case q.waiting.Len() > 0 || q.finished:
			return q.waiting.Read(p) // io.EOF where it is empty
		}
		q.changed.Wait()
	}
}

func (q *memoryQueue) write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.abandoned || q.finished {
		return 0, net.ErrClosed
	}
	q.changed.Broadcast()
	return q.waiting.Write(p)
}

// until sets the reader's deadline.
func (q *memoryQueue) until(t time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deadline = t
	q.silence()
	if left := time.Until(t); left > 0 {
		q.alarm = time.AfterFunc(left, q.changed.Broadcast)
	}
	q.changed.Broadcast()
	return nil
}

func (q *memoryQueue) silence() {
	if q.alarm != nil {
		q.alarm.Stop()
	}
}

func (q *memoryQueue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished = true
	q.changed.Broadcast()
}

func (q *memoryQueue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.abandoned = true
	q.silence()
	q.waiting.Reset()
	q.changed.Broadcast()
}
