package engram

import (
	"context"
	"iter"
	"time"
)

// EventKind says what an operation did.
type EventKind string

// The kinds of event.
const (
	Remembered EventKind = "remembered" // a memory whose id the space did not hold
	Replaced   EventKind = "replaced"   // a memory whose id the space held
	Forgotten  EventKind = "forgotten"
	Configured EventKind = "configured"
	// An association was made or given another weight, or removed.
	Associated  EventKind = "associated"
	Dissociated EventKind = "dissociated"
	// A memory got the vector that the registry's embedder made of it, or the space
	// its embedder.
	Embedded    EventKind = "embedded"
	EmbedderSet EventKind = "embedder_set"
	// The space begins to get vectors of another embedder beside those that it has. Where
	// they are that embedder's, it gives up those that it was to get.
	ReembeddingBegun EventKind = "reembedding_begun"
	// The vectors of a large space were divided, so that recalls scan a part of them.
	Partitioned EventKind = "partitioned"
)

// Event is one committed operation of a space.
type Event struct {
	// Seq is the operation's number, and the position to go on from: whoever has
	// dealt with this event subscribes after Seq.
	Seq  uint64    `json:"seq"`
	Kind EventKind `json:"kind"`
	// Time is when the operation was stored. Clocks step: Seq orders, not Time.
	Time time.Time `json:"time"`
	// IDs is the id of the memory that was remembered, replaced or embedded, or those that
	// a Forget named, whether they were there or not.
	IDs []string `json:"ids,omitempty"`
	// Memory is what was remembered. It is nil where the event is read after
	// that version was replaced or forgotten: a later event says so.
	Memory *Memory `json:"memory,omitempty"`
	// Filter of a ForgetWhere: of what the space held at Seq, what satisfies it
	// was forgotten.
	Filter *Filter `json:"filter,omitempty"`
	// Config is what the space was configured with.
	Config *SpaceConfig `json:"config,omitempty"`
	// Association that was made or given a new weight; a weight of 0 says that it
	// was removed.
	Association *Association `json:"association,omitempty"`
	// Version is the Seq of the memory that was embedded. Where that had been
	// replaced or forgotten before Seq, the vector came too late and is not there.
	Version uint64 `json:"version,omitempty"`
	// Embedder is the id of the one whose vectors the space has from then on or,
	// of ReembeddingBegun, is to have.
	Embedder string `json:"embedder,omitempty"`
	// FrameLast is set on the last event of those that were committed together:
	// after a crash the space has all of them or none. A batch is in one frame,
	// which may hold other writes too.
	FrameLast bool `json:"frame_last"`
}

// Subscribe yields every operation of the space with a seq greater than after,
// 0 for all: in seq order, each once, without a gap, those that are there and
// then, as they are committed, those that follow. The error comes last, with a
// zero Event. To go on after a restart or an error, subscribe after the Seq of
// the last event that was dealt with: so each is dealt with at least once.
//
// An event is durable when it is yielded, under every durability: with Interval
// and None it waits for a flush of the journal or a mark of the space. It shows
// no memory that was forgotten before it is yielded.
//
// Events are read from the space's log, so the loop's body may take as long as
// it likes: no write waits for it, and between two events no file is kept, only
// the bytes of a frame that is not at its end. A checkpoint may meanwhile
// rewrite the segment that holds the next operation. Then, and where after lies
// below such a segment, the error is a [TrimmedError]: take an Export, and
// subscribe after the seq that it returns.
//
// While nothing is committed a subscriber is a waiting goroutine, the caller's.
// It does not keep the space awake, nor wakes it: an operation that is
// committed does.
//
// Other errors are ErrSpaceDeleted, ErrClosed, ErrReadOnly (a read-only
// registry commits nothing, and what it found may not be durable), ctx's,
// ErrInvalid for a position that the space has not reached, a [CorruptionError]
// behind the events that precede the damage, and ErrStopped behind the last one
// of a space whose writes have stopped.
func (s *Space) Subscribe(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := s.checkPosition(ctx, after); err != nil {
			yield(Event{}, err)
			return
		}
		h := historyReader{space: s, next: after + 1}
		for {
			if err := h.awaitNext(ctx); err != nil {
				yield(Event{}, err)
				return
			}
			f, err := h.read(ctx)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !h.yieldFrame(ctx, &f, yield) {
				return
			}
		}
	}
}

// checkPosition wakes the space: only then its feed says where it stands.
func (s *Space) checkPosition(ctx context.Context, after uint64) error {
	if s.registry.options.ReadOnly {
		return ErrReadOnly
	}
	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	if after <= s.feed.appliedSeq() {
		return nil
	}
	if a.damage != nil {
		return a.damage // which it may be behind
	}
	return &InvalidError{Field: "after", Reason: "is a seq that the space has not reached"}
}

// awaitNext returns when the next operation can be read.
func (h *historyReader) awaitNext(ctx context.Context) error {
	if len(h.reader.ahead) == 0 {
		h.reader.ahead = nil // it may wait for long
	}
	return h.space.await(ctx, h.next)
}

// yieldFrame yields the operations of the frame from the next one on. It
// returns false when the subscriber or an error has ended the subscription.
func (h *historyReader) yieldFrame(ctx context.Context, f *frame, yield func(Event, error) bool) bool {
	records := f.payload
	at := h.reader.offset - int64(encodedLen(len(records))) + frameHeaderBytes
	for seq := f.firstSeq; seq <= f.lastSeq(); seq++ {
		n, err := splitRecord(records)
		if err != nil {
			n = len(records) // which does not decode, then
		}
		if seq >= h.next {
			e, err := h.event(ctx, records[:n], seq, at)
			if err != nil {
				yield(Event{}, err)
				return false
			}
			e.FrameLast = seq == f.lastSeq()
			h.next = seq + 1
			if !yield(e, nil) {
				return false
			}
		}
		records, at = records[n:], at+int64(n)
	}
	return true
}

// event makes the event of the record of operation seq, which stands at that
// offset. A memory is in it only if that version is still there; what took its
// place is durable then, or a crash could bring it back.
func (h *historyReader) event(ctx context.Context, record []byte, seq uint64, at int64) (Event, error) {
	a, err := h.space.use(ctx)
	if err != nil {
		return Event{}, err
	}
	op, err := decodeOperation(record, a.identity.key, seq)
	if err != nil {
		err = a.unreadable(locator{segment: h.reader.at.number, offset: at}, err)
		a.done()
		return Event{}, err
	}
	e := op.event()
	version, now := a.store.version(op.memory.ID)
	a.done()
	switch {
	case e.Memory == nil:
		return e, nil
	case version != seq:
		e.Memory = nil
		return e, h.space.await(ctx, now)
	}
	e.Memory.Space = h.space.ID()
	return e, nil
}

// event is what the operation alone says.
func (op *operation) event() Event {
	e := Event{Seq: op.seq, Time: unixTime(op.storedAt)}
	switch op.kind {
	case opRemember:
		e.Kind, e.IDs, e.Memory = Remembered, []string{op.memory.ID}, &op.memory
		if op.replaced {
			e.Kind = Replaced
		}
	case opForget:
		e.Kind, e.IDs, e.Filter = Forgotten, op.ids, op.filter
	case opAssociate:
		e.Kind, e.Association = Associated, &op.association
		if op.association.Weight == 0 {
			e.Kind = Dissociated
		}
	case opEmbed:
		e.Kind, e.IDs, e.Version = Embedded, []string{op.memory.ID}, op.version
	case opEmbedder, opSwitch:
		e.Kind, e.Embedder = EmbedderSet, op.embedder
	case opReembed:
		e.Kind, e.Embedder = ReembeddingBegun, op.embedder
	case opPartition:
		e.Kind = Partitioned
	case opConfigure:
		e.Kind, e.Config = Configured, &op.config
	}
	return e
}
