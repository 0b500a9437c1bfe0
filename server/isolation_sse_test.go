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

// sseEvents implements [isolationEvents].
type sseEvents struct {
	body  io.Closer
	lines *bufio.Reader
}

func (d *httpDriver) subscribe(t *isolationTenant, space string, after uint64, incarnation string) *isolationStream {
	query := url.Values{"after": {fmt.Sprint(after)}}
	if incarnation != "" {
		query.Set("incarnation", incarnation)
	}
	var header []string
	if t.turn%2 == 0 {
		header = []string{lastEventID, query.Get("after")}
	}
	target, _, header := d.address(t, space, &httpRequest{path: "/events", query: query, header: header})
	s := &isolationStream{pin: d.pin, last: after}
	response, err := d.open(t, d.key(space), http.MethodGet, target, nil, header)
	if err != nil {
		s.head, s.ended = "error "+err.Error(), true
		return s
	}
	events := &sseEvents{body: response.Body, lines: bufio.NewReader(response.Body)}
	s.source, s.head = events, headText(response)
	if response.StatusCode != http.StatusOK {
		s.head += events.rest()
		s.ended = true
	}
	return s
}

// read reads the bytes of the next event, with the comments before it.
func (e *sseEvents) read() (text string, seq uint64, more bool) {
	for event := false; ; {
		line, err := e.lines.ReadString('\n')
		text += line
		id, isID := strings.CutPrefix(line, "id: ")
		switch {
		case err != nil:
			if !errors.Is(err, io.EOF) {
				text += "error " + err.Error()
			}
			return text, 0, false
		case isID:
			seq, _ = strconv.ParseUint(strings.TrimSpace(id), 10, 64) // 0 where it is none
			event = true
		case line == "event: "+endEvent+"\n":
			return text + e.rest(), 0, false
		case line == "\n" && event:
			return text, seq, true
		}
	}
}

// rest is what is left in a stream that has ended.
func (e *sseEvents) rest() string {
	left, err := io.ReadAll(e.lines)
	if err != nil {
		return fmt.Sprintf("%serror %s", left, err)
	}
	return string(left)
}

func (e *sseEvents) close() {
	_ = e.body.Close() // that it ends early is what it is for
}

// probe asks for what is not the tenant's, in every way that a client has.
func (d *httpDriver) probe(t *isolationTenant, op *ni.Op) string {
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
