package server_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// A program of one's own that serves spaces beside what else it does, with keys, rates
// and metrics.
func Example() {
	dir, err := os.MkdirTemp("", "engram")
	check(err)
	defer func() { check(os.RemoveAll(dir)) }()
	registry, err := engram.Open(dir, engram.Options{})
	check(err)
	defer func() { check(registry.Close()) }()
	ctx, stop := context.WithCancel(context.Background())
	_, err = registry.Create(ctx, "alice", engram.SpaceConfig{})
	check(err)

	// Usually the path of a file that engram key create has made.
	const keyID = "0123456789abcdef"
	secret := strings.Repeat("x", 52)
	keys := fmt.Sprintf(`{"version": 1, "keys": [{"id": %q, "sha256": "%x", "scopes": ["alice:read,write"]}]}`,
		keyID, sha256.Sum256([]byte(secret)))
	auth, err := server.OpenAuth(ctx, server.AuthConfig{Keys: keys})
	check(err)
	defer auth.Close()

	s := server.New(registry, server.Options{Auth: auth, CallerRate: server.Rate{PerSecond: 100}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	operator := httptest.NewServer(s.AdminHandler(false)) // usually ServeAdmin on a loopback address
	defer operator.Close()

	url := "http://" + listener.Addr().String() + "/v1/spaces/alice/memories"
	for _, key := range []string{"", "engram_" + keyID + "_" + secret} {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"content": "Alice likes green tea."}`))
		check(err)
		request.Header.Set("X-API-Key", key)
		answer, err := http.DefaultClient.Do(request)
		check(err)
		check(answer.Body.Close())
		fmt.Println(answer.Status)
	}

	stop()
	check(<-served)
	metrics, err := http.Get(operator.URL + "/metrics")
	check(err)
	text, err := io.ReadAll(metrics.Body)
	check(err)
	check(metrics.Body.Close())
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "engram_requests_total") {
			fmt.Print(line)
		}
	}

	// Output:
	// 401 Unauthorized
	// 201 Created
	// engram_requests_total{route="/v1/spaces/{space}/memories",status="201",transport="http"} 1
	// engram_requests_total{route="/v1/spaces/{space}/memories",status="401",transport="http"} 1
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
