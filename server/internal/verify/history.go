package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/engramdb/engram"
)

// historyIDs is how many memory ids a history uses, the same in every space.
const historyIDs = 12

// history writes to one space at random, and keeps what must come of it.
type history struct {
	space     space
	canary    string
	random    *rand.Rand
	steps     int
	state     map[string]string // contents by id
	forgotten map[string]bool   // ids that were there and are not
	ops       map[uint64]operation
	last      uint64 // seq
}

// operation is what an event must say.
type operation struct {
	kind    engram.EventKind
	ids     []string
	content string // of the memory, where it was remembered
}

func (o operation) String() string {
	return fmt.Sprintf("%s %q %q", o.kind, o.ids, short(o.content))
}

// newHistories returns a history for each space.
func (c *check) newHistories(spaces []space) []*history {
	histories := make([]*history, len(spaces))
	for i, space := range spaces {
		histories[i] = &history{
			space: space, canary: canaryOf(c.random.Uint64(), i), random: rand.New(rand.NewPCG(c.random.Uint64(), uint64(i))),
			state: map[string]string{}, forgotten: map[string]bool{}, ops: map[uint64]operation{},
		}
	}
	return histories
}

// writeAll runs histories at the same time.
func writeAll(ctx context.Context, histories []*history) error {
	failures := make([]error, len(histories))
	var writers sync.WaitGroup
	for i, h := range histories {
		writers.Go(func() {
			for range stepsOfWriter {
				if failures[i] = h.step(ctx); failures[i] != nil {
					return
				}
			}
		})
	}
	writers.Wait()
	return errors.Join(failures...)
}

// step does one write.
func (h *history) step(ctx context.Context) error {
	h.steps++
	var err error
	held := slices.Sorted(maps.Keys(h.state))
	switch choice := h.random.IntN(10); {
	case choice < 2 && len(held) > 0:
		err = h.forget(ctx, held[h.random.IntN(len(held))])
	case choice < 3 && len(held) > 1:
		err = h.associate(ctx, held[0], held[len(held)-1])
	case choice < 5:
		err = h.batch(ctx)
	default:
		m := h.memory(h.random.IntN(historyIDs))
		var receipt engram.Receipt
		if receipt, err = h.space.remember(ctx, m, write{}); err == nil {
			h.remembered(receipt.Seq, m)
		}
	}
	if err != nil {
		return fmt.Errorf("write %d to space %s: %w", h.steps, h.space.ID(), err)
	}
	return nil
}

func (h *history) memory(i int) engram.Memory {
	all := words()
	return engram.Memory{
		ID:      memoryID(i),
		Content: fmt.Sprintf("Write %d: the %s of %s.", h.steps, all[h.random.IntN(len(all))], h.canary),
	}
}

func (h *history) remembered(seq uint64, m engram.Memory) {
	kind := engram.Remembered
	if _, held := h.state[m.ID]; held {
		kind = engram.Replaced
	}
	h.note(seq, operation{kind, []string{m.ID}, m.Content})
	h.state[m.ID] = m.Content
	delete(h.forgotten, m.ID)
}

func (h *history) note(seq uint64, o operation) {
	h.ops[seq] = o
	h.last = max(h.last, seq)
}

func (h *history) batch(ctx context.Context) error {
	var ms []engram.Memory
	for i := range 3 {
		ms = append(ms, h.memory((h.steps+4*i)%historyIDs))
	}
	receipts, err := h.space.RememberBatch(ctx, ms)
	if err != nil {
		return err
	}
	if len(receipts) != len(ms) {
		return fmt.Errorf("a batch of %d has %d receipts", len(ms), len(receipts))
	}
	for i, receipt := range receipts {
		h.remembered(receipt.Seq, ms[i])
	}
	return nil
}

func (h *history) forget(ctx context.Context, id string) error {
	receipt, err := h.space.Forget(ctx, []string{id})
	if err != nil {
		return err
	}
	if receipt.Forgotten != 1 {
		return fmt.Errorf("forgetting %q, which is there, forgets %d memories", id, receipt.Forgotten)
	}
	h.note(receipt.Seq, operation{kind: engram.Forgotten, ids: []string{id}})
	delete(h.state, id)
	h.forgotten[id] = true
	return nil
}

func (h *history) associate(ctx context.Context, from, to string) error {
	receipt, err := h.space.Associate(ctx, engram.Association{From: from, To: to, Weight: 0.25})
	if err == nil {
		h.note(receipt.Seq, operation{kind: engram.Associated})
	}
	return err
}

// end writes the last memory, by which readers know that they have everything.
func (h *history) end(ctx context.Context) error {
	h.steps++
	m := engram.Memory{ID: endOf(h.canary), Content: "The end of " + h.canary + "."}
	receipt, err := h.space.remember(ctx, m, write{})
	if err == nil {
		h.remembered(receipt.Seq, m)
	}
	return err
}

func endOf(canary string) string { return "end-" + canary }

// follow reads the space's events from the beginning to the end of its history,
// and breaks the stream off every few events to resume behind the last one. It
// returns what it was given up to an error, or to an event that does not follow the
// one before: what is behind such a position says nothing.
func (h *history) follow(ctx context.Context, random *rand.Rand) (events []engram.Event, err error) {
	after := uint64(0)
	for {
		stay := 1 + random.IntN(12)
		for event, err := range h.space.Subscribe(ctx, after) {
			if err != nil {
				return events, err
			}
			events = append(events, event)
			if event.Seq != after+1 || slices.Contains(event.IDs, endOf(h.canary)) {
				return events, nil
			}
			after = event.Seq
			if stay--; stay == 0 {
				break
			}
		}
	}
}

// ofItself reports an event of which no write of the run is the cause: the space's
// configuration, with which it begins, and what an embedder does.
func ofItself(e engram.Event) bool {
	return e.Kind == engram.Configured && e.Seq == 1 || e.Kind == engram.Embedded || e.Kind == engram.EmbedderSet
}

// follows counts a comparison of each operation of a history with the event that
// was given for it, and one of the events among themselves.
func (c *check) follows(h *history, others []*history, events []engram.Event) {
	seen := map[uint64]engram.Event{}
	for i, e := range events {
		if e.Seq != uint64(i)+1 {
			c.that(false, "the stream of space %s has seq %d in place %d%s", h.space.ID(), e.Seq, i+1, ofAnother(e, h, others))
			return
		}
		if _, ours := h.ops[e.Seq]; !ours && !ofItself(e) {
			c.that(false, "the stream of space %s has an event that no write there made: %s %q%s", h.space.ID(), e.Kind, e.IDs, ofAnother(e, h, others))
			return
		}
		seen[e.Seq] = e
	}
	c.that(true, "")
	for _, seq := range slices.Sorted(maps.Keys(h.ops)) {
		e, want := seen[seq], h.ops[seq]
		got := operation{kind: e.Kind, ids: e.IDs, content: want.content} // which may be gone by now
		if e.Memory != nil {
			got.content = e.Memory.Content
		}
		if want.kind == engram.Associated {
			got.ids = nil
		}
		c.that(got.String() == want.String(), "event %d of space %s says %s, and the write was %s%s", seq, h.space.ID(), got, want, ofAnother(e, h, others))
	}
}

// ofAnother names the space that an event is of, where that shows.
func ofAnother(e engram.Event, h *history, others []*history) string {
	if e.Memory == nil {
		return ""
	}
	for _, other := range others {
		if other != h && strings.Contains(e.Memory.Content, other.canary) {
			return ": it is an event of space " + string(other.space.ID())
		}
	}
	return ", content " + strconv.Quote(short(e.Memory.Content))
}
