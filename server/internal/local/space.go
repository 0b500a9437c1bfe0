package local

import (
	"context"
	"io"
	"iter"

	"github.com/engramdb/engram"
)

// Space is a space of this process, which is looked up for each call, as for a
// request. Its methods do what those of [engram.Space] do, and fail where there
// is no such space.
type Space struct {
	registry *Registry
	id       engram.SpaceID
}

// ID returns the space's id.
func (s Space) ID() engram.SpaceID { return s.id }

// on looks up the space and does something with it.
func on[T any](ctx context.Context, s Space, do func(*engram.Space) (T, error)) (answer T, err error) {
	space, err := s.registry.Get(ctx, s.id)
	if err != nil {
		return answer, err
	}
	return do(space)
}

// onAwake is on for what needs the space's figures: only those of a space that is
// awake are of its last operation, and whatever is read wakes it.
func onAwake[T any](ctx context.Context, s Space, do func(*engram.Space) (T, error)) (T, error) {
	return on(ctx, s, func(space *engram.Space) (answer T, err error) {
		if err := Wake(ctx, space); err != nil {
			return answer, err
		}
		return do(space)
	})
}

// each yields what the space yields.
func each[T any](ctx context.Context, s Space, of func(*engram.Space) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		space, err := s.registry.Get(ctx, s.id)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		of(space)(yield)
	}
}

// Remember is under a request id, if it is not empty.
func (s Space) Remember(ctx context.Context, m engram.Memory, requestID string) (engram.Receipt, error) {
	if requestID == "" {
		return s.RememberWith(ctx, m)
	}
	return s.RememberWith(ctx, m, engram.RequestID(requestID))
}

// RememberWith is Remember with options.
func (s Space) RememberWith(ctx context.Context, m engram.Memory, options ...engram.WriteOption) (engram.Receipt, error) {
	return on(ctx, s, func(space *engram.Space) (engram.Receipt, error) { return space.Remember(ctx, m, options...) })
}

// RememberBatch remembers all or none.
func (s Space) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return on(ctx, s, func(space *engram.Space) ([]engram.Receipt, error) { return space.RememberBatch(ctx, ms) })
}

// Lookup returns a memory.
func (s Space) Lookup(ctx context.Context, id string) (engram.Memory, error) {
	return on(ctx, s, func(space *engram.Space) (engram.Memory, error) { return space.Lookup(ctx, id) })
}

// Memories yields those that satisfy f, in time order.
func (s Space) Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return each(ctx, s, func(space *engram.Space) iter.Seq2[engram.Memory, error] { return space.Memories(ctx, f) })
}

// Recall answers a cue.
func (s Space) Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	return on(ctx, s, func(space *engram.Space) (engram.Recall, error) { return space.Recall(ctx, cue) })
}

// Forget forgets the memories of those ids.
func (s Space) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	return on(ctx, s, func(space *engram.Space) (engram.ForgetReceipt, error) { return space.Forget(ctx, ids) })
}

// ForgetWhere forgets the memories that satisfy f; a dry run counts them.
func (s Space) ForgetWhere(ctx context.Context, f engram.Filter, dryRun bool) (engram.ForgetReceipt, error) {
	return on(ctx, s, func(space *engram.Space) (receipt engram.ForgetReceipt, err error) {
		if !dryRun {
			return space.ForgetWhere(ctx, f)
		}
		for _, err := range space.Memories(ctx, f) {
			if err != nil {
				return receipt, err
			}
			receipt.Forgotten++
		}
		receipt.Seq = space.Stats().Content.Seq
		return receipt, nil
	})
}

// Associate associates two memories.
func (s Space) Associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return on(ctx, s, func(space *engram.Space) (engram.Receipt, error) { return space.Associate(ctx, a) })
}

// Dissociate removes an association.
func (s Space) Dissociate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return on(ctx, s, func(space *engram.Space) (engram.Receipt, error) { return space.Dissociate(ctx, a) })
}

// Associations returns those of a memory.
func (s Space) Associations(ctx context.Context, id string) ([]engram.Association, error) {
	return on(ctx, s, func(space *engram.Space) ([]engram.Association, error) { return space.Associations(ctx, id) })
}

// Subscribe yields the events behind a seq, and then those that come.
func (s Space) Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return each(ctx, s, func(space *engram.Space) iter.Seq2[engram.Event, error] { return space.Subscribe(ctx, after) })
}

// Configure changes the configuration that the space has at that moment; where
// another write comes between, it is a conflict and nothing is changed.
func (s Space) Configure(ctx context.Context, change func(*engram.SpaceConfig)) (engram.Receipt, error) {
	return onAwake(ctx, s, func(space *engram.Space) (engram.Receipt, error) {
		info := space.Info()
		change(&info.Config)
		return space.Configure(ctx, info.Config, engram.ExpectSeq(info.Seq))
	})
}

// Stats returns the space's figures. It wakes the space.
func (s Space) Stats(ctx context.Context) (engram.SpaceStats, error) {
	return onAwake(ctx, s, func(space *engram.Space) (engram.SpaceStats, error) { return space.Stats(), nil })
}

// Content returns the figures that depend on nothing but the space. It wakes it.
func (s Space) Content(ctx context.Context) (engram.ContentStats, error) {
	stats, err := s.Stats(ctx)
	return stats.Content, err
}

// Checkpoint writes the space's indexes to disk.
func (s Space) Checkpoint(ctx context.Context) error {
	_, err := on(ctx, s, func(space *engram.Space) (any, error) { return nil, space.Checkpoint(ctx) })
	return err
}

// Verify reads every byte of the space. Damage is in the report, and no error.
func (s Space) Verify(ctx context.Context) (engram.VerifyReport, error) {
	return on(ctx, s, func(space *engram.Space) (engram.VerifyReport, error) {
		report, err := space.Verify(ctx)
		if len(report.Damage) > 0 {
			return report, nil
		}
		return report, err
	})
}

// Export writes the space's export to dst and returns the seq that it holds.
func (s Space) Export(ctx context.Context, dst io.Writer) (uint64, error) {
	return on(ctx, s, func(space *engram.Space) (uint64, error) { return space.Export(ctx, dst) })
}
