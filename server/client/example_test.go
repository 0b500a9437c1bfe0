package client_test

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/client"
)

// A server and a client of it. The server usually is another process: engram serve.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "engram")
	check(err)
	defer func() { check(os.RemoveAll(dir)) }()
	registry, err := engram.Open(dir, engram.Options{})
	check(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	served := make(chan error, 1)
	go func() { served <- server.New(registry, server.Options{}).ServeGRPC(ctx, listener) }()

	c, err := client.Dial(listener.Addr().String(), client.Options{Insecure: true})
	check(err)
	space, err := c.GetOrCreate(ctx, "alice", engram.SpaceConfig{})
	check(err)
	_, err = space.Remember(ctx, engram.Memory{Content: "Alice likes green tea."})
	check(err)
	answer, err := space.Recall(ctx, engram.Cue{Text: "what tea does she like?"})
	check(err)
	fmt.Println(answer.Recollections[0].Memory.Content)

	check(c.Close())
	stop()
	check(<-served)
	check(registry.Close())
	// Output: Alice likes green tea.
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
