package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/engramdb/engram"
)

// consistency are the claims about what follows from a write that was
// acknowledged.
func consistency() []assertion {
	return []assertion{
		{"consistency/read-your-writes", "a write that was acknowledged is in the next lookup, listing and recall", 0, func(ctx context.Context, c *check) error {
			return c.readYourWrites(ctx, c.over, c.over)
		}},
		{"consistency/across-transports", "a write over one transport is in the next read over the other, and both streams have the same events", needBoth, tryAcross},
		{"consistency/batch", "a batch of which one memory is refused stores none", 0, tryBatch},
		{"consistency/request-id", "a write that is sent twice takes effect once, and in each space for itself", 0, tryRequestID},
		{"consistency/conditional-write", "a conditional write is refused where the space has changed, and stores nothing", 0, tryConditional},
	}
}

// readYourWrites writes over one transport and reads over another.
func (c *check) readYourWrites(ctx context.Context, from, to transport) error {
	made, err := c.run.spaces.make(ctx, from, 2)
	if err != nil {
		return err
	}
	seed := c.random.Uint64()
	for n := range 12 {
		for i, s := range made {
			m := engram.Memory{ID: memoryID(n % 5), Content: fmt.Sprintf("Version %d of %s.", n, canaryOf(seed, i*100+n))}
			receipt, err := s.remember(ctx, m, write{})
			if err != nil {
				return err
			}
			reader := to.space(s.ID())
			got, err := reader.Lookup(ctx, m.ID)
			c.that(err == nil && got.Content == m.Content && got.Seq == receipt.Seq, "space %s acknowledged a write over %s at seq %d, and a lookup over %s gives %q of seq %d, %s",
				s.ID(), from.name(), receipt.Seq, to.name(), short(got.Content), got.Seq, answerOf(err))
			listed, err := collect(reader.Memories(ctx, engram.Filter{}))
			if err != nil {
				return err
			}
			c.that(contents(listed)[m.ID] == m.Content, "space %s acknowledged a write over %s, and a listing over %s has %q in its place",
				s.ID(), from.name(), to.name(), short(contents(listed)[m.ID]))
			recall, err := reader.Recall(ctx, engram.Cue{Text: canaryOf(seed, i*100+n)})
			if err != nil {
				return err
			}
			c.that(contents(recalled(recall))[m.ID] == m.Content && recall.Seq >= receipt.Seq, "space %s acknowledged a write over %s at seq %d, and a recall over %s, of seq %d, does not give it",
				s.ID(), from.name(), receipt.Seq, to.name(), recall.Seq)
		}
	}
	return nil
}

func tryAcross(ctx context.Context, c *check) error {
	other := c.run.other(c.over)
	if err := c.readYourWrites(ctx, c.over, other); err != nil {
		return err
	}
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	h := c.newHistories(made)[0]
	if err := writeAll(ctx, []*history{h}); err != nil {
		return err
	}
	if err := h.end(ctx); err != nil {
		return err
	}
	for _, over := range []transport{c.over, other} {
		h.space = over.space(made[0].ID())
		events, err := h.follow(ctx, c.random)
		c.follows(h, nil, events)
		if err != nil {
			return err
		}
	}
	return nil
}

func tryBatch(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	s := made[0]
	held := map[string]string{"before": "Was here before."}
	if _, err := s.remember(ctx, engram.Memory{ID: "before", Content: held["before"]}, write{}); err != nil {
		return err
	}
	for refused := range 3 {
		ms := []engram.Memory{{ID: "one", Content: "One."}, {ID: "before", Content: "Replaced."}, {ID: "three", Content: "Three."}}
		ms[refused].Confidence = 2
		_, err := s.RememberBatch(ctx, ms)
		c.refused(err, engram.ErrInvalid, "a batch with a confidence of 2 in place %d", refused)
		if err := c.holds(ctx, s, held, "after a batch was refused"); err != nil {
			return err
		}
	}
	return nil
}

func tryRequestID(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	once := write{requestID: "once-" + canaryOf(c.random.Uint64(), 0)}
	for i, s := range made {
		m := engram.Memory{Content: fmt.Sprintf("Sent twice to space %d.", i)} // the space gives it an id
		first, err := s.remember(ctx, m, once)
		if err != nil {
			return err
		}
		if _, err := s.remember(ctx, engram.Memory{ID: "between", Content: "Something else."}, write{}); err != nil {
			return err
		}
		second, err := s.remember(ctx, m, once)
		c.that(err == nil && first == second, "a write that is sent again to space %s has the receipt %v, %s, and had %v", s.ID(), second, answerOf(err), first)
		_, err = s.remember(ctx, engram.Memory{Content: "Another payload."}, once)
		c.refused(err, engram.ErrRequestReused, "another write with a request id that space %s has seen", s.ID())
		held := map[string]string{first.ID: m.Content, "between": "Something else."}
		if err := c.holds(ctx, s, held, "after a write was sent twice"); err != nil {
			return err
		}
	}
	return nil
}

// maxVersionAttempts bounds how often a conditional write is tried: an embedder of
// the installation may change the space in between.
const maxVersionAttempts = 20

func tryConditional(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	s, other := made[0], made[1]
	held := map[string]string{}
	var seen string
	for n := range 5 {
		m := engram.Memory{ID: memoryID(n), Content: fmt.Sprintf("Conditional write %d.", n)}
		err := engram.ErrConflict
		for range maxVersionAttempts {
			if !errors.Is(err, engram.ErrConflict) {
				break
			}
			version, versionErr := s.version(ctx)
			if versionErr != nil {
				return versionErr
			}
			seen = version
			_, err = s.remember(ctx, m, write{version: version})
		}
		if err != nil {
			return fmt.Errorf("a write on condition that the space is as it is: %w", err)
		}
		held[m.ID] = m.Content
		if _, err := other.remember(ctx, m, write{}); err != nil {
			return err
		}
		_, err = s.remember(ctx, engram.Memory{ID: "late", Content: "Too late."}, write{version: seen})
		c.refused(err, engram.ErrConflict, "a write to space %s on condition of a version that it had before", s.ID())
		if err := c.holds(ctx, s, held, "after a conditional write was refused"); err != nil {
			return err
		}
	}
	return nil
}

// percentile returns a percentile of durations or whatever is ordered.
func percentile(values []float64, share float64) float64 {
	slices.Sort(values)
	return values[min(len(values)-1, int(share*float64(len(values))))]
}
