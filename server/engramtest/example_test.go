package engramtest_test

import (
	"fmt"
	"testing"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
)

// A test that crashes its server. As an example it makes its own testing.TB; in a
// test, t is the one that the test has.
func Example() {
	test := func(t testing.TB) {
		server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alice", "bob"}})
		alice, bob := server.Space("alice"), server.Space("bob")
		_, err := alice.Remember(t.Context(), engram.Memory{ID: "tea", Content: "Alice drinks green tea."})
		fmt.Println("remembered:", err == nil)

		server.Crash()
		server.Restart()

		memory, err := alice.Lookup(t.Context(), "tea")
		fmt.Println("over HTTP:", memory.Content, err)
		memory, err = server.GRPC("alice").Lookup(t.Context(), "tea")
		fmt.Println("over gRPC:", memory.Content, err)
		_, err = bob.Lookup(t.Context(), "tea")
		fmt.Println("of bob:", err)
	}
	run(test)
	// Output:
	// remembered: true
	// over HTTP: Alice drinks green tea. <nil>
	// over gRPC: Alice drinks green tea. <nil>
	// of bob: memory not found
}
