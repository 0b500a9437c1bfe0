package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/engramdb/engram"
)

// isolation are the claims about what a space shows of itself, and of others.
func isolation() []assertion {
	return []assertion{
		{"isolation/lookup", "a lookup gives the space's own memory, whole, under ids that all spaces have", 0, tryLookup},
		{"isolation/list", "a listing has the space's own memories, all of them, in time order", 0, tryList},
		{"isolation/filter", "a filtered listing has the space's own memories that satisfy the filter, all of them", 0, tryFilter},
		{"isolation/recall-text", "a recall by text gives own memories only, for words that all spaces have and for words of another", 0, tryRecallText},
		{"isolation/recall-embedding", "a recall by embedding gives own memories only, where all spaces have equal vectors", 0, tryRecallEmbedding},
		{"isolation/recall-association", "a recall by memories follows the space's own associations only", 0, tryRecallIDs},
		{"isolation/associations", "the associations of a memory are the space's own", 0, tryAssociations},
		{"isolation/export", "an export holds the space's own memories and nothing of another", 0, tryExport},
		{"isolation/figures", "a space's figures count its own memories", 0, tryFigures},
		{"isolation/foreign-memory", "an id that only another space has is answered as one that nobody has", 0, tryForeignMemory},
		{"isolation/wrong-space", "a memory that carries another space's id is refused and stored nowhere", 0, tryWrongSpace},
		{"isolation/interleaved", "writes to many spaces at once leave in each what its own writes say", 0, tryInterleaved},
	}
}

func tryLookup(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for _, want := range c.stage.all(i) {
			got, err := space.Lookup(ctx, want.ID)
			if err != nil {
				c.that(false, "lookup of %q in space %s: %s", want.ID, space.ID(), answerOf(err))
				continue
			}
			if c.own(i, fmt.Sprintf("lookup of %q", want.ID), []engram.Memory{got}) {
				c.that(sameMemory(got, want), "lookup of %q in space %s gives another memory than was remembered: %q", want.ID, space.ID(), short(got.Content))
			}
		}
	}
	return nil
}

func tryList(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		got, err := collect(space.Memories(ctx, engram.Filter{}))
		if err != nil {
			return err
		}
		c.own(i, "a listing", got)
		want := c.stage.all(i)
		c.that(sameContents(got, contents(want)), "a listing: %s", difference(space.ID(), got, contents(want)))
		c.that(slices.IsSortedFunc(got, func(a, b engram.Memory) int { return a.Time.Compare(b.Time) }),
			"a listing of space %s is not in time order", space.ID())
	}
	return nil
}

func tryFilter(ctx context.Context, c *check) error {
	filters := []engram.Filter{
		{Episode: episodeOf(1)},
		{Attributes: map[string]string{"topic": words()[0]}},
		{After: stageTime(5), Before: stageTime(15)},
		{Kind: engram.Episodic, Episode: episodeOf(2)},
	}
	for i, space := range c.stage.spaces {
		for _, f := range filters {
			got, err := collect(space.Memories(ctx, f))
			if err != nil {
				return err
			}
			c.own(i, "a filtered listing", got)
			want := map[string]string{}
			for _, m := range c.stage.all(i) {
				if satisfies(m, f) {
					want[m.ID] = m.Content
				}
			}
			c.that(sameContents(got, want), "a filtered listing: %s", difference(space.ID(), got, want))
		}
	}
	return nil
}

// satisfies reports whether a memory of a stage satisfies a filter.
func satisfies(m engram.Memory, f engram.Filter) bool {
	for key, value := range f.Attributes {
		if m.Attributes[key] != value {
			return false
		}
	}
	return (f.Episode == "" || m.Episode == f.Episode) && !m.Time.Before(f.After) && (f.Before.IsZero() || m.Time.Before(f.Before))
}

// recalled returns the memories of a recall.
func recalled(r engram.Recall) []engram.Memory {
	memories := make([]engram.Memory, len(r.Recollections))
	for i, recollection := range r.Recollections {
		memories[i] = recollection.Memory
	}
	return memories
}

// maxForeignWords is of how many other spaces each is asked for the word.
const maxForeignWords = 8

func tryRecallText(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for _, word := range words()[:6] {
			recall, err := space.Recall(ctx, engram.Cue{Text: word, Limit: 50})
			if err != nil {
				return err
			}
			c.own(i, fmt.Sprintf("a recall of %q", word), recalled(recall))
		}
		recall, err := space.Recall(ctx, engram.Cue{Text: c.stage.canaries[i], Limit: 50})
		if err != nil {
			return err
		}
		c.that(len(recall.Recollections) == len(c.stage.all(i)), "a recall of the word that all memories of space %s have gives %d of %d",
			space.ID(), len(recall.Recollections), len(c.stage.all(i)))
		for n := range min(maxForeignWords, len(c.stage.spaces)-1) {
			k := (i + 1 + n) % len(c.stage.spaces)
			canary := c.stage.canaries[k]
			recall, err := space.Recall(ctx, engram.Cue{Text: canary, Limit: 50})
			if err != nil {
				return err
			}
			c.own(i, fmt.Sprintf("a recall of %q, a word of space %s,", canary, c.stage.spaces[k].ID()), recalled(recall))
			c.that(len(recall.Recollections) == 0, "a recall of a word that space %s does not have gives %d memories", space.ID(), len(recall.Recollections))
		}
	}
	return nil
}

func tryRecallEmbedding(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for j := range 6 {
			want := c.stage.memory(i, j)
			recall, err := space.Recall(ctx, engram.Cue{Embedding: want.Embedding, Limit: 5, Spread: engram.Spread{Off: true}})
			if err != nil {
				return err
			}
			got := recalled(recall)
			c.own(i, "a recall by embedding", got)
			c.that(len(got) == 5 && got[0].ID == want.ID, "a recall by the embedding of %q in space %s gives %d memories, and not that one first",
				want.ID, space.ID(), len(got))
		}
	}
	return nil
}

func tryRecallIDs(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for j := range 6 {
			association := c.stage.association(i, j)
			recall, err := space.Recall(ctx, engram.Cue{IDs: []string{association.From}, Limit: 50})
			if err != nil {
				return err
			}
			got := recalled(recall)
			c.own(i, "a recall by association", got)
			c.that(slices.ContainsFunc(got, func(m engram.Memory) bool { return m.ID == association.To }),
				"a recall of %q in space %s does not give %q, which it leads to", association.From, space.ID(), association.To)
		}
	}
	return nil
}

func tryAssociations(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for j := range stageMemories {
			got, err := space.Associations(ctx, memoryID(j))
			if err != nil {
				return err
			}
			var want []engram.Association
			for k := range stageMemories {
				if a := c.stage.association(i, k); a.From == memoryID(j) || a.To == memoryID(j) {
					want = append(want, a)
				}
			}
			c.that(sameAssociations(got, want, memoryID(j)), "the associations of %q in space %s are %v", memoryID(j), space.ID(), got)
		}
	}
	return nil
}

// sameAssociations compares those that lead away from a memory, and lets those
// that lead to it be there or not.
func sameAssociations(got, all []engram.Association, from string) bool {
	for _, a := range got {
		if !slices.Contains(all, a) {
			return false
		}
	}
	for _, a := range all {
		if a.From == from && !slices.Contains(got, a) {
			return false
		}
	}
	return true
}

func tryExport(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		text, err := exported(ctx, space)
		if err != nil {
			return err
		}
		foreign := c.stage.foreign(i, text)
		c.that(foreign == "", "an export of space %s holds something of space %s", space.ID(), foreign)
		for _, m := range c.stage.all(i) {
			c.that(strings.Contains(text, quoted(m.Content)), "an export of space %s lacks memory %q", space.ID(), m.ID)
		}
		for _, other := range c.stage.spaces {
			c.that(other.ID() == space.ID() || !strings.Contains(text, strconv.Quote(string(other.ID()))), "an export of space %s names space %s", space.ID(), other.ID())
		}
	}
	return nil
}

func tryFigures(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		if _, err := space.Lookup(ctx, memoryID(0)); err != nil { // wakes it
			return err
		}
		info, err := c.over.Info(ctx, space.ID())
		if err != nil {
			return err
		}
		c.that(info.ID == space.ID(), "space %s describes itself as %q", space.ID(), info.ID)
		c.that(info.Memories == int64(len(c.stage.all(i))), "space %s counts %d memories of %d", space.ID(), info.Memories, len(c.stage.all(i)))
		first, err := c.over.Info(ctx, c.stage.spaces[0].ID())
		if err != nil {
			return err
		}
		c.that(first.Seq == info.Seq && first.Bytes == info.Bytes, "of spaces that the same was done to, %s is at seq %d with %d bytes, %s at seq %d with %d",
			first.ID, first.Seq, first.Bytes, info.ID, info.Seq, info.Bytes)
	}
	// What is alike everywhere may be another space's: of these one has more.
	pair, held, err := c.makeFilled(ctx, 2)
	if err != nil {
		return err
	}
	more := memoryID(len(held[0]))
	held[0][more] = "One more."
	if _, err := pair[0].remember(ctx, engram.Memory{ID: more, Content: held[0][more]}, write{}); err != nil {
		return err
	}
	for i, space := range pair {
		info, err := c.over.Info(ctx, space.ID())
		if err != nil {
			return err
		}
		c.that(info.Memories == int64(len(held[i])), "space %s counts %d memories of %d", space.ID(), info.Memories, len(held[i]))
	}
	return nil
}

// memoryProbe asks for a memory that the space does not have.
type memoryProbe struct {
	what string
	ask  func(id string) error
}

func memoryProbes(ctx context.Context, s space) []memoryProbe {
	return []memoryProbe{
		{"looking up", func(id string) error { _, err := s.Lookup(ctx, id); return err }},
		{"listing the associations of", func(id string) error { _, err := s.Associations(ctx, id); return err }},
		{"associating", func(id string) error {
			_, err := s.Associate(ctx, engram.Association{From: id, To: memoryID(0), Weight: 1})
			return err
		}},
	}
}

func tryForeignMemory(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		foreign := c.stage.alone((i + 1) % len(c.stage.spaces)).ID
		nobodys := "only-" + canaryOf(c.stage.seed, -1-i)
		for _, probe := range memoryProbes(ctx, space) {
			there, nowhere := probe.ask(foreign), probe.ask(nobodys)
			c.refused(there, engram.ErrMemoryNotFound, "in space %s, %s a memory that only another space has", space.ID(), probe.what)
			c.alike(fmt.Sprintf("in space %s, %s a memory of another space and one that nobody has", space.ID(), probe.what),
				answerOf(there, foreign), answerOf(nowhere, nobodys))
		}
		receipt, err := space.Forget(ctx, []string{foreign})
		if err != nil {
			return err
		}
		c.that(receipt.Forgotten == 0, "in space %s, forgetting a memory that only another space has forgets %d", space.ID(), receipt.Forgotten)
		recall, err := space.Recall(ctx, engram.Cue{IDs: []string{foreign}})
		if err != nil {
			return err
		}
		c.that(len(recall.Recollections) == 0, "in space %s, a recall of a memory that only another space has gives %d", space.ID(), len(recall.Recollections))
	}
	for i, space := range c.stage.spaces {
		_, err := space.Lookup(ctx, c.stage.alone(i).ID)
		c.that(err == nil, "a memory of space %s is gone after other spaces forgot its id: %s", space.ID(), answerOf(err))
	}
	return nil
}

func tryWrongSpace(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	for i, space := range pair {
		_, err := space.remember(ctx, engram.Memory{ID: "stray", Content: "A stray memory.", Space: pair[1-i].ID()}, write{})
		c.refused(err, engram.ErrWrongSpace, "remembering a memory of space %s in space %s", pair[1-i].ID(), space.ID())
	}
	for _, space := range pair {
		if err := c.holds(ctx, space, nil, "after strays were refused"); err != nil {
			return err
		}
	}
	return nil
}

// writersAtOnce is how many spaces are written to at the same time, and
// stepsOfWriter how many writes each of them gets.
const (
	writersAtOnce = 4
	stepsOfWriter = 40
)

func tryInterleaved(ctx context.Context, c *check) error {
	spaces, err := c.make(ctx, writersAtOnce)
	if err != nil {
		return err
	}
	histories := c.newHistories(spaces)
	if err := writeAll(ctx, histories); err != nil {
		return err
	}
	for _, h := range histories {
		if err := c.holds(ctx, h.space, h.state, "after writes to %d spaces at once", len(spaces)); err != nil {
			return err
		}
		for id, content := range h.state {
			if _, err := h.space.Lookup(ctx, id); err != nil {
				return fmt.Errorf("lookup of %q, %q: %w", id, short(content), err)
			}
		}
		for id := range h.forgotten {
			_, err := h.space.Lookup(ctx, id)
			c.that(errors.Is(err, engram.ErrMemoryNotFound), "space %s still has memory %q, which it was told to forget: %s", h.space.ID(), id, answerOf(err))
		}
	}
	return nil
}
