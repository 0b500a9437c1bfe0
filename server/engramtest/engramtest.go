// Package engramtest starts Engram servers for tests, crashes them and starts
// them again.
//
//	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice", "bob"}})
//	_, err := server.Space("alice").Remember(t.Context(), engram.Memory{Content: "Alice drinks tea."})
//	require.NoError(t, err)
//	server.Crash()
//	server.Restart()
//
// A server has a temporary directory of its own, and is stopped and removed when
// the test ends. It runs in the process of the test, or, with [Options.Process],
// as a child process that Crash kills. What a child process cannot be given, code
// of the test, [Options.Server] and [Options.Registry], is for the first kind.
//
// [Server.Space] is a client over HTTP and [Server.GRPC] one over gRPC, each bound
// to a space. The Model Context Protocol is spoken at [Server.URL] + "/mcp".
//
// Faults of the network are had from [Server.Transport], for both kinds of server
// and both kinds of client.
package engramtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// connectTimeout is how long a server may take to answer a connection of gRPC: a machine
// that does much else keeps it from that for a while.
const connectTimeout = 20 * time.Second

// journalBytes of a server in process: crashing it copies its journal.
const journalBytes = 1 << 20

// Options of a server for tests. The zero value is a server in this process
// without a space.
type Options struct {
	// Spaces are created before Start returns.
	Spaces []engram.SpaceID
	// Process runs the server as a child process: the command engram, built once
	// for all tests of the process. Crash then kills it.
	Process bool
	// Args are added to the command line of the child process, after "serve".
	Args []string
	// Server are the options of a server in this process.
	Server server.Options
	// Registry are the options of the registry in this process. A zero
	// JournalBytes is 1 MiB here.
	Registry engram.Options
}

// Server is a server under test. Its methods fail the test where they cannot do
// what they say; they are for the test's own goroutine, but for those of its
// clients and Transport, URL and Dir.
type Server struct {
	tb        testing.TB
	options   Options
	transport *Transport
	client    *httpclient.Client
	rpc       *client.Client

	mu      sync.Mutex // guards the fields below, against clients that are at work during a crash
	dir     string
	url     string
	address string // of gRPC
	running host   // nil: crashed or stopped
}

// host is a server that runs.
type host interface {
	// addresses returns the server's URL, and host and port of gRPC.
	addresses() (url, rpc string)
	// stop ends it in good order.
	stop() error
	// crash ends it as it is, and returns the data directory to go on with.
	crash(tb testing.TB) (dir string)
}

// Start starts a server with the spaces of the options.
func Start(tb testing.TB, options Options) *Server {
	tb.Helper()
	if options.Registry.JournalBytes == 0 {
		options.Registry.JournalBytes = journalBytes
	}
	s := &Server{tb: tb, options: options, transport: newTransport(), dir: filepath.Join(tb.TempDir(), "data")}
	s.client = httpclient.NewMoving(s.URL, s.transport)
	s.rpc = s.dial()
	tb.Cleanup(s.cleanUp)
	s.Restart()
	for _, id := range options.Spaces {
		s.Create(id)
	}
	return s
}

// Restart starts a server that was crashed or stopped, on what it left.
func (s *Server) Restart() {
	s.tb.Helper()
	require.Nil(s.tb, s.host(), "the server is running")
	start := startInProcess
	if s.options.Process {
		start = startProcess
	}
	running := start(s.tb, s.Dir(), s.options)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = running
	s.url, s.address = running.addresses()
}

// dial returns a client of gRPC that finds the server wherever it is, and soon
// after it is there.
func (s *Server) dial() *client.Client {
	s.tb.Helper()
	soon := backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond}
	rpc, err := client.Dial("passthrough:///engramtest", client.Options{Insecure: true, Dial: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.GRPCAddress())
		}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: connectTimeout}),
		grpc.WithChainUnaryInterceptor(s.transport.interceptUnary),
		grpc.WithChainStreamInterceptor(s.transport.interceptStream),
	}})
	require.NoError(s.tb, err)
	return rpc
}

// Crash ends the server without giving it the time to put anything in order: what
// was acknowledged must be there after Restart, and nothing else need be. A
// child process is killed at whatever it is doing. A server in process first
// loses its connections; when its handlers have returned and its files have come
// to rest, their copy is what Restart finds: another directory, see [Server.Dir].
func (s *Server) Crash() {
	s.tb.Helper()
	running := s.take()
	require.NotNil(s.tb, running, "the server is not running")
	dir := running.crash(s.tb)
	s.transport.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir = dir
}

// Stop ends the server in good order.
func (s *Server) Stop() {
	s.tb.Helper()
	running := s.take()
	require.NotNil(s.tb, running, "the server is not running")
	s.transport.CloseIdleConnections()
	require.NoError(s.tb, running.stop())
}

// URL returns the server's address, http://127.0.0.1:PORT. Each start takes
// another port.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// GRPCAddress returns where the server answers gRPC, 127.0.0.1:PORT, without TLS.
// Each start takes another port.
func (s *Server) GRPCAddress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Dir returns the data directory. While the server runs it is the server's: to
// look into it or to damage it, stop the server.
func (s *Server) Dir() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dir
}

// Transport is what the server's clients send by. It is where faults are made.
func (s *Server) Transport() *Transport { return s.transport }

// Create makes a space.
func (s *Server) Create(id engram.SpaceID) *Space {
	s.tb.Helper()
	_, err := s.client.Create(s.tb.Context(), id, engram.SpaceConfig{})
	require.NoError(s.tb, err)
	return s.Space(id)
}

// Spaces returns the ids of all spaces in order.
func (s *Server) Spaces(ctx context.Context) ([]engram.SpaceID, error) {
	var ids []engram.SpaceID
	for id, err := range s.client.Spaces(ctx, "") {
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Space returns a client over HTTP that is bound to the space, which need not
// exist. It stays good over a restart.
func (s *Server) Space(id engram.SpaceID) *Space { return &Space{s.client.Space(id)} }

// GRPC returns a client over gRPC that is bound to the space, which need not
// exist. It stays good over a restart, and so do its subscriptions.
func (s *Server) GRPC(id engram.SpaceID) *client.Space { return s.rpc.Space(id) }

func (s *Server) host() host {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// take returns what runs and leaves nothing.
func (s *Server) take() host {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := s.running
	s.running = nil
	return running
}

func (s *Server) cleanUp() {
	if running := s.take(); running != nil {
		s.transport.CloseIdleConnections()
		require.NoError(s.tb, running.stop())
	}
	require.NoError(s.tb, s.rpc.Close())
	require.NoError(s.tb, os.RemoveAll(s.dir))
}
