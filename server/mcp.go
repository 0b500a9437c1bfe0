package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/zap"

	"github.com/engramdb/engram"
)

// mcpPath is where the Model Context Protocol is spoken.
const mcpPath = "/mcp"

// maxMCPBody bounds a message of the Model Context Protocol: one memory with
// what is around it.
const maxMCPBody = 8 * engram.MaxContentBytes

const mcpInstructions = `Engram remembers for you, durably. Each tenant has a space of its own, and what
is in one space is not seen from any other. Give the argument "space" with every
call, unless the address of this server names it already.`

// mcpExchangeKey is where a call of a tool finds the exchange that it is for.
type mcpExchangeKey struct{}

// newMCPServer returns what knows the tools. It serves all clients, so a call finds
// the exchange that it is for in its context, and nowhere else.
func (s *Server) newMCPServer(tools []mcpTool) *mcp.Server {
	made := mcp.NewServer(&mcp.Implementation{Name: "engram", Title: "Engram", Version: mcpVersion}, &mcp.ServerOptions{
		Instructions: mcpInstructions,
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	for _, tool := range tools {
		made.AddTool(tool.described, func(ctx context.Context, request *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return s.callTool(ctx, tool, request.Params)
		})
	}
	return made
}

// newMCPHandler returns what speaks the protocol. It keeps no sessions: each
// request is a session of its own, which has ended when it has been answered, so
// nothing can pass from one client to another.
func newMCPHandler(server *mcp.Server) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless:                    true,
		JSONResponse:                 true,
		DisableLocalhostProtection:   true, // the exchange has checked the host, by its own list
		MaxRequestBodyBytes:          -1,   // the body has been read
		PropagateRequestCancellation: true,
	})
}

// serveMCP answers one message of the Model Context Protocol.
func (s *Server) serveMCP(x *exchange) error {
	text, err := s.readBody(x, maxMCPBody)
	if err != nil {
		return err
	}
	if err := checkMessage(text); err != nil {
		return err
	}
	r := x.r.WithContext(context.WithValue(x.r.Context(), mcpExchangeKey{}, x))
	r.Body = io.NopCloser(bytes.NewReader(text))
	answer := &mcpAnswer{x: x}
	s.mcp.ServeHTTP(answer, r)
	return answer.refusal()
}

// checkMessage refuses several messages at once, which later versions of the protocol
// have not: all of their answers would be in memory together. It refuses what has more
// values than any message needs: decoded, each may take a hundred times its length.
func checkMessage(text []byte) error {
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("[")) {
		return refuse(kindMessage, "the body is a batch: send its messages one by one")
	}
	values, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++ // malformed but in a text
		case ',', '[', '{':
			if !quoted {
				values++
			}
		}
	}
	if values > maxElements {
		return refuse(kindMessage, fmt.Sprintf("the message has more than %d values", maxElements))
	}
	return nil
}

// mcpAnswer sends through the exchange what a handler of another package answers. A
// refusal in plain text, which is of no message, is kept to become a problem.
type mcpAnswer struct {
	x       *exchange
	refused int   // status of the refusal; 0: it is none
	full    error // there is no room for the answer
	text    strings.Builder
}

// maxUncountedBytes is more than the answer to any write, which is done and must not be
// refused, and than most events, which others' must not end.
const maxUncountedBytes = 64 << 10

// maxRefusalBytes bounds what is kept of a refusal: it may repeat the client's message.
const maxRefusalBytes = 256

// refusal returns why the request was refused, nil if it was answered.
func (a *mcpAnswer) refusal() error {
	text := strings.ToValidUTF8(strings.TrimSpace(a.text.String()), "\uFFFD")
	switch {
	case a.full != nil:
		return a.full
	case a.refused == 0:
		return nil
	case a.refused >= http.StatusInternalServerError:
		return errors.New(text)
	}
	k := kindMessage
	k.status = a.refused
	return refuse(k, text)
}

func (a *mcpAnswer) Header() http.Header { return a.x.w.Header() }

func (a *mcpAnswer) WriteHeader(status int) {
	if a.x.status != 0 || a.refused != 0 {
		return
	}
	if status >= http.StatusBadRequest && strings.HasPrefix(a.Header().Get("Content-Type"), "text/plain") {
		a.refused = status
		return
	}
	a.x.begin(a.x.w.Header().Get("Content-Type"))
	a.x.sendErr = errors.Join(a.x.sendErr, a.x.extendWrite())
	a.x.status = status
	a.x.w.WriteHeader(status)
}

func (a *mcpAnswer) Write(p []byte) (int, error) {
	if a.x.status == 0 && a.refused == 0 && a.full == nil && len(p) > maxUncountedBytes {
		a.full = a.x.server.holdAnswer(&a.x.request, int64(len(p)))
	}
	if a.full != nil {
		return len(p), nil
	}
	a.WriteHeader(http.StatusOK)
	if a.refused != 0 {
		a.text.Write(p[:min(len(p), maxRefusalBytes-a.text.Len())])
		return len(p), nil
	}
	n, err := a.x.Write(p)
	a.x.sendErr = errors.Join(a.x.sendErr, err)
	return n, err
}

// callTool carries out one call. It is an exchange of its own: it has a verb and names
// its space. Its message has counted as a request of the caller.
func (s *Server) callTool(ctx context.Context, tool mcpTool, params *mcp.CallToolParamsRaw) (*mcp.CallToolResult, error) {
	x := ctx.Value(mcpExchangeKey{}).(*exchange)
	one := *x
	one.request = request{began: time.Now(), principal: x.principal, held: held{by: x.held.by}}
	ctx, one.span = s.traceTool(ctx, x, tool, params.Meta)
	one.w = headerSink{}
	one.tool = tool.described.Name
	one.r = x.r.WithContext(ctx)
	one.route = route{method: x.route.method, path: x.route.path + "#" + one.tool, verb: tool.verb}
	one.status = http.StatusOK
	defer s.finish(&one)
	var answer any
	// On a goroutine of the protocol's server, where a panic would end the process.
	err := s.survive(zap.String("tool", one.tool), func() (err error) {
		answer, err = tool.call(s, &one, params.Arguments)
		return err
	})
	var result *mcp.CallToolResult
	if err == nil {
		result, err = toolResult(answer)
	}
	if err != nil {
		p := s.problemOf(&one, err)
		one.status = p.Status
		if result, err = toolResult(p); err != nil {
			return nil, err
		}
		result.StructuredContent, result.IsError = nil, true // the schema is that of a success
	}
	return result, nil
}

// toolResult says v both ways: as a value for programs, as text for models.
func toolResult(v any) (*mcp.CallToolResult, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode tool result: %w", err)
	}
	return &mcp.CallToolResult{
		Content:           []mcp.Content{&mcp.TextContent{Text: string(text)}},
		StructuredContent: json.RawMessage(text),
	}, nil
}

// decodeArguments reads the arguments of a tool as strictly as a body.
func decodeArguments(arguments json.RawMessage, v any) error {
	if len(arguments) == 0 {
		arguments = json.RawMessage("{}")
	}
	return unmarshal(arguments, v)
}

// bodyPlace says where a body names the space.
func (x *exchange) bodyPlace() string {
	if x.tool != "" {
		return "the argument space"
	}
	return "the field " + spaceField
}

// headerSink takes headers of an exchange that has no answer of its own.
type headerSink struct{}

func (headerSink) Header() http.Header { return http.Header{} }

func (headerSink) Write(p []byte) (int, error) { return len(p), nil }

func (headerSink) WriteHeader(int) {}
