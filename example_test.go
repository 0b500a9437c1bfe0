package engram_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/engramdb/engram"
)

// check is what an example does about an error.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// temporaryDir makes a data directory for an example; done removes it.
func temporaryDir() (dir string, done func()) {
	dir, err := os.MkdirTemp("", "engram-example-")
	check(err)
	return dir, func() { check(os.RemoveAll(dir)) }
}

// The README shows this example, from the blank line to the output.
func Example() {
	dir, done := temporaryDir()
	defer done()

	ctx := context.Background()
	registry, err := engram.Open(dir, engram.Options{})
	check(err)
	defer func() { check(registry.Close()) }()

	alice, err := registry.GetOrCreate(ctx, "alice", engram.SpaceConfig{})
	check(err)
	_, err = alice.Remember(ctx, engram.Memory{Content: "Alice prefers window seats on long flights."})
	check(err)

	recall, err := alice.Recall(ctx, engram.Cue{Text: "Which seat should I book for the flight?"})
	check(err)
	for _, recollection := range recall.Recollections {
		fmt.Println(recollection.Memory.Content)
	}
	// Output:
	// Alice prefers window seats on long flights.
}

// A consumer keeps the Seq of the last event that it has dealt with, and goes on
// from there, now or after a restart.
func ExampleSpace_Subscribe() {
	dir, done := temporaryDir()
	defer done()
	ctx := context.Background()
	registry, err := engram.Open(dir, engram.Options{})
	check(err)
	defer func() { check(registry.Close()) }()
	alice, err := registry.Create(ctx, "alice", engram.SpaceConfig{})
	check(err)
	for _, content := range []string{"Alice likes green tea.", "Alice likes mint tea."} {
		_, err = alice.Remember(ctx, engram.Memory{ID: "tea", Content: content})
		check(err)
	}
	last, err := alice.Forget(ctx, []string{"tea"})
	check(err)

	var position uint64 // kept by the consumer
	for event, err := range alice.Subscribe(ctx, position) {
		if trimmed := (*engram.TrimmedError)(nil); errors.As(err, &trimmed) {
			break // take an Export, and go on from the seq that it returns
		}
		check(err)
		fmt.Println(event.Seq, event.Kind, event.IDs)
		if position = event.Seq; position == last.Seq {
			break // without it, the loop waits for what follows
		}
	}
	// Output:
	// 1 configured []
	// 2 remembered [tea]
	// 3 replaced [tea]
	// 4 forgotten [tea]
}

// An export of one space becomes another.
func ExampleRegistry_Import() {
	dir, done := temporaryDir()
	defer done()
	ctx := context.Background()
	registry, err := engram.Open(dir, engram.Options{})
	check(err)
	defer func() { check(registry.Close()) }()
	alice, err := registry.Create(ctx, "alice", engram.SpaceConfig{})
	check(err)
	_, err = alice.Remember(ctx, engram.Memory{Content: "Alice likes green tea."})
	check(err)

	var export bytes.Buffer
	_, err = alice.Export(ctx, &export)
	check(err)
	copied, err := registry.Import(ctx, "alice-2", &export)
	check(err)
	report, err := copied.Verify(ctx)
	check(err)
	fmt.Println(report.Memories, len(report.Damage))
	// Output:
	// 1 0
}
