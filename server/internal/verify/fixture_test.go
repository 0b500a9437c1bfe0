package verify

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/internal/auth"
)

// asWriter in the environment makes the test binary carry out an order.
const asWriter = "ENGRAM_TEST_VERIFY_WRITER"

// noWriter is an order to end, and to say nothing.
const noWriter = "none"

func TestMain(m *testing.M) {
	order := os.Getenv(asWriter)
	switch order {
	case "":
		os.Exit(m.Run())
	case noWriter:
		os.Exit(1)
	}
	var told WriterOrder
	err := json.Unmarshal([]byte(order), &told)
	if err == nil {
		err = RunWriter(context.Background(), told, os.Stdin, os.Stdout)
	}
	panic(err)
}

func writerChild(order WriterOrder) (*exec.Cmd, error) {
	text, err := json.Marshal(order)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), asWriter+"="+string(text))
	return child, err
}

// served is a server in this process, over all transports.
type served struct {
	registry *engram.Registry
	config   Config // with which it is verified
}

// serve starts a server. leak may stand before its handler, interceptors before
// its RPCs.
func serve(t *testing.T, options server.Options, leak func(http.Handler) http.Handler, interceptors ...grpc.UnaryServerInterceptor) *served {
	t.Helper()
	registry, err := engram.Open(filepath.Join(t.TempDir(), "data"), engram.Options{Durability: engram.Interval(time.Millisecond)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	built := server.New(registry, options)
	handler := http.Handler(built)
	if leak != nil {
		handler = leak(handler)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- built.ServeGRPC(ctx, listener, grpc.ChainUnaryInterceptor(interceptors...)) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return &served{registry, Config{
		Addr: web.URL, GRPCAddr: listener.Addr().String(), MCPAddr: web.URL + "/mcp", Spaces: MinSpaces, Seed: 7, Timeout: time.Minute, Command: "engram verify",
	}}
}

// spaces returns the ids of all spaces.
func (s *served) spaces() []engram.SpaceID {
	var ids []engram.SpaceID
	for id := range s.registry.Spaces("") {
		ids = append(ids, id)
	}
	return ids
}

// only limits a configuration to the assertions whose names match.
func only(config Config, pattern string) Config {
	config.Only = regexp.MustCompile(pattern)
	return config
}

// keys returns what admits an operator and two tenants, and their keys.
func keys(t *testing.T) (*server.Auth, []Key) {
	t.Helper()
	var stored []auth.Key
	var shown []Key
	for _, text := range []string{"verify-*:read,write,admin", "verify-a-*:read,write", "verify-b*:read"} {
		scopes, err := auth.ParseScopes([]string{text})
		require.NoError(t, err)
		key, secret := auth.NewKey("", scopes, time.Now(), time.Time{})
		stored, shown = append(stored, key), append(shown, Key{ID: key.ID, Scopes: scopes, Key: secret})
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, auth.UpdateKeys(path, func([]auth.Key) ([]auth.Key, error) { return stored, nil }))
	admitted, err := server.OpenAuth(t.Context(), server.AuthConfig{Keys: path})
	require.NoError(t, err)
	t.Cleanup(admitted.Close)
	return admitted, shown
}

// find returns the result of an assertion.
func find(t *testing.T, report Report, name string) Result {
	t.Helper()
	for _, result := range report.Assertions {
		if result.Name == name {
			return result
		}
	}
	require.Fail(t, "the report has no such assertion", name)
	return Result{}
}
