package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// announced reads what serve prints first and returns the server's URL.
func announced(t *testing.T, out io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, url, found := strings.Cut(strings.TrimSpace(line), " on ")
	require.True(t, found, line)
	url, _, _ = strings.Cut(url, " and ")
	return url
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(answer)
}

// lockedBuffer is a buffer that goroutines share.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestServe runs the command as a user would: start, talk, stop, look.
func TestServe(t *testing.T) {
	sh := newShell(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, printed := io.Pipe()
	var logged lockedBuffer
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, &logged).run(ctx, []string{"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"})
	}()
	url := announced(t, out)

	status, _ := post(t, url+"/v1/spaces", `{"id":"alpha"}`)
	require.Equal(t, http.StatusCreated, status)
	status, _ = post(t, url+"/v1/spaces/alpha/memories", `{"id":"tea","content":"Anna drinks green tea"}`)
	require.Equal(t, http.StatusCreated, status)
	status, answer := post(t, url+"/v1/spaces/alpha/recall", `{"text":"what does Anna drink"}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, "green tea")

	// The directory is the server's while it runs.
	sh.run("space", "list").failed("in use by process", "HTTP API")

	stop()
	select {
	case got := <-code:
		require.Equal(t, exitOK, got, logged.String())
	case <-time.After(time.Minute):
		require.FailNow(t, "serve did not end")
	}
	require.Contains(t, logged.String(), `"route":"/v1/spaces/{space}/recall"`)
	require.NotContains(t, logged.String(), "green tea")
	require.Equal(t, []string{"Anna drinks green tea"}, sh.contents("alpha"))
	var memory engram.Memory
	sh.run("lookup", "tea", "-s", "alpha", "-o", "json").into(&memory)
	require.Equal(t, "Anna drinks green tea", memory.Content)
}

func TestServeConsole(t *testing.T) {
	for setting, expected := range map[string]int{"--console": http.StatusOK, "--console=false": http.StatusNotFound} {
		sh := newShell(t)
		ctx, stop := context.WithCancel(t.Context())
		out, printed := io.Pipe()
		code := make(chan int, 1)
		go func() {
			code <- newApp(strings.NewReader(""), printed, io.Discard).run(ctx,
				[]string{"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "off", setting})
		}()
		response, err := http.Get(announced(t, out) + "/")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, expected, response.StatusCode, setting)
		stop()
		require.Equal(t, exitOK, <-code)
	}
}

func TestServeRefusesReachableAddresses(t *testing.T) {
	for address, loopback := range map[string]bool{
		"127.0.0.1:0":     true,
		"127.1.2.3:7432":  true,
		"[::1]:7432":      true,
		"localhost:7432":  true,
		":7432":           false,
		"0.0.0.0:7432":    false,
		"[::]:7432":       false,
		"192.0.2.1:7432":  false,
		"[2001:db8::1]:1": false,
	} {
		_, err := resolveAddress("http", address, "", false)
		require.Equal(t, loopback, err == nil, "%s: %v", address, err)
		_, err = resolveAddress("http", address, "", true)
		require.NoError(t, err)
	}
	sh := newShell(t)
	sh.run("serve", "--http", "0.0.0.0:0").failed("--insecure")
	sh.run("serve", "--http", "127.0.0.1:0", "--grpc", "0.0.0.0:0").failed("--grpc", "--insecure")
	sh.run("serve", "--http", "127.0.0.1:0", "--grpc", "off", "--admin", "0.0.0.0:0").failed("--insecure")
	require.NoDirExists(t, sh.dir)
}

// TestServeMakesNoDirectoryWithoutItsPorts: a server that is started twice leaves
// nothing behind.
func TestServeMakesNoDirectoryWithoutItsPorts(t *testing.T) {
	sh := newShell(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	for _, flag := range []string{"--http", "--grpc", "--admin"} {
		sh.run("serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", flag, taken.Addr().String()).failed(flag + ": ")
		require.NoDirExists(t, sh.dir)
	}
}
