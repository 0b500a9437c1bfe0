package server

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	ni "github.com/engramdb/engram/internal/noninterference"
)

// mcpLayer is the tools of the Model Context Protocol; what they do not do, a
// tenant does over HTTP.
func mcpLayer(t *testing.T) ni.Layer {
	room := newIsolationRoom(t)
	return ni.Layer{
		Name: "mcp", Supports: servable,
		Open: func(now func() time.Time) ni.Driver { return &mcpDriver{newHTTPDriver(room, now)} },
	}
}

// mcpDriver implements [ni.Driver].
type mcpDriver struct{ *httpDriver }

// Do implements [ni.Driver].
func (d *mcpDriver) Do(op ni.Op) string {
	t := d.tenant(&op)
	switch op.Kind {
	case ni.Remember:
		return d.rememberAll(t, &op)
	case ni.Forget:
		return d.tool(t, op.Space, "forget", withRequest(&op, arguments{"ids": op.IDs}))
	case ni.Recall:
		args := filterArguments(isolationFilter(op.Filter))
		args["text"], args["ids"], args["limit"] = op.Text, op.IDs, op.Limit
		if op.IDs == nil {
			delete(args, "ids")
		}
		return d.tool(t, op.Space, "recall", args)
	case ni.List:
		return d.listAll(t, &op)
	case ni.Probe:
		return d.probeTools(t, &op)
	}
	return d.httpDriver.Do(op)
}

// rememberAll remembers each memory: the tool takes no batches and no vectors. An
// id comes once: whether an event still shows what was replaced right after it
// depends on when the stream has sent it.
func (d *mcpDriver) rememberAll(t *isolationTenant, op *ni.Op) string {
	var texts []string
	remembered := make(map[string]bool)
	for i, m := range isolationMemories(op.Memories) {
		if m.ID != "" && remembered[m.ID] {
			continue
		}
		remembered[m.ID] = true
		args := arguments{"content": m.Content, "id": m.ID, "episode": m.Episode}
		if i == 0 {
			args = withRequest(op, args)
		}
		if !m.Time.IsZero() {
			args["time"] = m.Time
		}
		if m.Attributes != nil {
			args["attributes"] = m.Attributes
		}
		if m.Kind != "" {
			args["kind"] = m.Kind
		}
		texts = append(texts, d.tool(t, op.Space, "remember", args))
	}
	return strings.Join(texts, "\n")
}

func withRequest(op *ni.Op, args arguments) arguments {
	if op.Request != "" {
		args["request_id"] = op.Request
	}
	return args
}

// listAll goes from page to page, of what satisfies the filter and then of all.
func (d *mcpDriver) listAll(t *isolationTenant, op *ni.Op) string {
	all := ""
	for _, args := range []arguments{filterArguments(isolationFilter(op.Filter)), {}} {
		filtered := len(args) > 0
		args["limit"] = 5
		for {
			text, next := d.call(t, op.Space, "list", args)
			all += text
			if next == "" {
				break
			}
			args["cursor"] = next
			if !filtered {
				d.note(op.Tenant, isolationTokens{cursor: next})
			}
		}
	}
	return all
}

// tool calls a tool about the space, which is named in each way in turn.
func (d *mcpDriver) tool(t *isolationTenant, space, name string, args arguments) string {
	text, _ := d.call(t, space, name, args)
	return text
}

func (d *mcpDriver) call(t *isolationTenant, space, name string, args arguments) (text, next string) {
	var query url.Values
	var header []string
	t.turn++
	switch t.turn % 3 {
	case 0:
		args["space"] = space
	case 1:
		query = url.Values{spaceQuery: {space}}
	default:
		header = []string{spaceHeader, space}
	}
	return d.post(t, space, query, header, name, args)
}

// post sends one message. All tenants name the same session: the server is to
// have none.
func (d *mcpDriver) post(t *isolationTenant, space string, query url.Values, header []string, name string, args arguments) (text, next string) {
	body := jsonOf(map[string]any{
		"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": map[string]any{"name": name, "arguments": args},
	})
	target := mcpPath
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	a := d.send(t, d.key(space), http.MethodPost, target, []byte(body), append(header,
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Mcp-Session-Id", "session")...)
	var told struct {
		Result struct {
			StructuredContent struct{ Next string }
		}
	}
	if json.Unmarshal(a.body, &told) == nil {
		next = told.Result.StructuredContent.Next
	}
	return d.pin(a.text, next), next
}

// probeTools asks for what is not the tenant's, with every tool.
func (d *mcpDriver) probeTools(t *isolationTenant, op *ni.Op) string {
	foreign := d.foreign(op.Tenant)
	text := ""
	ask := func(query url.Values, name string, args arguments) {
		shown, _ := d.post(t, op.Space, query, nil, name, args)
		text += shown
	}
	other := url.Values{spaceQuery: {op.Other}}
	own := url.Values{spaceQuery: {op.Space}}
	ask(url.Values{spaceQuery: {otherName(op.Space)}}, "list", arguments{})
	ask(other, "recall", arguments{"text": op.Canary})
	ask(other, "list", arguments{})
	ask(nil, "remember", arguments{"space": op.Other, "content": "of another space", "id": op.IDs[0]})
	ask(nil, "forget", arguments{"space": op.Other, "ids": op.IDs})
	ask(own, "recall", arguments{"space": op.Other})
	ask(own, "list", arguments{"cursor": foreign.cursor})
	ask(own, "recall", arguments{"ids": []string{op.Other + "/" + op.IDs[0], op.Other + op.IDs[0]}})
	ask(nil, "list", arguments{}) // of the default space
	ask(own, "unknown", arguments{})
	return text
}
