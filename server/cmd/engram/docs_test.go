package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
)

// The sessions that the documentation shows, as they stand.

// grpcurlPackage is fetched through the Go module proxy, and in nobody's go.mod.
const grpcurlPackage = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"

// docsTimeout bounds each wait for what a session does.
const docsTimeout = time.Minute

// indented returns the lines of a page that are indented by four spaces, without
// them, as blocks of lines that follow each other. A backslash at the end of a line
// continues it.
func indented(t *testing.T, page string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../docs", page))
	require.NoError(t, err)
	var blocks [][]string
	inside := false
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		code, found := strings.CutPrefix(line, "    ")
		if found && !inside {
			blocks = append(blocks, nil)
		}
		if inside = found; found {
			last := len(blocks) - 1
			blocks[last] = append(blocks[last], strings.TrimSuffix(code, "\n"))
		}
	}
	return blocks
}

// grpcurl builds the program, and returns the directory that it is in.
func grpcurl(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds grpcurl")
	}
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for a shell of POSIX")
	}
	dir := t.TempDir()
	// As the image is built: what both are made of is compiled once.
	build := exec.CommandContext(t.Context(), "go", "install", "-trimpath", grpcurlPackage)
	build.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if said, err := build.CombinedOutput(); err != nil {
		t.Skipf("grpcurl cannot be fetched and built: %v: %s", err, said)
	}
	return dir
}

// servedDirectory is a server of this command, in this process.
type servedDirectory struct {
	web, rpc string // URL, and host:port
}

// serveDirectory runs serve on the shell's directory until the test ends.
func serveDirectory(t *testing.T, sh shell, args ...string) servedDirectory {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, printed := io.Pipe()
	var logged lockedBuffer
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, &logged).run(ctx,
			append([]string{"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...))
	}()
	t.Cleanup(func() {
		stop()
		require.Equal(t, exitOK, <-code, logged.String())
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addresses := regexp.MustCompile(` on (https?://\S+) and grpc://(\S+)`).FindStringSubmatch(line)
	require.NotNil(t, addresses, line)
	return servedDirectory{addresses[1], addresses[2]}
}

// TestDocumentedGRPCCommands runs the commands of docs/grpc.md with grpcurl: those
// without TLS on a server without keys, those with it on one that has them.
func TestDocumentedGRPCCommands(t *testing.T) {
	path := grpcurl(t) + string(os.PathListSeparator) + os.Getenv("PATH")
	dir := t.TempDir()
	plain := serveDirectory(t, newShell(t))

	sh := newShell(t)
	sh.run("space", "create", "alice").ok()
	var made struct{ Key string }
	sh.args = nil
	sh.run("key", "create", "--keys", dir+"/keys.json", "--scope", "alice:read", "-o", "json").into(&made)
	issuer := newAuthority(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.pem"), pemOf("CERTIFICATE", issuer.cert.Raw), 0o600))
	cert, key, _ := issuer.serverFiles(dir)
	secured := serveDirectory(t, sh, "--keys", dir+"/keys.json", "--tls-cert", cert, "--tls-key", key)

	places := strings.NewReplacer("127.0.0.1:50051", plain.rpc, "engram.example:50051", secured.rpc)
	said := map[string]string{} // by method
	for _, block := range indented(t, "grpc.md") {
		for _, line := range block {
			require.True(t, strings.HasPrefix(line, "grpcurl "), line)
			ctx, cancel := context.WithTimeout(t.Context(), docsTimeout)
			command := exec.CommandContext(ctx, "sh", "-c", "exec "+places.Replace(line))
			command.Dir = dir
			command.Env = append(os.Environ(), "PATH="+path, "ENGRAM_KEY="+made.Key)
			method := line[strings.LastIndexByte(line, '.')+1:]
			said[method] = outputOf(t, command, strings.HasSuffix(method, "/Subscribe"))
			cancel()
		}
	}
	require.Contains(t, said["SpaceService/CreateSpace"], `"alice"`)
	require.Contains(t, said["MemoryService/Remember"], `"receipt"`)
	require.Contains(t, said["MemoryService/Recall"], "Alice likes green tea.")
	require.Contains(t, said["MemoryService/Subscribe"], "Alice likes green tea.")
	require.Contains(t, said["SpaceService/GetSpace"], `"alice"`)
	require.Len(t, said, 5)
}

// outputOf returns what a command prints, which must succeed. Of one that goes on
// for ever it is what it prints up to the memory that was stored; then it is ended.
func outputOf(t *testing.T, command *exec.Cmd, endless bool) string {
	t.Helper()
	var failures strings.Builder
	command.Stderr = &failures
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if endless && strings.Contains(lines.Text(), "green tea") {
			require.NoError(t, command.Process.Kill())
		}
	}
	err = command.Wait()
	var killed *exec.ExitError
	if endless && errors.As(err, &killed) {
		err = nil
	}
	require.NoError(t, err, "%s: %s", command, failures.String())
	return said.String()
}

// exchangeLine is one message of the session in docs/mcp.md, with what is answered;
// empty: nothing is.
type exchangeLine struct{ sent, answered string }

func mcpSession(t *testing.T) []exchangeLine {
	t.Helper()
	var session []exchangeLine
	for _, block := range indented(t, "mcp.md") {
		for _, line := range block {
			if sent, found := strings.CutPrefix(line, "> "); found {
				session = append(session, exchangeLine{sent: sent})
			}
			if answered, found := strings.CutPrefix(line, "< "); found {
				session[len(session)-1].answered = strings.ReplaceAll(answered, ",...", "")
			}
		}
	}
	require.Len(t, session, 5)
	return session
}

// requireShown requires that all of what is shown is there: every field that an
// object is shown with, also of objects that stand in a text.
func requireShown(t *testing.T, shown, got any) {
	t.Helper()
	switch shown := shown.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		require.True(t, ok, "%v", got)
		for name, value := range shown {
			require.Contains(t, object, name)
			requireShown(t, value, object[name])
		}
	case []any:
		list, ok := got.([]any)
		require.True(t, ok, "%v", got)
		require.Len(t, list, len(shown))
		for i := range shown {
			requireShown(t, shown[i], list[i])
		}
	case string:
		text, ok := got.(string)
		require.True(t, ok, "%v", got)
		if strings.HasPrefix(shown, "{") {
			requireShown(t, decoded(t, shown), decoded(t, text))
			return
		}
		require.Equal(t, shown, text)
	default:
		require.Equal(t, shown, got)
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}

// mcpClients are the two ways of docs/mcp.md to add the server to a client: the
// arguments of the command, and the URL.
func mcpClients(t *testing.T, server *engramtest.Server) (args []string, url string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/mcp.md")
	require.NoError(t, err)
	for i, block := range strings.Split(string(text), "```json\n") {
		if i == 0 {
			continue
		}
		block, _, _ = strings.Cut(block, "```")
		var file struct {
			Servers map[string]struct {
				Command string
				Args    []string
				URL     string
			} `json:"mcpServers"`
		}
		require.NoError(t, json.Unmarshal([]byte(block), &file))
		entry := file.Servers["engram"]
		if url == "" {
			url = strings.ReplaceAll(entry.URL, "http://127.0.0.1:7432", server.URL())
		}
		if entry.Command == "engram" {
			args = entry.Args
		}
	}
	require.Equal(t, "mcp", args[0])
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "http://127.0.0.1:7432", server.URL())
	}
	require.True(t, strings.HasPrefix(url, server.URL()), url)
	return args, url
}

// TestDocumentedMCPSession sends the lines of docs/mcp.md to the command that it
// shows, and compares what comes back with what is shown.
func TestDocumentedMCPSession(t *testing.T) {
	t.Setenv(spaceVariable, "")
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice", "bob"}})
	args, _ := mcpClients(t, server)
	binary := engramtest.Binary(t) // which takes as long as it is to build
	ctx, cancel := context.WithTimeout(t.Context(), docsTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, binary, args...)
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewReader(out)
	for _, one := range mcpSession(t) {
		_, err := io.WriteString(in, one.sent+"\n")
		require.NoError(t, err)
		if one.answered == "" {
			continue
		}
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		requireShown(t, decoded(t, one.answered), decoded(t, line))
	}
	require.NoError(t, in.Close())
	require.NoError(t, command.Wait())
}

// TestDocumentedMCPCalls makes the calls of that session with the protocol's
// official client, over each of the two ways.
func TestDocumentedMCPCalls(t *testing.T) {
	t.Setenv(spaceVariable, "")
	for _, way := range []string{"command", "url"} {
		server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice", "bob"}})
		args, url := mcpClients(t, server)
		var session *mcp.ClientSession
		if way == "command" {
			session = stdio(t, slices.Clone(args[1:])...)
		} else {
			var err error
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err = client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url}, nil)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, session.Close()) })
		}
		calls := 0
		for _, one := range mcpSession(t) {
			var sent struct {
				Method string
				Params struct {
					Name      string
					Arguments map[string]any
				}
			}
			require.NoError(t, json.Unmarshal([]byte(one.sent), &sent))
			if sent.Method != "tools/call" {
				continue
			}
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: sent.Params.Name, Arguments: sent.Params.Arguments})
			require.NoError(t, err)
			text, err := json.Marshal(result)
			require.NoError(t, err)
			requireShown(t, decoded(t, one.answered).(map[string]any)["result"], decoded(t, string(text)))
			calls++
		}
		require.Equal(t, 3, calls)
	}
}
