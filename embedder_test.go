package engram

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// meanings is an embedder of which synonyms have the same vector. It can be made
// to fail and to hang.
type meanings struct {
	id        string
	dimension int

	mu     sync.Mutex // guards the fields below
	broken error
	poison string // a text that it never takes
	hangs  bool
	calls  int
	texts  []string
}

var errModel = errors.New("model is down")

func newMeanings() *meanings { return &meanings{id: "meanings-1", dimension: 16} }

func (e *meanings) ID() string     { return e.id }
func (e *meanings) Dimension() int { return e.dimension }

func (e *meanings) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

func (e *meanings) EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error) {
	e.mu.Lock()
	e.calls++
	e.texts = append(e.texts, texts...)
	broken, hangs, poison := e.broken, e.hangs, e.poison
	e.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var list [][]float32
	for _, text := range texts {
		if poison != "" && text == poison {
			broken = errModel
		}
		list = append(list, e.vector(text))
	}
	return list, broken
}

func (e *meanings) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	e.mu.Lock()
	broken, hangs := e.broken, e.hangs
	e.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.vector(text), broken
}

// vector is the sum of a direction for each meaning.
func (e *meanings) vector(text string) []float32 {
	v := make([]float32, e.dimension)
	v[0] = float32(e.id[len(e.id)-1]-'0') / 10 // another for each embedder
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if word == "canine" {
			word = "dog"
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(word))
		v[1+int(h.Sum32())%(e.dimension-1)]++
	}
	return v
}

// The registries are of durability None: under Sync the group commit waits for
// company by spinning, and no time passes in a bubble meanwhile.

// anHourPasses lets the embedding do what it does in an hour of a synctest bubble.
func anHourPasses() {
	time.Sleep(time.Hour)
	synctest.Wait()
}

// embedded waits until nothing is to be embedded, within synctest.
func embedded(t *testing.T, s *Space) {
	t.Helper()
	synctest.Wait()
	require.Zero(t, s.Stats().Content.Unembedded)
	require.Equal(t, "meanings-1", s.Stats().Content.Embedder)
}

func inBubble(t *testing.T, opts Options, run func(t *testing.T, s *Space, m *memoryFS)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		r := openMemory(t, m, opts)
		defer func() { require.NoError(t, r.Close()) }()
		run(t, create(t, r, "ann"), m)
	})
}

func TestVectorsFollowTheirMemories(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, m *memoryFS) {
		remember(t, s, Memory{ID: "d", Content: "the dog barks"}, Memory{ID: "c", Content: "a cat sleeps"})
		embedded(t, s)
		answer, err := s.Recall(background, Cue{Text: "canine"})
		require.NoError(t, err)
		require.Empty(t, answer.Plan.Degraded)
		require.Equal(t, "d", answer.Recollections[0].Memory.ID)
		require.Positive(t, answer.Recollections[0].Why.Vector)
		require.Empty(t, answer.Recollections[0].Memory.Embedding, "a memory has the embedding that it was given")

		// The vector is of the version that was replaced.
		remember(t, s, Memory{ID: "d", Content: "a cup of tea"})
		embedded(t, s)
		answer, err = s.Recall(background, Cue{Text: "canine"})
		require.NoError(t, err)
		for _, r := range answer.Recollections {
			require.Less(t, r.Why.Vector, 0.2)
		}
		require.NoError(t, s.registry.Settle(background)) // events are durable
		kinds := map[EventKind]int{}
		for _, x := range events(t, s, 0) {
			kinds[x.Kind]++
			if x.Kind == Embedded {
				require.Len(t, x.IDs, 1)
				require.Positive(t, x.Version)
			}
		}
		require.Equal(t, map[EventKind]int{Configured: 1, Remembered: 2, Replaced: 1, EmbedderSet: 1, Embedded: 3}, kinds)
		verified(t, s)
	})
}

// TestVectorsAreOfTheSpacesTexts where another space has the same ids at the same seqs.
func TestVectorsAreOfTheSpacesTexts(t *testing.T) {
	inBubble(t, Options{Embedder: newMeanings(), Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		spaces := []*Space{s, create(t, s.registry, "bob")}
		words := []string{"canine", "tea"}
		for i, text := range []string{"the dog barks", "a cup of tea"} {
			remember(t, spaces[i], Memory{ID: "same", Content: text})
			embedded(t, spaces[i])
		}
		for i, space := range spaces {
			for j, word := range words {
				answer, err := space.Recall(background, Cue{Text: word})
				require.NoError(t, err)
				means := slices.ContainsFunc(answer.Recollections, func(r Recollection) bool { return r.Why.Vector > 0.1 })
				require.Equal(t, i == j, means, "%s in %s", word, space.ID())
			}
		}
	})
}

// TestDerivedVectorsOutliveRewrites holds an answer against itself over sleep,
// checkpoint, rewriting, waking and the copy of an export.
func TestDerivedVectorsOutliveRewrites(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, m *memoryFS) {
		for i := range 40 {
			remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup number ", i, " of the dog"), Episode: fmt.Sprint("e", i%3)})
			if i == 20 {
				embedded(t, s)
				require.NoError(t, s.Checkpoint(background))
			}
		}
		embedded(t, s)
		forget(t, s, "m3", "m30")
		cue := Cue{Text: "canine number 7", Limit: 5}
		want := recall(t, s, cue)
		require.Positive(t, want[0].Why.Vector)
		text, _ := exported(t, s)
		before := verified(t, s)
		calls := e.calls
		same := func(what string, s *Space) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, calls, e.calls, "%s: nothing may be embedded again", what)
			got := recall(t, s, cue)
			require.Len(t, got, len(want), what)
			for i := range want {
				require.Equal(t, want[i].Memory.ID, got[i].Memory.ID, what)
				require.Equal(t, want[i].Why, got[i].Why, what)
			}
			again, _ := exported(t, s)
			require.Equal(t, text, again, what)
			require.Zero(t, s.Stats().Content.Unembedded, what)
		}
		same("at first", s)
		asleep(t, s)
		same("woken", s)
		require.Equal(t, before.Digest, verified(t, s).Digest)
		require.NoError(t, s.Checkpoint(background))
		same("checkpoint", s)
		require.Equal(t, before.Digest, verified(t, s).Digest)
		forget(t, s, "m11")
		require.NoError(t, s.Checkpoint(background))
		remember(t, s, Memory{ID: "m11", Content: "cup number 11 of the dog", Episode: "e2"})
		forget(t, s, "m11")
		embeddedQuietly(t, s)
		asleep(t, s)
		verified(t, s)
		require.NotEmpty(t, recall(t, s, cue))
		calls = e.calls
		same("copied", imported(t, s.registry, "copy", text))
	})
}

func embeddedQuietly(t *testing.T, s *Space) {
	t.Helper()
	synctest.Wait()
	require.Zero(t, s.Stats().Content.Unembedded)
}

// TestRecallWithoutTheEmbedder: what fails, hangs or is not there yet is said,
// and the text answers.
func TestRecallWithoutTheEmbedder(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		e.set(func() { e.hangs = true })
		remember(t, s, Memory{ID: "d", Content: "the dog barks"}) // is not waited for
		degraded := func(want Degradation, unembedded int64) {
			t.Helper()
			answer, err := s.Recall(background, Cue{Text: "dog"})
			require.NoError(t, err)
			require.Equal(t, want, answer.Plan.Degraded)
			require.Equal(t, unembedded, answer.Plan.Unembedded)
			require.Equal(t, "d", answer.Recollections[0].Memory.ID)
		}
		degraded(DegradedMissing, 1)
		e.set(func() { e.hangs = false })
		time.Sleep(2 * embedTime) // the hanging call ends, and a pause; no time passes outside
		embedded(t, s)
		degraded("", 0)
		for _, fails := range []func(){
			func() { e.hangs = true },
			func() { e.hangs, e.broken = false, errModel },
			func() { e.broken, e.dimension = nil, 4 },
		} {
			time.Sleep(maxEmbedPause)
			e.set(fails)
			if e.dimension == 16 {
				degraded(DegradedEmbedder, 0)
			}
		}
		e.set(func() { e.dimension = 16 })
		ctx, cancel := context.WithCancel(background)
		cancel()
		_, err := s.Recall(ctx, Cue{Text: "dog"})
		require.ErrorIs(t, err, context.Canceled)
		time.Sleep(maxEmbedPause)
		degraded("", 0)

		// Of one that has no vector yet the text counts in full.
		e.set(func() { e.broken = errModel })
		remember(t, s, Memory{ID: "late", Content: "dog"})
		synctest.Wait()
		late := func(answer Recall, err error) Recollection {
			t.Helper()
			require.NoError(t, err)
			for _, r := range answer.Recollections {
				if r.Memory.ID == "late" {
					return r
				}
			}
			require.Fail(t, "it is not recalled")
			return Recollection{}
		}
		byText := late(s.Recall(background, Cue{Text: "dog"}))
		time.Sleep(embedPause)
		synctest.Wait()
		e.set(func() { e.broken = nil })
		answer, err := s.Recall(background, Cue{Text: "dog"})
		require.NoError(t, err)
		require.Equal(t, DegradedMissing, answer.Plan.Degraded)
		require.Equal(t, int64(1), answer.Plan.Unembedded)
		require.Equal(t, byText.Why, late(answer, err).Why)
	})
}

// recallTook recalls within a bubble, and returns how the answer is degraded and what
// it was waited for.
func recallTook(t *testing.T, s *Space) (Degradation, time.Duration) {
	t.Helper()
	began := time.Now()
	answer, err := s.Recall(background, Cue{Text: "dog"})
	require.NoError(t, err)
	require.Len(t, answer.Recollections, 1)
	return answer.Plan.Degraded, time.Since(began)
}

// TestRecallsDoNotAllWaitForAnEmbedderThatIsDown: after a failure one of a space's
// cues asks it again, now and then, until it answers.
func TestRecallsDoNotAllWaitForAnEmbedderThatIsDown(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		other := create(t, s.registry, "bob")
		for _, space := range []*Space{s, other} {
			remember(t, space, Memory{Content: "the dog barks"})
			embedded(t, space)
		}
		requireTook := func(space *Space, want Degradation, waits time.Duration) {
			t.Helper()
			degraded, took := recallTook(t, space)
			require.Equal(t, want, degraded)
			require.Equal(t, waits, took)
		}
		e.set(func() { e.hangs = true })
		var first sync.WaitGroup
		for range 3 { // all ask, as nothing is known, and that is one failure
			first.Go(func() { requireTook(s, DegradedEmbedder, queryTime) })
		}
		first.Wait()
		for pause := embedPause; pause < 2*maxEmbedPause; pause *= 2 {
			requireTook(s, DegradedEmbedder, 0)
			time.Sleep(min(pause, maxEmbedPause) - time.Nanosecond)
			requireTook(s, DegradedEmbedder, 0)
			time.Sleep(time.Nanosecond)
			var one sync.WaitGroup
			one.Go(func() { requireTook(s, DegradedEmbedder, queryTime) })
			synctest.Wait()
			requireTook(s, DegradedEmbedder, 0)
			one.Wait()
		}
		// Of another space nothing has failed.
		requireTook(other, DegradedEmbedder, queryTime)

		// Who goes before it is told anything says nothing of the embedder.
		time.Sleep(maxEmbedPause)
		ctx, cancel := context.WithTimeout(background, time.Nanosecond)
		defer cancel()
		_, err := s.Recall(ctx, Cue{Text: "dog"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireTook(s, DegradedEmbedder, 0)
		e.set(func() { e.hangs = false })
		time.Sleep(queryTime)
		requireTook(s, "", 0)

		e.set(func() { e.broken = errModel })
		requireTook(s, DegradedEmbedder, 0)
		e.set(func() { e.broken = nil })
		requireTook(s, DegradedEmbedder, 0)
		time.Sleep(embedPause)
		requireTook(s, "", 0)
	})
}

// askedInTime is an embedder that notes how long its caller waits for it.
type askedInTime struct {
	*meanings
	documents, query time.Duration
}

func (e *askedInTime) EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error) {
	e.documents = timeLeft(ctx)
	return e.meanings.EmbedDocuments(ctx, texts)
}

func (e *askedInTime) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	e.query = timeLeft(ctx)
	return e.meanings.EmbedQuery(ctx, text)
}

func timeLeft(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline)
}

// TestEmbedderKnowsItsTime: what a client of a service would wait for in vain it need
// not wait for.
func TestEmbedderKnowsItsTime(t *testing.T) {
	t.Parallel()
	e := &askedInTime{meanings: newMeanings()}
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		remember(t, s, Memory{Content: "dog"})
		embedded(t, s)
		_, err := s.Recall(background, Cue{Text: "dog"})
		require.NoError(t, err)
		require.Equal(t, embedTime, e.documents)
		require.Equal(t, queryTime, e.query)
	})
}

// lateMeanings is an embedder during whose work on a cue something else happens.
type lateMeanings struct {
	*meanings
	meanwhile func()
}

func (e *lateMeanings) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	e.meanwhile()
	return e.meanings.EmbedQuery(ctx, text)
}

// TestDegradationIsOfTheAnswer: what is said to lack a vector is so in the snapshot
// that the answer is of, whatever it was when the embedder was asked.
func TestDegradationIsOfTheAnswer(t *testing.T) {
	e := &lateMeanings{meanings: newMeanings()}
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		remember(t, s, Memory{ID: "d", Content: "the dog barks"})
		embedded(t, s)
		e.meanwhile = func() {
			e.set(func() { e.broken = errModel })
			remember(t, s, Memory{ID: "late", Content: "dog"})
			synctest.Wait()
			e.set(func() { e.broken = nil })
		}
		answer, err := s.Recall(background, Cue{Text: "dog"})
		require.NoError(t, err)
		require.Len(t, answer.Recollections, 2)
		require.Equal(t, DegradedMissing, answer.Plan.Degraded)
		require.EqualValues(t, 1, answer.Plan.Unembedded)

		e.meanwhile = func() { forget(t, s, "late") }
		answer, err = s.Recall(background, Cue{Text: "dog"})
		require.NoError(t, err)
		require.Len(t, answer.Recollections, 1)
		require.Empty(t, answer.Plan.Degraded, "none lacks a vector")
		require.Zero(t, answer.Plan.Unembedded)
	})
}

// TestOneTextHoldsUpNoOther: a text that the embedder refuses is retried, the
// others have their vectors.
func TestOneTextHoldsUpNoOther(t *testing.T) {
	e := newMeanings()
	e.poison = "poison"
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		ms := []Memory{{ID: "p", Content: "poison"}}
		for i := range 150 {
			ms = append(ms, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup ", i)})
		}
		remember(t, s, ms...)
		anHourPasses()
		require.Equal(t, int64(1), s.Stats().Content.Unembedded)
		other := create(t, s.registry, "bob")
		remember(t, other, Memory{Content: "waits for no other space"})
		synctest.Wait()
		require.Zero(t, other.Stats().Content.Unembedded)
		require.Equal(t, e.id, other.Stats().Content.Embedder)
		var before, after int
		e.set(func() { before = e.calls })
		anHourPasses()
		e.set(func() { after = e.calls })
		require.Less(t, after-before, 200, "it backs off")
		e.set(func() { e.poison = "" })
		time.Sleep(time.Hour)
		embedded(t, s)
	})
}

func TestMissingVectorsAreFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		r := openMemory(t, m, Options{})
		remember(t, create(t, r, "ann"), Memory{ID: "a", Content: "the dog barks"}, Memory{ID: "b", Content: "cat"})
		require.NoError(t, r.Close())

		e := newMeanings()
		e.hangs = true
		r = openMemory(t, m, Options{Embedder: e, Durability: None})
		s := get(t, r, "ann")
		remember(t, s, Memory{ID: "c", Content: "tea"})
		synctest.Wait()
		require.Equal(t, 1, e.calls, "it hangs")
		require.NoError(t, r.Close(), "which is nothing to wait for")

		e.set(func() { e.hangs = false })
		r = openMemory(t, m, Options{Embedder: e, Durability: None})
		s = get(t, r, "ann")
		require.Len(t, list(t, s, Filter{}), 3)
		embedded(t, s)
		require.Equal(t, "a", recall(t, s, Cue{Text: "canine"})[0].Memory.ID)
		require.NoError(t, r.Close())
	})
}

func TestVectorsOfAnotherEmbedder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		r := openMemory(t, m, Options{Embedder: newMeanings(), Durability: None})
		s := create(t, r, "ann")
		remember(t, s, Memory{ID: "a", Content: "the dog barks"})
		embedded(t, s)
		require.NoError(t, r.Close())

		for _, other := range []*meanings{{id: "meanings-2", dimension: 16}, {id: "meanings-1", dimension: 8}} {
			r = openMemory(t, m, Options{Embedder: other, Durability: None})
			s = get(t, r, "ann")
			remember(t, s, Memory{ID: other.id, Content: "a canine is not forgotten"})
			synctest.Wait()
			require.Zero(t, other.calls)
			for _, cue := range []Cue{{Text: "dog"}, {Embedding: newMeanings().vector("dog")}} {
				_, err := s.Recall(background, cue)
				require.ErrorIs(t, err, ErrEmbedderMismatch)
				var mismatch *EmbedderError
				require.ErrorAs(t, err, &mismatch)
				require.Equal(t, EmbedderError{
					Space: "ann", Stored: "meanings-1", StoredDimension: 16, Given: other.id, GivenDimension: other.dimension,
				}, *mismatch)
			}
			require.NotEmpty(t, recall(t, s, Cue{IDs: []string{"a"}}))
			require.NoError(t, r.Close())
		}

		r = openMemory(t, m, Options{}) // whoever has no embedder gives the vectors themselves
		s = get(t, r, "ann")
		require.Equal(t, "a", recall(t, s, Cue{Embedding: newMeanings().vector("canine")})[0].Memory.ID)
		require.NoError(t, r.Close())

		r = openMemory(t, m, Options{Embedder: newMeanings(), Durability: None})
		s = get(t, r, "ann")
		require.Len(t, list(t, s, Filter{}), 3, "no write was dropped")
		embedded(t, s)
		require.NoError(t, r.Close())
	})
}

func TestVectorsOfCallers(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		remember(t, s, Memory{ID: "a", Content: "the dog barks", Embedding: []float32{1, 2, 3}})
		remember(t, s, Memory{ID: "b", Content: "a dog"})
		synctest.Wait()
		require.Zero(t, e.calls)
		answer, err := s.Recall(background, Cue{Text: "dog"})
		require.NoError(t, err)
		require.Equal(t, DegradedForeign, answer.Plan.Degraded)
		require.Len(t, answer.Recollections, 2)
	})
}

// TestCallerComesBeforeTheEmbedder: a space whose first embedding a caller gives while
// the embedder is about to have its vectors there does not tell that it has.
func TestCallerComesBeforeTheEmbedder(t *testing.T) {
	s, _ := newTestSpace(t, Options{Embedder: newMeanings(), Durability: None})
	last := remember(t, s, Memory{Content: "the dog barks", Embedding: []float32{1, 2, 3}})[0]
	require.ErrorIs(t, s.adopt(background, newMeanings()), errGivenUp)
	require.Equal(t, last.Seq, s.Info().Seq)
}

// What is stored while a space's turn ends with an error gets a turn of its own: a
// memory that held up a change of embedder may have been forgotten meanwhile.
func TestEmbeddingGoesOnAfterAnError(t *testing.T) {
	s, _ := newTestSpace(t, Options{Embedder: newMeanings(), Durability: None})
	x := s.registry.embedding
	for _, again := range []bool{true, false} {
		e := &embeddingSpace{space: s, texts: embedTexts}
		x.known[s] = e
		if again {
			x.want(s)
		}
		x.served(e, true, &ForeignVectorsError{Space: s.ID(), Memories: 1})
		require.Equal(t, again, x.known[s] == e)
		require.Equal(t, again, slices.Contains(x.waiting, e))
		x.waiting = nil
	}
}

func TestEmbedderIsChecked(t *testing.T) {
	_, err := Open(t.TempDir(), Options{Embedder: &meanings{id: "x"}})
	require.EqualError(t, err, "embedder: has dimension 0, at least 1 is needed")
	for _, e := range []*meanings{{id: "", dimension: 3}, {id: "x", dimension: 0}, {id: "a\nb", dimension: 3}, {id: strings.Repeat("x", 129), dimension: 3}} {
		_, err := Open(t.TempDir(), Options{Embedder: e, Durability: None})
		require.Error(t, err)
		require.True(t, errors.Is(err, ErrInvalid) || errors.Is(err, ErrLimit), "%v", err)
	}
}

// TestApplyVectors: what is late, twice, or of another generation changes nothing.
func TestApplyVectors(t *testing.T) {
	s := newStore()
	seq := uint64(0)
	apply := func(op operation) {
		seq++
		op.seq, op.record = seq, locator{segment: 1, offset: int64(seq), length: 10}
		s.apply(&op)
	}
	live := func() segmentUse { return *s.use(1) }
	say := func(id string) operation {
		return operation{kind: opRemember, memory: Memory{ID: id, Content: id, Confidence: 1}}
	}
	vector := func(id string, version, generation uint64, v ...float32) operation {
		return operation{kind: opEmbed, version: version, generation: generation, memory: Memory{ID: id, Embedding: v}}
	}
	apply(say("a"))
	apply(vector("a", 1, 1, 1, 0)) // there is no embedder
	apply(operation{kind: opEmbedder, generation: 2, embedder: "x", dimension: 2})
	require.Zero(t, s.generation)
	apply(operation{kind: opEmbedder, generation: 1, embedder: "x", dimension: 2})
	require.Equal(t, "x", s.embedder)
	for _, op := range []operation{
		vector("b", 1, 1, 1, 0), vector("a", 2, 1, 1, 0), vector("a", 1, 2, 1, 0), vector("a", 1, 1, 1, 0, 0),
	} {
		apply(op)
		require.Zero(t, s.vectors)
	}
	require.Equal(t, segmentUse{live: 10, dead: 70}, live())
	apply(vector("a", 1, 1, 1, 0))
	apply(vector("a", 1, 1, 0, 1))
	require.Equal(t, int64(1), s.vectors)
	require.Equal(t, segmentUse{live: 20, dead: 80}, live())
	apply(say("a"))
	require.Zero(t, s.vectors)
	require.Equal(t, segmentUse{live: 10, dead: 100}, live())
	apply(vector("a", seq, 1, 0, 1))
	apply(operation{kind: opForget, ids: []string{"a"}})
	require.Equal(t, segmentUse{dead: 130}, live())
	require.Zero(t, s.vectors)
}

// What has a vector is not looked at again for each few memories that get one, and
// nothing is overlooked for that.
func TestMissingVectorsAreLookedForOnce(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	e := newMeanings()
	say := func(ids ...string) {
		for _, id := range ids {
			remember(t, s, Memory{ID: id, Content: "x " + id})
		}
	}
	say("a", "b", "c", "d", "e", "f")
	require.NoError(t, s.adopt(background, e))
	var known embeddedRange
	give := func(n int, ids ...string) {
		t.Helper()
		texts, err := s.withoutVector(background, e, n, nil, known)
		require.NoError(t, err)
		require.Equal(t, ids, texts.ids)
		if len(ids) > 0 {
			require.NoError(t, s.embed(background, e, &texts))
			known = texts.embedded(known)
		}
	}
	from := func(image uint64, from, to uint32) {
		t.Helper()
		require.Equal(t, embeddedRange{image, 1, from, to}, known)
	}
	give(2, "f", "e")
	from(0, 4, 6)
	say("g")
	give(2, "g", "d")
	from(0, 3, 7)
	say("h", "i", "j", "k")
	give(1, "k")
	from(0, 3, 7)
	give(5, "j", "i", "h", "c", "b")
	from(0, 1, 11)
	known.from = 0
	say("l")
	give(2, "l")
	give(2, "a")
	from(0, 0, 12)
	give(2)

	say("m", "n")
	require.NoError(t, s.Checkpoint(background))
	give(1, "n") // its documents have other numbers
	from(s.awake.Load().store.image.seq, 13, 14)
	give(2, "m")
	require.Zero(t, s.Stats().Content.Unembedded)
}

// watchedEmbedder says when it is asked for its id.
type watchedEmbedder struct {
	*meanings
	asked func()
}

func (e *watchedEmbedder) ID() string {
	if e.asked != nil {
		e.asked()
	}
	return e.meanings.ID()
}

// What a space lacks that wakes is looked for before anybody else can change it.
func TestWantedVectorsAreLookedForAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		broken := newMeanings()
		r := openMemory(t, m, Options{Embedder: broken, Durability: None})
		s := create(t, r, "alpha")
		remember(t, s, Memory{Content: "dog"})
		embedded(t, s)
		broken.set(func() { broken.broken = errModel })
		remember(t, s, Memory{Content: "has no vector"})
		synctest.Wait()
		require.NoError(t, r.Close())

		e := &watchedEmbedder{meanings: broken}
		r = openMemory(t, m, Options{Embedder: e, Durability: None})
		s = get(t, r, "alpha")
		first := true
		e.asked = func() {
			if first {
				first = false
				require.Nil(t, s.awake.Load())
			}
		}
		_, err := s.use(background)
		require.NoError(t, err)
		require.False(t, first)
		synctest.Wait()
		require.NoError(t, r.Close())
	})
}
