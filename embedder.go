package engram

import (
	"context"
	"fmt"
	"time"
)

// Embedder makes vectors of texts, so that memories can be recalled by what they
// mean and not only by their words. It is given to a registry, for all its
// spaces, by [Options.Embedder]; server/embed has clients of two common services.
//
// Its methods may be called concurrently. They return soon after ctx is done,
// with an error: Close of the registry ends calls that way, and waits for them. The
// deadline of ctx says how long a call is waited for. Their errors are logged, so they
// have no text in them.
type Embedder interface {
	// ID names the model and everything else that its vectors depend on, 1 to
	// MaxEmbedderIDBytes of UTF-8 without control characters: vectors under
	// different ids are never compared. It is stored in each space that has
	// vectors of it, and does not change.
	ID() string
	// Dimension of its vectors, MinDimension to MaxDimension. It does not change.
	Dimension() int
	// EmbedDocuments returns a vector for each of the texts of memories, of which none
	// is empty, in their order: finite and not zero. It may keep neither of the slices.
	EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error)
	// EmbedQuery returns the vector of a cue's text, which is not empty.
	EmbedQuery(ctx context.Context, text string) ([]float32, error)
}

// MaxEmbedderIDBytes bounds the id of an [Embedder].
const MaxEmbedderIDBytes = 128

// Degradation says why a cue's text was not, or not fully, compared by meaning.
type Degradation string

// The degradations of a recall.
const (
	// The embedder failed or took too long, or did so for another cue of the space and
	// is left alone for a while: the answer is from the text alone.
	DegradedEmbedder Degradation = "embedder_failed"
	// Some memories have no vector yet, so theirs is from the text alone.
	DegradedMissing Degradation = "vectors_missing"
	// The space's vectors were given by callers. Nobody knows what made them, so
	// they are not compared with the embedder's: the answer is from the text alone.
	DegradedForeign Degradation = "vectors_foreign"
	// The space is being re-embedded: its vectors are those of an earlier embedder,
	// with which the cue's cannot be compared until all are there.
	DegradedReembedding Degradation = "reembedding"
)

// How an embedder is asked.
const (
	embedTexts    = 64              // at most in a call
	embedBytes    = 256 << 10       // of text in a call, unless one alone is longer
	embedTime     = time.Minute     // for a call
	queryTime     = 2 * time.Second // a recall waits no longer for the vector of its cue
	embedPause    = time.Second     // of a space, after a call that failed; doubled with each more
	maxEmbedPause = time.Minute
)

func validateEmbedderID(id string) error {
	if id == "" {
		return &InvalidError{Field: "embedder", Reason: "has an empty id"}
	}
	if len(id) > MaxEmbedderIDBytes {
		return &LimitError{What: "embedder id bytes", Got: int64(len(id)), Max: MaxEmbedderIDBytes}
	}
	return validateName("embedder", id)
}

func validateEmbedder(e Embedder) error {
	if e == nil {
		return nil
	}
	if err := validateEmbedderDimension(e.Dimension()); err != nil {
		return err
	}
	return validateEmbedderID(e.ID())
}

func validateEmbedderDimension(n int) error {
	if n < MinDimension {
		return &InvalidError{Field: "embedder", Reason: fmt.Sprintf("has dimension %d, at least %d is needed", n, MinDimension)}
	}
	if n > MaxDimension {
		return &LimitError{What: "dimension of the embedder", Got: int64(n), Max: MaxDimension}
	}
	return nil
}

// fits returns an *EmbedderError where the space's vectors are another embedder's.
func (v *view) fits(e Embedder, space SpaceID) error {
	if v.generation == 0 || v.isOf(e) {
		return nil
	}
	return &EmbedderError{
		Space: space, Stored: v.embedder, StoredDimension: v.dimension, Given: e.ID(), GivenDimension: e.Dimension(),
	}
}

// askedVector is the vector that an embedder made of a cue's text, or why there
// is none.
type askedVector struct {
	vector   []float32
	degraded Degradation
}

// ask has the embedder make the cue's vector, where the space has such as it can
// be compared with. A failure of the embedder is no error.
func (s *Space) ask(ctx context.Context, cue *Cue) (askedVector, error) {
	e := s.registry.options.Embedder
	if e == nil || cue.Text == "" && len(cue.Embedding) == 0 {
		return askedVector{}, nil
	}
	a, err := s.use(ctx)
	if err != nil {
		return askedVector{}, err
	}
	v := a.store.view()
	a.done()
	reembedding := v.next.isOf(e) && len(cue.Embedding) == 0
	if err := v.fits(e, s.ID()); err != nil && !reembedding {
		return askedVector{}, err
	}
	switch {
	case len(cue.Embedding) > 0:
		return askedVector{}, nil
	case reembedding:
		return askedVector{degraded: DegradedReembedding}, nil
	case v.generation == 0 && v.dimension > 0:
		return askedVector{degraded: DegradedForeign}, nil
	case v.vectors == 0:
		return askedVector{degraded: DegradedMissing}, nil
	}
	began := monotonic()
	if !s.cues.admit(began) {
		return askedVector{degraded: DegradedEmbedder}, nil
	}
	limited, cancel := s.registry.embedding.context(ctx, queryTime)
	defer cancel()
	vector, err := e.EmbedQuery(limited, cue.Text)
	if err == nil {
		err = checkVector(vector, v.dimension)
	}
	switch {
	case ctx.Err() != nil:
		return askedVector{}, ctx.Err()
	case err != nil:
		s.cues.failed(began, monotonic())
		return askedVector{degraded: DegradedEmbedder}, nil
	}
	s.cues.succeeded()
	return askedVector{vector: vector}, nil
}

// degradation returns why an answer over the view is not, or not fully, by meaning,
// and how many memories lack a vector then. The view is a later one than that for
// which the embedder was asked.
func (x *askedVector) degradation(v *view) (Degradation, int64) {
	why, unembedded := x.degraded, v.unembedded()
	switch {
	case x.vector != nil && unembedded > 0:
		why = DegradedMissing
	case why == DegradedMissing && v.live == 0:
		why = "" // nothing is missing
	case why == DegradedReembedding && v.next.generation > 0:
		unembedded = v.unembeddedNext()
	}
	if why == "" {
		return "", 0
	}
	return why, unembedded
}

// checkVector checks a vector that an embedder has made.
func checkVector(v []float32, dimension int) error {
	if len(v) != dimension {
		return wrongDimension(len(v), dimension)
	}
	return validateEmbedding(v)
}

// textsWithoutVector are memories that have none, with their contents.
type textsWithoutVector struct {
	ids      []string
	versions []uint64
	texts    []string
	last     uint32 // the document of the last text
	view     *view
	// The generation that lacks them, which is the embedder's; 0: none is.
	generation uint64
	dimension  int
}

// next reports whether they lack a vector of the space's next generation.
func (t *textsWithoutVector) next() bool {
	return t.generation > 0 && t.generation == t.view.next.generation
}

// embedded returns the range that is known to have vectors, now that the texts have:
// of two that do not meet the larger one.
func (t *textsWithoutVector) embedded(known embeddedRange) embeddedRange {
	known = t.view.known(known, t.generation)
	r := embeddedRange{t.view.image.seq, t.generation, t.last, t.view.documents()}
	if known.to <= r.from && known.to-known.from > r.to-r.from {
		return known
	}
	return r
}

// withoutVector reads the contents of up to n memories that have no vector of e,
// or none at all where the space has no vectors; not those that skip or embedded holds.
func (s *Space) withoutVector(
	ctx context.Context, e Embedder, n int, skip map[uint64]bool, embedded embeddedRange,
) (textsWithoutVector, error) {
	a, err := s.use(ctx)
	if err != nil {
		return textsWithoutVector{}, err
	}
	defer a.done()
	r := a.read()
	defer r.close()
	t := textsWithoutVector{view: r.view}
	if err := a.unwritable(); err != nil {
		return t, err
	}
	t.generation, t.dimension = r.view.generationOf(e)
	if t.generation == 0 && r.view.dimension > 0 {
		return t, nil
	}
	bytes := 0
	for _, d := range r.view.missingVectors(t.next(), n, skip, r.view.known(embedded, t.generation)) {
		m, err := r.memory(d)
		if err != nil {
			return t, err
		}
		if bytes += len(m.Content); bytes > embedBytes && len(t.texts) > 0 {
			break
		}
		t.ids, t.versions, t.texts = append(t.ids, m.ID), append(t.versions, m.Seq), append(t.texts, m.Content)
		t.last = d
	}
	return t, nil
}

// adopt says, as one logged operation, that the space's vectors are e's.
func (s *Space) adopt(ctx context.Context, e Embedder) error {
	op := operation{
		kind: opEmbedder, generation: 1, embedder: e.ID(), dimension: e.Dimension(),
		storedAt: nanosOf(s.registry.options.Clock),
	}
	_, err := s.write(ctx, []operation{op}, payloadHash{}, writeOptions{})
	return err
}

// embed has e make the vectors of those memories, and commits them as one write.
func (s *Space) embed(ctx context.Context, e Embedder, t *textsWithoutVector) error {
	vectors, err := s.vectorsOf(ctx, e, t.texts, t.dimension)
	if err != nil {
		return err
	}
	now := nanosOf(s.registry.options.Clock)
	var operations []operation
	for i, v := range vectors {
		operations = append(operations, operation{
			kind: opEmbed, storedAt: now, version: t.versions[i], generation: t.generation,
			memory: Memory{ID: t.ids[i], Embedding: v},
		})
	}
	a, err := s.use(ctx)
	if err != nil {
		return err
	}
	for i := range operations {
		operations[i].codes = a.store.rotations.encode(operations[i].memory.Embedding)
	}
	a.done()
	_, err = s.write(ctx, operations, payloadHash{}, writeOptions{})
	return err
}

// vectorsOf has the embedder make a vector of that dimension of each text. Its error,
// if the embedder does not, is an embedderFailure.
func (s *Space) vectorsOf(ctx context.Context, e Embedder, texts []string, dimension int) ([][]float32, error) {
	limited, cancel := s.registry.embedding.context(ctx, embedTime)
	defer cancel()
	vectors, err := e.EmbedDocuments(limited, texts)
	if err != nil {
		return nil, &embedderFailure{fmt.Errorf("embedder %q: %w", e.ID(), err)}
	}
	if len(vectors) != len(texts) {
		return nil, &embedderFailure{fmt.Errorf("embedder %q gave %d vectors for %d texts", e.ID(), len(vectors), len(texts))}
	}
	for _, v := range vectors {
		if err := checkVector(v, dimension); err != nil {
			return nil, &embedderFailure{fmt.Errorf("embedder %q: %w", e.ID(), err)}
		}
	}
	return vectors, nil
}

// embedderFailure is an error of the embedder, not of the space.
type embedderFailure struct{ error }

// Unwrap returns what the embedder said.
func (e *embedderFailure) Unwrap() error { return e.error }
