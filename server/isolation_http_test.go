package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
)

// httpLayer is HTTP with its event streams.
func httpLayer(t *testing.T) ni.Layer {
	room := newIsolationRoom(t)
	return ni.Layer{
		Name: "http", Supports: servable,
		Open: func(now func() time.Time) ni.Driver { return newHTTPDriver(room, now) },
	}
}

// servable says which operations a server's tenants and its host have. Spaces
// are put to sleep, and processes killed, where the library is tested.
func servable(k ni.Kind) bool { return k != ni.Sleep && k != ni.Kill }

// httpDriver implements [ni.Driver].
type httpDriver struct {
	*isolationClients

	client *http.Client
}

// httpRequest is a request about a space.
type httpRequest struct {
	method string
	path   string // below the space
	scoped bool   // it is served only there
	query  url.Values
	body   any // nil: none; bytes are sent as they are
	header []string
}

// httpAnswer is all that a client is told.
type httpAnswer struct {
	status int
	header http.Header
	body   []byte
	text   string // all of it
}

func newHTTPDriver(room *isolationRoom, now func() time.Time) *httpDriver {
	d := &httpDriver{}
	d.isolationClients = newIsolationClients(room, now, func(s *Server, ctx context.Context, l net.Listener) error {
		return s.Serve(ctx, l)
	}, d)
	d.connect()
	return d
}

func (d *httpDriver) connect() {
	d.client = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return d.listener.dial(ctx) },
		MaxIdleConnsPerHost: 8,
		DisableCompression:  true, // the bytes as they are sent
	}}
}

func (d *httpDriver) disconnect() { d.client.CloseIdleConnections() }

// open sends a request and returns the answer when its header is there.
func (d *httpDriver) open(t *isolationTenant, key, method, target string, body []byte, header []string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://"+d.listener.Addr().String()+target, bytes.NewReader(body))
	orPanic(err)
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set(requestIDHeader, fmt.Sprintf("tenant-%d", t.number))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	response, err := d.client.Do(r)
	var named *url.Error
	if errors.As(err, &named) {
		err = named.Err // without the address, which is another one in each run
	}
	return response, err
}

// send sends a request and returns the whole answer, in which A's incarnations
// are pinned.
func (d *httpDriver) send(t *isolationTenant, key, method, target string, body []byte, header ...string) httpAnswer {
	response, err := d.open(t, key, method, target, body, header)
	if err != nil {
		return httpAnswer{text: "error " + err.Error()}
	}
	a := httpAnswer{status: response.StatusCode, header: response.Header}
	if response.Header.Get("Content-Type") != eventStreamType { // which has no end
		a.body, err = io.ReadAll(response.Body)
	}
	plain := a.body
	if response.Header.Get("Content-Encoding") == "gzip" {
		if unzip, unzipErr := gzip.NewReader(bytes.NewReader(a.body)); unzipErr == nil {
			plain, _ = io.ReadAll(unzip)
		}
	}
	a.text = headText(response) + string(plain) + headerText(response.Trailer)
	if err != nil {
		a.text += "\nerror " + err.Error()
	}
	if err := response.Body.Close(); err != nil {
		a.text += "\nerror " + err.Error()
	}
	var page struct{ Next string }
	if json.Unmarshal(plain, &page) != nil {
		page.Next = ""
	}
	a.text = d.pin(a.text, page.Next)
	return a
}

// headText is an answer without its body.
func headText(r *http.Response) string {
	return fmt.Sprintf("%s %s %d %q\n", r.Proto, r.Status, r.ContentLength, r.TransferEncoding) + headerText(r.Header)
}

// headerText is a header without its date.
func headerText(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if name != "Date" {
			fmt.Fprintf(&b, "%s: %q\n", name, h[name])
		}
	}
	return b.String()
}

// about sends a request about the space, which is named in one way or another.
func (d *httpDriver) about(t *isolationTenant, space string, r httpRequest) httpAnswer {
	target, body, header := d.address(t, space, &r)
	return d.send(t, d.key(space), r.method, target, body, header...)
}

// address names the space in each way in turn.
func (*httpDriver) address(t *isolationTenant, space string, r *httpRequest) (target string, body []byte, header []string) {
	switch given := r.body.(type) {
	case nil:
	case []byte:
		body = given
	default:
		var err error
		body, err = json.Marshal(given)
		orPanic(err)
	}
	query := url.Values{}
	maps.Copy(query, r.query)
	header, target = slices.Clone(r.header), "/v1"+r.path
	t.turn++
	switch way := t.turn % 5; {
	case r.scoped || way == 0:
		target = spacePath(engram.SpaceID(space)) + r.path
	case way == 1:
		header = append(header, spaceHeader, space)
	case way == 2:
		header = append(header, spaceHeaderAlias, space)
	case way == 3 || len(body) == 0:
		query.Set(spaceQuery, space)
	default:
		body = append(fmt.Appendf(nil, `{%q:%q,`, spaceField, space), body[1:]...)
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	return target, body, header
}

// Do implements [ni.Driver].
func (d *httpDriver) Do(op ni.Op) string {
	t := d.tenant(&op)
	switch op.Kind {
	case ni.Restart:
		d.restart()
		return ""
	case ni.Create:
		return d.create(t, &op, d.send(t, d.key(op.Space), http.MethodPost, "/v1/spaces",
			fmt.Appendf(nil, `{"id":%q,"config":%s}`, op.Space, jsonOf(isolationConfig(op.Config)))))
	case ni.Delete:
		return d.delete(t, &op)
	case ni.Rename:
		a := d.about(t, op.Space, httpRequest{method: "POST", path: "/rename", scoped: true, body: renameBody{To: engram.SpaceID(op.Other)}})
		if a.status == http.StatusOK {
			d.renamed(&op)
		}
		return a.text
	case ni.Reimport:
		exported := d.about(t, op.Space, httpRequest{method: "GET", path: "/export"})
		deleted := d.delete(t, &op)
		return exported.text + deleted + d.create(t, &op, d.about(t, op.Space,
			httpRequest{method: "POST", path: "/import", scoped: true, body: exported.body}))
	case ni.Damage:
		d.damage(&op)
		return ""
	case ni.Stall:
		return d.stall(t, &op)
	case ni.Events:
		return d.events(t, &op)
	case ni.List:
		return d.list(t, &op)
	case ni.Probe:
		return d.probe(t, &op)
	}
	var texts []string
	for _, r := range d.requests(t, &op) {
		a := d.about(t, op.Space, r)
		d.note(op.Tenant, isolationTokens{tag: a.header.Get("ETag")})
		texts = append(texts, a.text)
	}
	return strings.Join(texts, "\n")
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	orPanic(err)
	return string(b)
}

// requests are how a tenant says op.
func (d *httpDriver) requests(t *isolationTenant, op *ni.Op) []httpRequest {
	var header []string
	if op.Request != "" {
		header = append(header, idempotencyHeader, op.Request)
	}
	one := func(method, path string, body any, more ...string) []httpRequest {
		return []httpRequest{{method: method, path: path, body: body, header: append(header, more...)}}
	}
	scoped := func(method, path string, body any) httpRequest {
		return httpRequest{method: method, path: path, scoped: true, body: body, header: header}
	}
	if op.Expect > 0 {
		header = append(header, "If-Match", d.server.tag(d.own(op.Tenant).incarnation, op.Expect))
	}
	switch op.Kind {
	case ni.Remember:
		return d.remember(t, op, header)
	case ni.Forget:
		if t.turn%3 == 0 {
			return one("DELETE", "/memories/"+url.PathEscape(op.IDs[0]), nil)
		}
		return one("POST", "/forget", forgetBody{IDs: op.IDs})
	case ni.ForgetWhere:
		filter := isolationFilter(op.Filter)
		return append(one("POST", "/forget-where", map[string]any{"filter": filter, "dry_run": true}),
			one("POST", "/forget-where", map[string]any{"filter": filter})...)
	case ni.Lookup:
		return one("GET", "/memories/"+url.PathEscape(op.IDs[0]), nil, "If-None-Match", d.tagOr(op.Tenant))
	case ni.Recall:
		if t.turn%2 == 0 {
			header = append(header, "Accept-Encoding", "gzip")
		}
		return one("POST", "/recall", isolationCue(op))
	case ni.Associate:
		return one("POST", "/associations", engram.Association(op.Association))
	case ni.Dissociate:
		return []httpRequest{{method: "DELETE", path: "/associations", header: header, query: url.Values{
			"from": {op.Association.From}, "to": {op.Association.To}, "kind": {op.Association.Kind},
		}}}
	case ni.Associated:
		return one("GET", "/memories/"+url.PathEscape(op.IDs[0])+"/associations", nil)
	case ni.Configure:
		return []httpRequest{scoped("PUT", "/config", isolationConfig(op.Config))}
	case ni.Export:
		return one("GET", "/export", nil)
	case ni.Figures:
		return []httpRequest{scoped("GET", "", nil), scoped("GET", "/config", nil), scoped("GET", "/stats", nil)}
	case ni.Checkpoint:
		return []httpRequest{scoped("POST", "/checkpoint", nil)}
	case ni.Verify:
		return []httpRequest{scoped("POST", "/verify", nil)}
	}
	panic("unknown operation " + string(op.Kind))
}

// list goes from page to page, of what satisfies the filter and then of all.
func (d *httpDriver) list(t *isolationTenant, op *ni.Op) string {
	all := ""
	for _, query := range []url.Values{filterQuery(isolationFilter(op.Filter)), {}} {
		filtered := len(query) > 0
		query.Set("limit", "5")
		for {
			a := d.about(t, op.Space, httpRequest{method: "GET", path: "/memories", query: query})
			all += a.text
			var page memoryPage
			if a.status != http.StatusOK || json.Unmarshal(a.body, &page) != nil || page.Next == "" {
				break
			}
			query.Set("cursor", page.Next)
			if !filtered {
				d.note(op.Tenant, isolationTokens{cursor: page.Next})
			}
		}
	}
	return all
}

// remember puts one memory in either way, now and then on a condition.
func (d *httpDriver) remember(t *isolationTenant, op *ni.Op, header []string) []httpRequest {
	ms := isolationMemories(op.Memories)
	switch {
	case len(ms) > 1:
		return []httpRequest{{method: "POST", path: "/memories", header: header, body: map[string]any{"memories": ms}}}
	case ms[0].ID != "" && op.Expect == 0 && t.turn%3 == 0:
		switch t.turn % 4 {
		case 0:
			header = append(header, "If-None-Match", "*")
		case 1:
			header = append(header, "If-Match", d.tagOr(op.Tenant))
		}
		return []httpRequest{{method: "PUT", path: "/memories/" + url.PathEscape(ms[0].ID), header: header, body: ms[0]}}
	}
	return []httpRequest{{method: "POST", path: "/memories", header: header, body: ms[0]}}
}

// tagOr is the last tag that the tenant was given, or any.
func (d *httpDriver) tagOr(tenant int) string {
	if tag := d.own(tenant).tag; tag != "" {
		return tag
	}
	return "*"
}

// create notes what was created, by an answer that describes it.
func (d *httpDriver) create(t *isolationTenant, op *ni.Op, a httpAnswer) string {
	var info engram.SpaceInfo
	if a.status != http.StatusCreated || json.Unmarshal(a.body, &info) != nil {
		return a.text
	}
	return d.created(t, op, a.text, info.Incarnation)
}

func (d *httpDriver) delete(t *isolationTenant, op *ni.Op) string {
	a := d.about(t, op.Space, httpRequest{method: "DELETE", scoped: true})
	if a.status == http.StatusNoContent {
		d.deleted(op)
	}
	return a.text
}

// stall begins to read, and holds what that holds until the next time.
func (d *httpDriver) stall(t *isolationTenant, op *ni.Op) string {
	t.letGo()
	var texts []string
	for _, path := range []string{"/export", "/events"} {
		response, err := d.open(t, d.key(op.Space), http.MethodGet, spacePath(engram.SpaceID(op.Space))+path, nil, nil)
		if err != nil {
			texts = append(texts, err.Error())
			continue
		}
		t.stalled = append(t.stalled, func() { _ = response.Body.Close() }) // that it ends early is what it is for
		first, _ := bufio.NewReaderSize(response.Body, 16).ReadString('\n')
		texts = append(texts, first)
	}
	return strings.Join(texts, "\n")
}
