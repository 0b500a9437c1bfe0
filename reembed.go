package engram

import (
	"context"
	"errors"
	"fmt"

	"github.com/engramdb/engram/internal/rabitq"
)

// A space changes its embedder by generations of vectors. The next one is made
// beside the present one, which answers until one operation puts the next in its
// place: whatever ends a process, there are the vectors of the one or of the
// other. A generation that was begun as the next has the seq of the operation
// that began it as its number, so none is used twice, and a vector that comes
// late for one that was given up is no other's.

// errGivenUp says that a generation is not, or cannot be, the space's next one any more.
var errGivenUp = errors.New("was given up")

// errBegun says that the space has, or is on its way to, the vectors that are asked for.
var errBegun = errors.New("is begun already")

// vectorState says whose vectors a space has.
type vectorState struct {
	generation uint64     // 0: only callers gave any
	embedder   string     // its id
	dimension  int        // of all vectors; 0: there was none yet
	partition  *partition // of them, which are its generation's; nil: none was made
	next       nextVectors
}

// nextVectors is whose vectors a space is to have.
type nextVectors struct {
	generation uint64 // 0: those that it has
	embedder   string
	dimension  int
	vectors    int64 // memories that have one
}

func (x *vectorState) isOf(e Embedder) bool {
	return x.generation > 0 && x.embedder == e.ID() && x.dimension == e.Dimension()
}

func (x *nextVectors) isOf(e Embedder) bool {
	return x.generation > 0 && x.embedder == e.ID() && x.dimension == e.Dimension()
}

// generationOf returns the generation whose vectors e makes; 0: none.
func (x *vectorState) generationOf(e Embedder) (generation uint64, dimension int) {
	switch {
	case x.isOf(e):
		return x.generation, x.dimension
	case x.next.isOf(e):
		return x.next.generation, x.next.dimension
	}
	return 0, 0
}

// given is how many living memories have an embedding that their caller gave.
func (c *counts) given() int64 { return c.vectors - c.derived }

// Reembedding says how far a space is on its way to the vectors of another embedder.
type Reembedding struct {
	Embedder   string `json:"embedder,omitempty"` // its id; empty: the space is not re-embedded
	Dimension  int    `json:"dimension,omitempty"`
	Unembedded int64  `json:"unembedded"` // memories that have no vector of it yet, but for those of Given
	// Given is how many memories have an embedding that their caller gave. While
	// there are any, the space keeps the vectors that it has, and no others are made
	// of them.
	Given int64 `json:"given,omitempty"`
}

// Reembed begins to give the space vectors of the registry's embedder in place of
// those of an earlier one, or of callers whose memories are gone. It returns when
// that is decided and as durable as any write. The vectors are made in the
// background, in batches, beside those that there are; after a restart that goes on
// when the space is woken. Then one operation, an EmbedderSet, puts them in the place
// of those. [Space.Reembedding] says how far it is.
//
// Until then the space has its old vectors. A cue's text cannot be compared with
// them, so it is answered from the text alone, and Plan.Degraded says
// DegradedReembedding; a cue with an Embedding is an [EmbedderError]. Memories that
// are remembered, replaced and forgotten meanwhile are so in both. A text that the
// embedder refuses while it takes others does not hold up the rest: it has no
// vector, then. What the old vectors take in memory goes with the next checkpoint,
// and on disk with the segments that it rewrites, as for forgotten memories.
//
// Where the space has such vectors, is on its way to them, or has never had any,
// nothing is done. If it is on its way to another's and has those of the registry's
// embedder, they stay and the others are dropped.
//
// A memory with an embedding that its caller gave is a [ForeignVectorsError]. One
// that comes later holds up the change for as long as it is there. A registry
// without an embedder is ErrInvalid; other errors are as of Remember.
func (s *Space) Reembed(ctx context.Context) (Receipt, error) {
	if s.registry.options.ReadOnly {
		return Receipt{}, ErrReadOnly
	}
	if s.registry.options.Embedder == nil {
		return Receipt{}, &InvalidError{Field: "embedder", Reason: "the registry has none"}
	}
	return s.reembed(ctx, s.registry.options.Embedder)
}

func (s *Space) reembed(ctx context.Context, e Embedder) (Receipt, error) {
	op := operation{
		kind: opReembed, embedder: e.ID(), dimension: e.Dimension(), storedAt: nanosOf(s.registry.options.Clock),
	}
	for {
		seq, skip, err := s.skips(ctx, func(v *view) bool { return v.begins(&op) })
		if err != nil || skip {
			return Receipt{Seq: seq}, err
		}
		w, err := s.write(ctx, []operation{op}, payloadHash{}, writeOptions{})
		switch {
		case errors.Is(err, errBegun):
			continue // by another caller meanwhile
		case err != nil:
			return Receipt{}, err
		}
		return Receipt{Seq: w.seq}, nil
	}
}

// Reembedding returns how far the space is on its way to the vectors of another
// embedder; zero if it is on no such way. It wakes the space.
func (s *Space) Reembedding(ctx context.Context) (Reembedding, error) {
	a, err := s.use(ctx)
	if err != nil {
		return Reembedding{}, err
	}
	defer a.done()
	v := a.store.view()
	if v.next.generation == 0 {
		return Reembedding{}, a.damaged()
	}
	return Reembedding{
		Embedder: v.next.embedder, Dimension: v.next.dimension, Unembedded: v.unembeddedNext(), Given: v.given(),
	}, a.damaged()
}

// takesOthers reports whether e embeds a text now that it has embedded before, for
// the space's next generation: then it is down no more than for those that it refuses.
func (s *Space) takesOthers(ctx context.Context, e Embedder) bool {
	text, found := s.embeddedText(ctx)
	if !found {
		return false
	}
	_, err := s.vectorsOf(ctx, e, []string{text}, e.Dimension())
	return err == nil
}

// embeddedText returns the content of the newest of the recent memories that have
// a vector of the next generation.
func (s *Space) embeddedText(ctx context.Context) (text string, found bool) {
	a, err := s.use(ctx)
	if err != nil {
		return "", false
	}
	defer a.done()
	r := a.read()
	defer r.close()
	for d := r.view.documents(); d > 0; {
		if d--; !r.view.visible(d) {
			continue
		}
		if _, has := r.view.nextOf(d); has {
			m, err := r.memory(d)
			return m.Content, err == nil
		}
	}
	return "", false
}

// switchVectors puts the next generation of v, which is complete, in place of the
// present one.
func (s *Space) switchVectors(ctx context.Context, v *view) error {
	op := operation{
		kind: opSwitch, generation: v.next.generation, embedder: v.next.embedder,
		storedAt: nanosOf(s.registry.options.Clock),
	}
	_, err := s.write(ctx, []operation{op}, payloadHash{}, writeOptions{})
	return err
}

// refuseVectors returns why the operation, if it is about generations of vectors,
// must not be committed now.
func (a *awake) refuseVectors(op *operation) error {
	s := a.store
	switch {
	case op.kind == opEmbedder && !s.adopts(op), op.kind == opPartition && !s.partitions(op):
		return fmt.Errorf("vectors of generation %d: %w", op.generation, errGivenUp)
	case op.kind == opSwitch && op.generation != s.next.generation:
		return fmt.Errorf("vectors of generation %d: %w", op.generation, errGivenUp)
	case op.kind == opReembed && !s.begins(op):
		return fmt.Errorf("embedder %q: %w", op.embedder, errBegun)
	case op.kind == opSwitch && s.given() > 0, op.kind == opReembed && s.given() > 0 && !s.has(op):
		return &ForeignVectorsError{Space: a.space.ID(), Memories: s.given()}
	}
	return nil
}

// adopts reports whether the operation's generation can be the space's first one: it
// has no vectors yet, not of its callers either.
func (x *vectorState) adopts(op *operation) bool {
	return op.generation == x.generation+1 && x.dimension == 0
}

// begins reports whether the operation, which begins a generation, changes anything:
// there are vectors, and others than its embedder's, or others are to come.
func (x *vectorState) begins(op *operation) bool {
	switch {
	case x.dimension == 0, x.next.embedder == op.embedder && x.next.dimension == op.dimension:
		return false
	}
	return !x.has(op) || x.next.generation > 0
}

// has reports whether the space has the vectors that the operation names.
func (x *vectorState) has(op *operation) bool {
	return x.generation > 0 && x.embedder == op.embedder && x.dimension == op.dimension
}

// changeVectors begins a generation of vectors, or switches to it. An operation
// that does not fit the space changes nothing.
func (s *store) changeVectors(op *operation) {
	switch {
	case op.kind == opEmbedder && s.adopts(op):
		s.generation, s.embedder, s.dimension = op.generation, op.embedder, op.dimension
	case op.kind == opReembed && s.begins(op):
		s.beginNext(op)
	case op.kind == opSwitch && op.generation > 0 && op.generation == s.next.generation && s.given() == 0:
		s.takeNext()
	case op.kind == opPartition && s.partitions(op):
		p := op.partition
		p.number = op.seq
		s.partition = &p
	}
}

// beginNext begins the next generation in place of one that is under way. Where the
// present one is what it is to be, there is no next.
func (s *store) beginNext(op *operation) {
	if s.next.generation > 0 {
		s.dropGeneration(&s.recent.next, s.next.generation)
	}
	s.next, s.recent.next = nextVectors{}, newDerived()
	if !s.has(op) {
		s.next = nextVectors{generation: op.seq, embedder: op.embedder, dimension: op.dimension}
	}
}

// takeNext puts the next generation in place of the present one.
func (s *store) takeNext() {
	s.dropGeneration(&s.recent.derived, s.generation)
	s.generation, s.embedder, s.dimension = s.next.generation, s.next.embedder, s.next.dimension
	s.partition = nil
	s.vectors, s.derived, s.next = s.next.vectors, s.next.vectors, nextVectors{}
	// Readers keep what they have of the old ones.
	s.recent.vectors, s.recent.derived, s.recent.next = vectors{}, s.recent.next, newDerived()
}

// dropGeneration says that the records of a generation's vectors are not needed
// any more.
func (s *store) dropGeneration(x *derived, generation uint64) {
	v := s.now()
	x.rows.Ascend(func(r derivedRow) bool {
		if v.visible(r.document) {
			s.drop(&r)
		}
		return true
	})
	set := &s.image.of(generation).derived
	for i := range uint32(set.documents.len()) {
		if r := set.row(i); v.visible(r.document) {
			s.drop(&r)
		}
	}
}

// nextOf returns the vector of the next generation that the document has.
func (v *view) nextOf(d uint32) (derivedRow, bool) {
	if v.next.generation == 0 {
		return derivedRow{}, false
	}
	return v.vectorsOf(&v.recent.next, v.next.generation, d)
}

// nextCodesOf returns the codes that those of that vector are a row of.
func (v *view) nextCodesOf(d uint32) (codes *rabitq.Codes, row int) {
	if r, found := v.recent.next.rows.Get(derivedRow{document: d}); found {
		return &v.recent.next.codes.codes, int(r.row)
	}
	x := &v.image.of(v.next.generation).vectors
	return &x.codes, x.row(d)
}

// unembeddedNext is how many of the living memories have no vector of the next
// generation and are to have one. Those whose callers gave an embedding are not,
// though a log may hold some.
func (v *view) unembeddedNext() int64 { return max(v.live-v.next.vectors-v.given(), 0) }

// appendNext writes the vectors of the next generation: codes, where the records
// stand, and whose they are.
func (b *imageBuilder) appendNext(file []byte) []byte {
	v := b.view
	rows := b.rows(recordNext, v.nextOf)
	var x vectors
	for _, r := range rows {
		codes, row := v.nextCodesOf(b.order[r.document])
		x.add(r.document, codes, row)
	}
	file = appendPlaces(x.append(file, uint32(v.next.dimension)), rows)
	return appendCounted(appendU64(file, v.next.generation), v.next.embedder)
}

// decodeNext takes what appendNext wrote. The present generation is decoded
// before it.
func (m *image) decodeNext(d *sectionReader) bool {
	set := &m.next
	n := d.u32()
	set.dimension = int(d.u32())
	if set.dimension < MinDimension || set.dimension > MaxDimension || !set.vectors.decode(d, n, set.dimension) {
		return false
	}
	set.derived.documents = set.vectors.documents
	if !set.decodePlaces(d, n) {
		return false
	}
	set.generation, set.embedder = d.u64(), d.text()
	return d.end() && set.valid(m) && m.present.dimension > 0 &&
		set.generation > m.present.generation && set.generation <= m.seq
}

// vectorState is whose vectors the image has.
func (m *image) vectorState() vectorState {
	return vectorState{
		generation: m.present.generation, embedder: m.present.embedder, dimension: m.present.dimension,
		partition: m.present.partition,
		next: nextVectors{
			generation: m.next.generation, embedder: m.next.embedder, dimension: m.next.dimension,
			vectors: int64(m.next.derived.documents.len()),
		},
	}
}
