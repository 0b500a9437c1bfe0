package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/engramdb/engram"
)

// WriterOrder is what a child process is told that writes until it is killed.
type WriterOrder struct {
	Dir    string           `json:"dir"`
	Spaces []engram.SpaceID `json:"spaces"` // a writer for each
	Seed   uint64           `json:"seed"`
	Done   []int            `json:"done"` // of each writer: its writes that are there
}

// RunWriter carries out an order: it writes to the spaces at the same time and
// says on out which write of which writer is acknowledged. It returns when in
// ends, when ctx does, or with the first error.
func RunWriter(ctx context.Context, order WriterOrder, in io.Reader, out io.Writer) (err error) {
	if len(order.Done) != len(order.Spaces) {
		return errors.New("the order does not say of each space what was done")
	}
	registry, err := engram.Open(order.Dir, engram.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // ends with the process at the latest, which has nothing else to do
		_, _ = io.Copy(io.Discard, in)
		stop(errors.New("the parent has ended"))
	}()
	var said sync.Mutex // guards out
	var writers sync.WaitGroup
	for writer, id := range order.Spaces {
		writers.Go(func() {
			space, err := registry.Get(ctx, id)
			for n := order.Done[writer] + 1; err == nil; n++ {
				if batch, forgotten := killedWrite(order.Seed, writer, n); batch != nil {
					_, err = space.RememberBatch(ctx, batch)
				} else {
					_, err = space.Forget(ctx, []string{forgotten})
				}
				if err == nil {
					said.Lock()
					_, err = fmt.Fprintf(out, "%d %d\n", writer, n)
					said.Unlock()
				}
			}
			stop(err)
		})
	}
	writers.Wait()
	return context.Cause(ctx)
}
