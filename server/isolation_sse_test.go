package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
)

// isolationSSE is a stream of events, which is read as far as it is known to go.
// A nil one has nothing.
type isolationSSE struct {
	body  io.Closer
	lines *bufio.Reader
	pin   func(text, cursor string) string
	head  string // to be shown with what is read first
	last  uint64 // seq
	ended bool
}

// subscribe opens a stream. Where the answer is none, it is the head and the
// stream has ended.
func (d *httpDriver) subscribe(t *httpTenant, space string, query url.Values) *isolationSSE {
	after, err := strconv.ParseUint(query.Get("after"), 10, 64)
	orPanic(err)
	var header []string
	if t.turn%2 == 0 {
		header = []string{lastEventID, query.Get("after")}
	}
	target, _, header := t.address(space, &httpRequest{path: "/events", query: query, header: header})
	response, err := d.open(t, d.key(space), http.MethodGet, target, nil, header)
	if err != nil {
		return &isolationSSE{pin: d.pin, head: "error " + err.Error(), ended: true}
	}
	s := &isolationSSE{body: response.Body, lines: bufio.NewReader(response.Body), pin: d.pin, head: headText(response), last: after}
	if response.StatusCode != http.StatusOK {
		s.head += s.rest()
	}
	return s
}

// next returns the bytes of the next event, with the comments before it.
func (s *isolationSSE) next() string {
	text := s.head
	s.head = ""
	for event := false; !s.ended; {
		line, err := s.lines.ReadString('\n')
		text += line
		id, isID := strings.CutPrefix(line, "id: ")
		switch {
		case err != nil:
			s.ended = true
			if !errors.Is(err, io.EOF) {
				text += "error " + err.Error()
			}
		case isID:
			if n, err := strconv.ParseUint(strings.TrimSpace(id), 10, 64); err == nil {
				s.last = n
			}
			event = true
		case line == "event: "+endEvent+"\n":
			s.ended = true
			return s.pin(text+s.tail(), "")
		case line == "\n" && event:
			return s.pin(text, "")
		}
	}
	return s.pin(text, "")
}

// tail is what is left in a stream that has ended.
func (s *isolationSSE) tail() string {
	left, err := io.ReadAll(s.lines)
	if err != nil {
		return fmt.Sprintf("%serror %s", left, err)
	}
	return string(left)
}

// upTo returns what comes until the seq is reached or the stream ends.
func (s *isolationSSE) upTo(seq uint64) []string {
	var events []string
	for s != nil && !s.ended && s.last < seq {
		events = append(events, s.next())
	}
	return events
}

// rest returns all that comes until the stream ends, which it is about to.
func (s *isolationSSE) rest() string {
	if s == nil {
		return ""
	}
	text := s.head
	if !s.ended {
		text += s.tail()
	}
	s.head, s.ended = "", true
	return s.pin(text, "")
}

func (s *isolationSSE) close() {
	if s != nil && s.body != nil {
		_ = s.body.Close() // that it ends early is what it is for
	}
}

// events reads what is there behind the position: of somebody else than A the
// first event, since in a damaged space it is not known what there is.
func (d *httpDriver) events(t *httpTenant, op *ni.Op) string {
	query := url.Values{"after": {fmt.Sprint(op.After)}}
	if t.turn%3 == 0 {
		query.Set("incarnation", d.own(op.Tenant).incarnation)
	}
	s := d.subscribe(t, op.Space, query)
	defer s.close()
	seq := d.seq(op.Space)
	switch {
	case s.ended || op.After >= seq:
		return s.pin(s.head, "")
	case op.Tenant > 0:
		return s.next()
	}
	return strings.Join(s.upTo(seq), "")
}

// Follow implements [ni.Driver].
func (d *httpDriver) Follow() []string {
	if d.name == "" {
		return nil
	}
	seq := d.seq(d.name)
	events := d.standing.upTo(seq)
	// One that would follow into the space's successor has something to show by now.
	if d.stale != nil && d.stale.last < seq {
		events = append(events, d.stale.next())
		d.stale.close()
		d.stale = nil
	}
	return events
}

// probe asks for what is not the tenant's, in every way that a client has.
func (d *httpDriver) probe(t *httpTenant, op *ni.Op) string {
	foreign, own := d.foreign(op.Tenant), d.own(op.Tenant)
	other := spacePath(engram.SpaceID(op.Other))
	memory := "/memories/" + url.PathEscape(op.IDs[0])
	var texts []string
	ask := func(method, target, body string, header ...string) {
		texts = append(texts, d.send(t, d.key(op.Space), method, target, []byte(body), header...).text)
	}
	for _, id := range []string{op.Other + "/" + op.IDs[0], op.Other + op.IDs[0], op.Other} {
		ask("GET", spacePath(engram.SpaceID(op.Space))+"/memories/"+url.PathEscape(id), "")
	}
	mine := func(path string) string { return spacePath(engram.SpaceID(op.Space)) + path }
	ask("POST", mine("/memories"), `{"content":"of another space","space":`+jsonOf(op.Other)+`}`)
	ask("POST", mine("/memories"), `{"content":"of another space","memory_space_id":`+jsonOf(op.Other)+`}`)
	ask("POST", mine("/rename"), `{"to":`+jsonOf(op.Other)+`}`)
	ask("POST", "/v1/recall", `{}`, spaceHeader, op.Space, spaceHeaderAlias, op.Other)
	ask("POST", "/v1/recall", `{}`) // of the default space
	ask("GET", other+memory, "")
	ask("GET", other+"/events", "", lastEventID, "1")
	ask("POST", other+"/memories", `{"id":"b1","content":"of another space"}`)
	ask("DELETE", other, "")
	ask("POST", "/v1/spaces", `{"id":`+jsonOf(op.Other)+`}`)
	ask("GET", spacePath(engram.SpaceID(otherName(op.Space)))+memory, "")
	ask("GET", "/v1/spaces", "")
	ask("GET", "/v1/stats", "")
	ask("GET", mine("/memories?cursor="+foreign.cursor), "")
	ask("GET", mine("/events?after=1&incarnation="+foreign.incarnation), "")
	ask("PUT", mine(memory), `{"content":"on a foreign condition"}`, "If-Match", foreign.tag)
	ask("POST", mine("/checkpoint"), "", "If-Match", foreign.tag)
	if own.cursor != "" {
		ask("GET", mine("/memories?cursor="+own.cursor), "")
	}
	return strings.Join(texts, "\n")
}
