package engramtest

import (
	"context"
	"iter"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// Problem is an error that the server answered with. Errors of a [Space] that the
// library knows match the library's with errors.Is as well.
type Problem = httpclient.Problem

// Space is an HTTP client that is bound to one space. It is safe for concurrent
// use.
type Space struct {
	client *httpclient.Space
}

// ID returns the space's id.
func (s *Space) ID() engram.SpaceID { return s.client.ID() }

// Remember stores a memory, or replaces the one of its id.
func (s *Space) Remember(ctx context.Context, m engram.Memory) (engram.Receipt, error) {
	return s.client.Remember(ctx, m, "")
}

// RememberOnce is Remember with an Idempotency-Key: retried, it takes effect once.
func (s *Space) RememberOnce(ctx context.Context, m engram.Memory, key string) (engram.Receipt, error) {
	return s.client.Remember(ctx, m, key)
}

// Lookup returns the memory of that id.
func (s *Space) Lookup(ctx context.Context, id string) (engram.Memory, error) {
	return s.client.Lookup(ctx, id)
}

// Memories returns the memories that satisfy the filter in time order.
func (s *Space) Memories(ctx context.Context, f engram.Filter) ([]engram.Memory, error) {
	var memories []engram.Memory
	for m, err := range s.client.Memories(ctx, f) {
		if err != nil {
			return nil, err
		}
		memories = append(memories, m)
	}
	return memories, nil
}

// Recall answers a cue.
func (s *Space) Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	return s.client.Recall(ctx, cue)
}

// Forget forgets the memories of these ids.
func (s *Space) Forget(ctx context.Context, ids ...string) (engram.ForgetReceipt, error) {
	return s.client.Forget(ctx, ids)
}

// Subscribe yields the space's events after a seq until ctx ends or the server
// does.
func (s *Space) Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return s.client.Subscribe(ctx, after)
}
