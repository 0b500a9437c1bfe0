package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
)

// stdio starts the built command as an agent does, and opens a session.
func stdio(t *testing.T, args ...string) *mcp.ClientSession {
	t.Helper()
	command := exec.Command(engramtest.Binary(t), append([]string{"mcp"}, args...)...)
	command.Dir = t.TempDir()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: command}, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, session.Close())
		require.Zero(t, command.ProcessState.ExitCode())
		left, err := os.ReadDir(command.Dir)
		require.NoError(t, err)
		require.Empty(t, left, "the command has opened a data directory")
	})
	return session
}

// callTool calls a tool and returns the text of its result.
func callTool(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) (string, bool) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	require.NoError(t, err)
	require.Len(t, result.Content, 1)
	return result.Content[0].(*mcp.TextContent).Text, result.IsError
}

// TestMCPOverStdio runs sessions of the built command at once: free, and bound to
// one space each.
func TestMCPOverStdio(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"aaa", "aaab"}})
	free := stdio(t, "--addr", server.URL())
	var sessions sync.WaitGroup
	for _, id := range []string{"aaa", "aaab"} {
		bound := stdio(t, "--addr", server.URL(), "--space", id)
		for i, session := range []*mcp.ClientSession{free, bound} {
			arguments := map[string]any{"id": []string{"free", "bound"}[i], "content": "canary " + id + "."}
			if session == free {
				arguments["space"] = id
			}
			sessions.Go(func() {
				_, failed := callTool(t, session, "remember", arguments)
				require.False(t, failed)
			})
		}
		text, failed := callTool(t, bound, "recall", map[string]any{"space": "default", "text": "canary"})
		require.True(t, failed)
		require.Contains(t, text, "space-ambiguous")
	}
	sessions.Wait()
	for _, id := range []string{"aaa", "aaab"} {
		memories, err := server.Space(engram.SpaceID(id)).Memories(t.Context(), engram.Filter{})
		require.NoError(t, err)
		require.Len(t, memories, 2)
		for _, m := range memories {
			require.Equal(t, "canary "+id+".", m.Content)
		}
		text, failed := callTool(t, free, "list", map[string]any{"space": id})
		require.False(t, failed)
		var page struct {
			Space    string
			Memories []engram.Memory
		}
		require.NoError(t, json.Unmarshal([]byte(text), &page))
		require.Equal(t, id, page.Space)
		require.Len(t, page.Memories, 2)
	}
	for text, arguments := range map[string]map[string]any{
		"space-not-found": {"space": "aaac", "text": "x"},
		"malformed-body":  {"space": "aaa", "texts": "x"},
	} {
		answer, failed := callTool(t, free, "recall", arguments)
		require.True(t, failed)
		require.Contains(t, answer, text)
	}
}

// TestMCPOutlivesARefusal: a message that the server refuses as a whole is answered with
// what the server says, and those behind it go on.
func TestMCPOutlivesARefusal(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice"}})
	session := stdio(t, "--addr", server.URL(), "--space", "alice")
	text, failed := callTool(t, session, "remember", map[string]any{"content": make([]int, 140_000)})
	require.True(t, failed)
	var problem struct{ Type, Instance string }
	require.NoError(t, json.Unmarshal([]byte(text), &problem))
	require.Equal(t, "urn:engram:problem:malformed-message", problem.Type)
	require.NotEmpty(t, problem.Instance)
	_, failed = callTool(t, session, "remember", map[string]any{"content": "x"})
	require.False(t, failed)
}

func TestMCPNeedsAServer(t *testing.T) {
	sh := newShell(t)
	sh.args = nil
	sh.run("mcp", "--addr", "http://127.0.0.1:1").failed("no server at http://127.0.0.1:1", "engram serve")
	sh.run("mcp", "--addr", "127.0.0.1:7432").failed("--addr")
	sh.run("mcp", "--space", "../x").failed("space id")
	sh.run("mcp", "--space", "").failed("space id") // as of a variable that is not set
}

// TestMCPEndsWithItsInput: an agent that goes away closes the stream.
func TestMCPEndsWithItsInput(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{})
	code := newApp(strings.NewReader(""), io.Discard, io.Discard).run(t.Context(), []string{"mcp", "--addr", server.URL()})
	require.Equal(t, exitOK, code)
}

// TestMCPEndsWithASignal as it does with its input.
func TestMCPEndsWithASignal(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{})
	ctx, signal := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	out, printed := io.Pipe()
	var said lockedBuffer
	code := make(chan int, 1)
	go func() { code <- newApp(in, printed, &said).run(ctx, []string{"mcp", "--addr", server.URL()}) }()
	_, err := io.WriteString(typed, initialize)
	require.NoError(t, err)
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	signal()
	require.Equal(t, exitOK, <-code)
	require.Empty(t, said.String())
}

// initialize are the lines with which a session begins.
const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"by-hand","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
`

// TestMCPAnswersWhatItHasRead: a client may close the input right behind its calls,
// and go on reading.
func TestMCPAnswersWhatItHasRead(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice"}})
	const calls = 20
	input := strings.Builder{}
	input.WriteString(initialize)
	for i := range calls {
		fmt.Fprintf(&input, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"remember","arguments":{"content":"x"}}}`+"\n", i+1)
	}
	for _, end := range []string{"", "{", `{"jsonrpc":"2.0","id":`} { // of the input, or within a message
		var out bytes.Buffer
		newApp(strings.NewReader(input.String()+end), &out, io.Discard).run(t.Context(), []string{"mcp", "--addr", server.URL(), "-s", "alice"})
		answered := map[int]bool{}
		for line := range strings.Lines(out.String()) {
			var answer struct {
				ID     int
				Result struct{ IsError bool }
				Error  json.RawMessage
			}
			require.NoError(t, json.Unmarshal([]byte(line), &answer))
			require.False(t, answer.Result.IsError, line)
			require.Nil(t, answer.Error, line)
			answered[answer.ID] = true
		}
		require.Len(t, answered, calls+1, "input ends in %q", end)
	}
	memories, err := server.Space("alice").Memories(t.Context(), engram.Filter{})
	require.NoError(t, err)
	require.Len(t, memories, 3*calls)
}

// TestMCPPassesTheTraceOn: a call stays part of the trace that it is said to be of.
func TestMCPPassesTheTraceOn(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice"}})
	target, err := url.Parse(server.URL())
	require.NoError(t, err)
	metas := make(chan map[string]any, 2)
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var sent struct {
			Method string
			Params struct {
				Meta map[string]any `json:"_meta"`
			}
		}
		if err == nil && json.Unmarshal(body, &sent) == nil && sent.Method == "tools/call" {
			metas <- sent.Params.Meta
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for meta, named := range map[string]any{
		`{"traceparent":"` + parent + `","progressToken":7}`: parent,
		`{"progressToken":7}`:                                nil,
	} {
		input := initialize + `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","arguments":{},"_meta":` + meta + "}}\n"
		var out bytes.Buffer
		code := newApp(strings.NewReader(input), &out, io.Discard).run(t.Context(), []string{"mcp", "--addr", front.URL, "-s", "alice"})
		require.Equal(t, exitOK, code)
		require.Contains(t, out.String(), `"memories"`)
		passed := <-metas
		require.Equal(t, named, passed["traceparent"])
		require.NotContains(t, passed, "progressToken")
	}
}
