package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// toolPage is how many memories are asked for at a time: fewer than a space of a
// stage has.
const toolPage = 10

// tools is a server over the Model Context Protocol. What it has no tool for, such
// as making spaces, is done over HTTP and is no part of what is verified.
type tools struct {
	*web

	endpoint string

	mu      sync.Mutex         // guards session
	session *mcp.ClientSession // nil: none is open
}

// openTools returns the tools at an address such as http://127.0.0.1:7432/mcp of a
// server.
func openTools(endpoint string, server *web) (*tools, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%w: %q is no address of tools, which looks like http://127.0.0.1:7432/mcp", ErrConfig, endpoint)
	}
	return &tools{web: server, endpoint: endpoint}, nil
}

func (t *tools) name() string { return overMCP }

func (t *tools) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == nil {
		return nil
	}
	err := t.session.Close()
	t.session = nil
	return err
}

// Info describes a space that the tools know.
func (t *tools) Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	if err := t.call(ctx, "list", toolArguments{"space": id, "limit": 1}, nil); err != nil {
		return engram.SpaceInfo{}, err
	}
	return t.web.Info(ctx, id)
}

func (t *tools) space(id engram.SpaceID) space { return toolSpace{webSpace{t.Space(id), t.web}, t} }

// toolArguments are what a tool is called with.
type toolArguments map[string]any

// connect opens a session that shows these header fields with each request, at the
// address with this query.
func (t *tools) connect(ctx context.Context, query url.Values, header map[string]string) (*mcp.ClientSession, error) {
	endpoint := t.endpoint
	if len(query) > 0 {
		endpoint += "?" + query.Encode()
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "engram-verify", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: endpoint, DisableStandaloneSSE: true, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: &headed{header, t.http.Transport}},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: open a session at %s: %w", httpclient.ErrNoServer, endpoint, err)
	}
	return session, nil
}

// headed sends more header fields.
type headed struct {
	header map[string]string
	next   http.RoundTripper
}

func (h *headed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range h.header {
		r.Header.Set(name, value)
	}
	return h.next.RoundTrip(r)
}

// call calls a tool and decodes what it says, if out is not nil. What a tool
// refuses is a Problem.
func (t *tools) call(ctx context.Context, tool string, arguments toolArguments, out any) error {
	session, err := t.opened(ctx)
	if err != nil {
		return err
	}
	return callTool(ctx, session, tool, arguments, out)
}

func (t *tools) opened(ctx context.Context) (*mcp.ClientSession, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != nil {
		return t.session, nil
	}
	// The session outlives the call that opens it.
	session, err := t.connect(context.WithoutCancel(ctx), nil, nil)
	t.session = session
	return session, err
}

func callTool(ctx context.Context, session *mcp.ClientSession, tool string, arguments toolArguments, out any) error {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return err
	}
	if len(result.Content) != 1 {
		return fmt.Errorf("%w: the tool %s answers with %d contents", httpclient.ErrNoServer, tool, len(result.Content))
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		return fmt.Errorf("%w: the tool %s does not answer with text", httpclient.ErrNoServer, tool)
	}
	if result.IsError {
		var problem httpclient.Problem
		if err := json.Unmarshal([]byte(content.Text), &problem); err != nil || problem.Type == "" {
			return fmt.Errorf("%w: the tool %s fails with %q", httpclient.ErrNoServer, tool, short(content.Text))
		}
		return &problem
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal([]byte(content.Text), out)
}

// toolAnswer is what every tool says back.
type toolAnswer struct {
	Space    engram.SpaceID `json:"space"`
	Fallback bool           `json:"fallback"`
}

// toolSpace is a space over the tools.
type toolSpace struct {
	webSpace

	tools *tools
}

func (s toolSpace) remember(ctx context.Context, m engram.Memory, how write) (engram.Receipt, error) {
	if how.version != "" {
		return engram.Receipt{}, errors.New("a tool writes under no condition")
	}
	arguments := toolArguments{"space": s.ID(), "content": m.Content}
	if m.ID != "" {
		arguments["id"] = m.ID
	}
	if !m.Time.IsZero() {
		arguments["time"] = m.Time
	}
	if m.Episode != "" {
		arguments["episode"] = m.Episode
	}
	if len(m.Attributes) > 0 {
		arguments["attributes"] = m.Attributes
	}
	if how.requestID != "" {
		arguments["request_id"] = how.requestID
	}
	var receipt engram.Receipt
	return receipt, s.tools.call(ctx, "remember", arguments, &receipt)
}

func filterArguments(f engram.Filter) toolArguments {
	arguments := toolArguments{}
	if !f.After.IsZero() {
		arguments["after"] = f.After
	}
	if !f.Before.IsZero() {
		arguments["before"] = f.Before
	}
	if f.Episode != "" {
		arguments["episode"] = f.Episode
	}
	if len(f.Attributes) > 0 {
		arguments["attributes"] = f.Attributes
	}
	if f.Kind != "" {
		arguments["kind"] = f.Kind
	}
	return arguments
}

// list returns one page, each memory of the space that the tool says it is of.
func (s toolSpace) list(ctx context.Context, f engram.Filter, cursor string, limit int) ([]engram.Memory, string, error) {
	arguments := filterArguments(f)
	arguments["space"], arguments["limit"] = s.ID(), limit
	if cursor != "" {
		arguments["cursor"] = cursor
	}
	var page struct {
		toolAnswer

		Memories []engram.Memory `json:"memories"`
		Next     string          `json:"next"`
	}
	if err := s.tools.call(ctx, "list", arguments, &page); err != nil {
		return nil, "", err
	}
	for i := range page.Memories {
		page.Memories[i].Space = page.Space
	}
	return page.Memories, page.Next, nil
}

func (s toolSpace) page(ctx context.Context, cursor string, limit int) ([]engram.Memory, string, error) {
	return s.list(ctx, engram.Filter{}, cursor, limit)
}

func (s toolSpace) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return func(yield func(engram.Memory, error) bool) {
		for cursor := ""; ; {
			page, next, err := s.list(ctx, f, cursor, toolPage)
			if err != nil {
				yield(engram.Memory{}, err)
				return
			}
			for _, m := range page {
				if !yield(m, nil) {
					return
				}
			}
			if cursor = next; cursor == "" {
				return
			}
		}
	}
}

func (s toolSpace) Recall(ctx context.Context, cue engram.Cue) (recall engram.Recall, err error) {
	arguments := filterArguments(cue.Filter)
	arguments["space"] = s.ID()
	if cue.Text != "" {
		arguments["text"] = cue.Text
	}
	if len(cue.IDs) > 0 {
		arguments["ids"] = cue.IDs
	}
	if cue.Limit > 0 {
		arguments["limit"] = cue.Limit
	}
	var said struct {
		toolAnswer

		Recollections []struct {
			engram.Memory

			Activation float64 `json:"activation"`
		} `json:"recollections"`
	}
	if err := s.tools.call(ctx, "recall", arguments, &said); err != nil {
		return recall, err
	}
	for _, r := range said.Recollections {
		r.Space = said.Space
		recall.Recollections = append(recall.Recollections, engram.Recollection{Memory: r.Memory, Activation: r.Activation})
	}
	return recall, nil
}

func (s toolSpace) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	var receipt engram.ForgetReceipt
	return receipt, s.tools.call(ctx, "forget", toolArguments{"space": s.ID(), "ids": ids}, &receipt)
}

// alsoOverTools are the assertions for which the tools are one transport more: all
// that they claim anything about is done by tools.
func alsoOverTools(name string) bool {
	return slices.Contains([]string{
		"isolation/list", "isolation/filter", "isolation/recall-text", "isolation/recall-association",
		"events/foreign-cursor", "consistency/request-id", "keys/own-space",
	}, name)
}
