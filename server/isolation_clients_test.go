package server

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// isolationClients are the clients of a host's tenants, and A's streams of events:
// what is alike on every wire.
type isolationClients struct {
	*isolationHost

	wire isolationWire

	mu       sync.Mutex // guards the map
	tenants  map[int]*isolationTenant
	name     string           // of A's space; empty: there is none
	standing *isolationStream // A's
	stale    *isolationStream // of the space that A has deleted
}

// isolationWire is how the clients reach the server.
type isolationWire interface {
	Do(op ni.Op) string // as [ni.Driver] has it
	connect()
	disconnect()
	// subscribe opens a stream, and names an incarnation that is not empty.
	subscribe(t *isolationTenant, space string, after uint64, incarnation string) *isolationStream
}

// isolationTenant is what the client of one tenant keeps in mind.
type isolationTenant struct {
	number  int
	turn    int      // how many requests there were
	stalled []func() // each lets go of what is being read
}

func (t *isolationTenant) letGo() {
	for _, end := range t.stalled {
		end()
	}
	t.stalled = nil
}

func newIsolationClients(
	room *isolationRoom, now func() time.Time, serve func(*Server, context.Context, net.Listener) error, wire isolationWire,
) *isolationClients {
	return &isolationClients{isolationHost: newIsolationHost(room, now, serve), wire: wire, tenants: make(map[int]*isolationTenant)}
}

func (c *isolationClients) tenant(op *ni.Op) *isolationTenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants[op.Tenant] == nil {
		c.tenants[op.Tenant] = &isolationTenant{number: op.Tenant}
	}
	return c.tenants[op.Tenant]
}

// created notes the space that was created.
func (c *isolationClients) created(t *isolationTenant, op *ni.Op, text, incarnation string) string {
	c.note(op.Tenant, isolationTokens{incarnation: incarnation})
	if op.Tenant == 0 {
		c.name = op.Space
		c.standing = c.wire.subscribe(t, op.Space, 0, "")
	}
	return c.pin(text, "")
}

// renamed notes the new name of the space.
func (c *isolationClients) renamed(op *ni.Op) {
	if op.Tenant == 0 {
		c.name = op.Other
	}
}

// deleted notes that the space is no longer there.
func (c *isolationClients) deleted(op *ni.Op) {
	if op.Tenant == 0 {
		c.stale.close()
		c.stale, c.standing, c.name = c.standing, nil, ""
	}
}

// events reads what is there behind the position: of somebody else than A the
// first event, since in a damaged space it is not known what there is.
func (c *isolationClients) events(t *isolationTenant, op *ni.Op) string {
	incarnation := ""
	if t.turn%3 == 0 {
		incarnation = c.own(op.Tenant).incarnation
	}
	s := c.wire.subscribe(t, op.Space, op.After, incarnation)
	defer s.close()
	seq := c.seq(op.Space)
	switch {
	case s.ended || op.After >= seq:
		return s.pin(s.head, "")
	case op.Tenant > 0:
		return s.next()
	}
	return strings.Join(s.upTo(seq), "")
}

// Follow implements [ni.Driver].
func (c *isolationClients) Follow() []string {
	if c.name == "" {
		return nil
	}
	seq := c.seq(c.name)
	events := c.standing.upTo(seq)
	// One that would follow into the space's successor has something to show by now.
	if c.stale != nil && c.stale.last < seq {
		events = append(events, c.stale.next())
		c.stale.close()
		c.stale = nil
	}
	return events
}

// restart ends the server as it does by itself, and starts another one.
func (c *isolationClients) restart() {
	c.hangUp()
	c.stop()
	c.start()
	c.wire.connect()
	if c.standing != nil {
		c.standing = c.wire.subscribe(c.tenants[0], c.name, c.standing.last, "")
	}
}

// hangUp ends what the clients have open. The server would wait for it.
func (c *isolationClients) hangUp() {
	for _, t := range c.tenants {
		t.letGo()
	}
	c.stale.close()
	c.stale = nil
	c.standing.close()
	c.wire.disconnect()
}

// Press implements [ni.Driver]. Sleep is the library's.
func (*isolationClients) Press() {}

// Close implements [ni.Driver].
func (c *isolationClients) Close() ni.Remains {
	var remains ni.Remains
	if c.name != "" {
		op := ni.Op{Space: c.name}
		for _, op.Kind = range []ni.Kind{ni.Figures, ni.List, ni.Verify, ni.Export} {
			remains.View = append(remains.View, c.wire.Do(op))
		}
		c.server.Drain()
		remains.View = append(remains.View, c.standing.rest())
	}
	c.hangUp()
	c.stop()
	remains.Shared = c.remains()
	return remains
}

// isolationStream is a stream of events, which is read as far as it is known to
// go. A nil one has nothing.
type isolationStream struct {
	source isolationEvents // nil: it was refused
	pin    func(text, cursor string) string
	head   string // to be shown with what is read first
	last   uint64 // seq
	ended  bool
}

// isolationEvents are the events of a stream as they come.
type isolationEvents interface {
	// read returns all that was sent of the next event, and its seq; without more,
	// all of how the stream ended.
	read() (text string, seq uint64, more bool)
	close()
}

// next returns all that was sent of the next event.
func (s *isolationStream) next() string {
	text := s.head
	s.head = ""
	if !s.ended {
		event, seq, more := s.source.read()
		text += event
		if more {
			s.last = seq
		}
		s.ended = !more
	}
	return s.pin(text, "")
}

// upTo returns what comes until the seq is reached or the stream ends.
func (s *isolationStream) upTo(seq uint64) []string {
	var events []string
	for s != nil && !s.ended && s.last < seq {
		events = append(events, s.next())
	}
	return events
}

// rest returns all that comes until the stream ends, which it is about to.
func (s *isolationStream) rest() string {
	if s == nil {
		return ""
	}
	text := s.next()
	for !s.ended {
		text += s.next()
	}
	return text
}

func (s *isolationStream) close() {
	if s != nil && s.source != nil {
		s.source.close()
	}
}
