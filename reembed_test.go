package engram

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// reopened closes the registry of the space and opens it with another embedder.
func reopened(t *testing.T, s *Space, m *memoryFS, e Embedder) *Space {
	t.Helper()
	id := s.ID()
	require.NoError(t, s.registry.Close())
	return get(t, openMemory(t, m, Options{Embedder: e, Durability: None}), id)
}

func degradation(t *testing.T, s *Space, text string) (Degradation, int64) {
	t.Helper()
	answer, err := s.Recall(background, Cue{Text: text})
	require.NoError(t, err)
	return answer.Plan.Degraded, answer.Plan.Unembedded
}

func reembedding(t *testing.T, s *Space) Reembedding {
	t.Helper()
	r, err := s.Reembedding(background)
	require.NoError(t, err)
	return r
}

// viewOf wakes the space, which the journal may have put to sleep again.
func viewOf(t *testing.T, s *Space) *view {
	t.Helper()
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	return a.store.view()
}

// requireVectorsOf requires that every memory has e's vector of its content.
func requireVectorsOf(t *testing.T, s *Space, e *meanings) {
	t.Helper()
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	r := a.read()
	defer r.close()
	require.Equal(t, e.id, r.view.embedder)
	require.Zero(t, r.view.unembedded())
	require.Zero(t, r.view.given())
	for d := range r.view.documents() {
		if !r.view.visible(d) {
			continue
		}
		memory, err := r.memory(d)
		require.NoError(t, err)
		vector, err := r.derivedVector(d)
		require.NoError(t, err)
		require.Equal(t, e.vector(memory.Content), vector, memory.ID)
	}
}

// requireUses requires that the store counts of each segment what it needs.
func requireUses(t *testing.T, s *Space) {
	t.Helper()
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	v := a.store.view()
	live := make(map[uint64]int64)
	for d := range v.documents() {
		if v.visible(d) {
			v.records(d, func(m movedRecord) {
				loc, _ := v.recordOf(m)
				live[loc.segment] += int64(loc.length)
			})
		}
	}
	for number, use := range a.store.segments {
		require.Equal(t, live[number], use.live, "segment %d", number)
		delete(live, number)
	}
	require.Empty(t, live)
}

// TestReembed goes from one embedder to another of another dimension, while
// memories are replaced and forgotten.
func TestReembed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := newMeanings(), crashEmbedder(2)
		m := newMemoryFS()
		r := openMemory(t, m, Options{Embedder: old, Durability: None})
		s := create(t, r, "ann")
		for i := range 200 {
			remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup number ", i, " of the dog")})
		}
		embedded(t, s)
		receipt, err := s.Reembed(background)
		require.NoError(t, err)
		require.Equal(t, s.Stats().Content.Seq, receipt.Seq, "it has them")
		require.NoError(t, s.Checkpoint(background))

		fresh.hangs = true
		s = reopened(t, s, m, fresh)
		_, err = s.Recall(background, Cue{Text: "canine"})
		require.ErrorIs(t, err, ErrEmbedderMismatch)
		require.Zero(t, reembedding(t, s))
		receipt, err = s.Reembed(background)
		require.NoError(t, err)
		again, err := s.Reembed(background)
		require.NoError(t, err)
		require.Equal(t, receipt, again, "it is under way")
		synctest.Wait()

		require.Equal(t, Reembedding{Embedder: "meanings-2", Dimension: 8, Unembedded: 200}, reembedding(t, s))
		why, left := degradation(t, s, "dog")
		require.Equal(t, DegradedReembedding, why)
		require.Equal(t, int64(200), left)
		_, err = s.Recall(background, Cue{Embedding: old.vector("dog")})
		require.ErrorIs(t, err, ErrEmbedderMismatch)
		require.Equal(t, old.id, s.Stats().Content.Embedder)

		fresh.set(func() { fresh.hangs = false })
		s = reopened(t, s, m, &stepping{meanings: fresh, calls: 1}) // and then it hangs
		require.Len(t, list(t, s, Filter{}), 200)
		synctest.Wait()
		require.Equal(t, int64(200-embedTexts), reembedding(t, s).Unembedded)
		remember(t, s, Memory{ID: "m199", Content: "a cup of tea"}, Memory{ID: "new", Content: "a canine"})
		forget(t, s, "m198", "m1")
		require.NoError(t, s.Checkpoint(background))
		require.Equal(t, int64(200-embedTexts+1), reembedding(t, s).Unembedded)
		before := verified(t, s).Digest
		asleep(t, s)
		require.Equal(t, before, verified(t, s).Digest)
		requireUses(t, s)

		s = reopened(t, s, m, fresh)
		require.Len(t, list(t, s, Filter{}), 199)
		synctest.Wait()
		require.Zero(t, reembedding(t, s))
		requireVectorsOf(t, s, fresh)
		why, _ = degradation(t, s, "canine")
		require.Empty(t, why)
		require.Equal(t, "new", recall(t, s, Cue{Text: "canine", Limit: 1})[0].Memory.ID)
		require.Equal(t, 8, s.Info().Dimension)
		requireUses(t, s)
		text, _ := exported(t, s)
		requireSameLater(t, s, fresh)
		v := s.awake.Load().store.view()
		require.Equal(t, v.generation, v.image.present.generation)
		require.Zero(t, v.image.next.generation, "the old vectors are gone")
		requireVectorsOf(t, imported(t, s.registry, "copy", text), fresh)
		require.NoError(t, s.registry.Close())
	})
}

// requireSameLater requires that sleep and a checkpoint change no answer.
func requireSameLater(t *testing.T, s *Space, e *meanings) {
	t.Helper()
	answers := recall(t, s, Cue{Text: "canine number 7"})
	digest := verified(t, s).Digest
	for _, change := range []func(){func() { asleep(t, s) }, func() { require.NoError(t, s.Checkpoint(background)) }, func() { asleep(t, s) }} {
		change()
		require.Equal(t, answers, recall(t, s, Cue{Text: "canine number 7"}))
		require.Equal(t, digest, verified(t, s).Digest)
		requireVectorsOf(t, s, e)
		requireUses(t, s)
	}
}

// stepping is an embedder that hangs after some calls.
type stepping struct {
	*meanings
	calls int
}

func (e *stepping) EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error) {
	if e.calls--; e.calls < 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.meanings.EmbedDocuments(ctx, texts)
}

func TestReembedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		s := create(t, openMemory(t, m, Options{Embedder: newMeanings(), Durability: None}), "ann")
		remember(t, s, Memory{ID: "a", Content: "the dog barks"})
		embedded(t, s)
		s = reopened(t, s, m, crashEmbedder(2))
		_, err := s.Reembed(background)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, s.registry.Settle(background))
		var kinds []EventKind
		var embedders []string
		for _, x := range events(t, s, 0) {
			kinds, embedders = append(kinds, x.Kind), append(embedders, x.Embedder)
		}
		require.Equal(t, []EventKind{Configured, Remembered, EmbedderSet, Embedded, ReembeddingBegun, Embedded, EmbedderSet}, kinds)
		require.Equal(t, []string{"", "", "meanings-1", "", "meanings-2", "", "meanings-2"}, embedders)
		require.NoError(t, s.registry.Close())
	})
}

// TestReembedGivenUp: who goes back to the embedder that the vectors are of keeps
// them, and who goes on to a third one starts over.
func TestReembedGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newMeanings()
		m := newMemoryFS()
		s := create(t, openMemory(t, m, Options{Embedder: old, Durability: None}), "ann")
		for i := range 100 {
			remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup ", i)})
		}
		embedded(t, s)
		for _, n := range []int{2, 3} { // of the same dimension as the old one, the latter
			s = reopened(t, s, m, &stepping{meanings: crashEmbedder(n), calls: 1})
			_, err := s.Reembed(background)
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, int64(100-embedTexts), reembedding(t, s).Unembedded)
			requireUses(t, s)
		}
		calls := old.calls
		s = reopened(t, s, m, old)
		why, _ := degradation(t, s, "cup")
		require.Empty(t, why, "the vectors are its own")
		_, err := s.Reembed(background)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, calls, old.calls)
		require.Zero(t, reembedding(t, s))
		requireVectorsOf(t, s, old)
		requireUses(t, s)
		digest := verified(t, s).Digest
		asleep(t, s)
		require.Equal(t, digest, verified(t, s).Digest)

		s = reopened(t, s, m, crashEmbedder(3))
		_, err = s.Reembed(background)
		require.NoError(t, err)
		synctest.Wait()
		requireVectorsOf(t, s, crashEmbedder(3))
		requireUses(t, s)
		require.NoError(t, s.registry.Close())
	})
}

// TestReembedKeepsGivenEmbeddings: what callers gave is not replaced.
func TestReembedKeepsGivenEmbeddings(t *testing.T) {
	e := newMeanings()
	inBubble(t, Options{Embedder: e, Durability: None}, func(t *testing.T, s *Space, _ *memoryFS) {
		remember(t, s, Memory{ID: "a", Content: "the dog barks", Embedding: []float32{1, 2, 3}})
		_, err := s.Reembed(background)
		require.ErrorIs(t, err, ErrEmbedderMismatch)
		var foreign *ForeignVectorsError
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, ForeignVectorsError{Space: "ann", Memories: 1}, *foreign)
		remember(t, s, Memory{ID: "a", Content: "the dog barks"})
		e.set(func() { e.hangs = true })
		_, err = s.Reembed(background)
		require.NoError(t, err)
		synctest.Wait()

		// One that comes later holds up the switch for as long as it is there, and is
		// not embedded: it may have no text.
		remember(t, s, Memory{ID: "b", Content: "dog", Embedding: []float32{3, 2, 1}}, Memory{ID: "e", Embedding: []float32{1, 1, 1}})
		e.set(func() { e.hangs, e.texts = false, nil })
		time.Sleep(2 * embedTime)
		synctest.Wait()
		require.Equal(t, []string{"the dog barks"}, e.texts)
		require.Equal(t, Reembedding{Embedder: e.id, Dimension: 16, Given: 2}, reembedding(t, s))
		forget(t, s, "e")
		require.Equal(t, Reembedding{Embedder: e.id, Dimension: 16, Given: 1}, reembedding(t, s))
		why, _ := degradation(t, s, "dog")
		require.Equal(t, DegradedReembedding, why)
		found := recall(t, s, Cue{Embedding: []float32{3, 2, 1}})
		require.Equal(t, "b", found[0].Memory.ID, "the embeddings of callers can be compared with each other")
		a := s.awake.Load()
		require.ErrorIs(t, s.switchVectors(background, a.store.view()), ErrEmbedderMismatch)
		require.NoError(t, s.Checkpoint(background))
		asleep(t, s)
		require.Equal(t, int64(1), reembedding(t, s).Given)
		forget(t, s, "b")
		synctest.Wait()
		requireVectorsOf(t, s, e)
		remember(t, s, Memory{ID: "c", Content: "x", Embedding: e.vector("dog")})
		require.Equal(t, "c", recall(t, s, Cue{Embedding: e.vector("dog")})[0].Memory.ID)
		_, err = s.Remember(background, Memory{Embedding: []float32{1, 2, 3}})
		require.ErrorIs(t, err, ErrInvalid)
		verified(t, s)
	})
}

// TestReembedGoesOnWithoutOneText: a text that the embedder refuses has no vector,
// but an embedder that takes none has not embedded the space.
func TestReembedGoesOnWithoutOneText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		s := create(t, openMemory(t, m, Options{Embedder: newMeanings(), Durability: None}), "ann")
		remember(t, s, Memory{ID: "p", Content: "poison"}, Memory{ID: "d", Content: "dog"}, Memory{ID: "c", Content: "cat"})
		embedded(t, s)
		require.NoError(t, s.Checkpoint(background)) // its image says which have a vector
		fresh := crashEmbedder(2)
		fresh.broken = errModel
		s = reopened(t, s, m, fresh)
		_, err := s.Reembed(background)
		require.NoError(t, err)
		anHourPasses()
		require.Equal(t, int64(3), reembedding(t, s).Unembedded)
		fresh.set(func() { fresh.broken, fresh.poison = nil, "poison" })
		anHourPasses()
		require.Zero(t, reembedding(t, s))
		require.Equal(t, fresh.id, s.Stats().Content.Embedder)
		require.Equal(t, int64(1), s.Stats().Content.Unembedded)
		fresh.set(func() { fresh.poison = "" })
		anHourPasses()
		requireVectorsOf(t, s, fresh)
		require.NoError(t, s.registry.Close())
	})
}

// tiring is an embedder that takes a number of calls, and none after them.
type tiring struct {
	*meanings
	left int // calls that it takes
}

func (e *tiring) EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error) {
	e.set(func() {
		if e.left--; e.left < 0 {
			e.broken = errModel
		}
	})
	return e.meanings.EmbedDocuments(ctx, texts)
}

// TestReembedWaitsForItsEmbedder: an embedder that fails after it has taken some
// texts does not refuse the others.
func TestReembedWaitsForItsEmbedder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		s := create(t, openMemory(t, m, Options{Embedder: newMeanings(), Durability: None}), "ann")
		for i := range embedTexts + 2 {
			remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup ", i)})
		}
		embedded(t, s)
		fresh := &tiring{crashEmbedder(2), 1}
		s = reopened(t, s, m, fresh)
		_, err := s.Reembed(background)
		require.NoError(t, err)
		anHourPasses()
		require.Equal(t, int64(2), reembedding(t, s).Unembedded)
		fresh.set(func() { fresh.broken, fresh.left = nil, 1000 })
		anHourPasses()
		requireVectorsOf(t, s, fresh.meanings)
		require.NoError(t, s.registry.Close())
	})
}

// TestReembedGoesOnAfterARestart: also where nothing is left but a text that the
// embedder refuses, which another process has told from the rest.
func TestReembedGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		s := create(t, openMemory(t, m, Options{Embedder: newMeanings(), Durability: None}), "ann")
		remember(t, s, Memory{ID: "p", Content: "poison"}, Memory{ID: "d", Content: "dog"})
		embedded(t, s)
		fresh := &tiring{crashEmbedder(2), 1000}
		fresh.poison = "poison"
		s = reopened(t, s, m, fresh)
		_, err := s.Reembed(background)
		require.NoError(t, err)
		synctest.Wait()
		time.Sleep(embedPause) // for the one that both were in
		synctest.Wait()
		require.Equal(t, int64(1), reembedding(t, s).Unembedded)
		s = reopened(t, s, m, fresh)
		list(t, s, Filter{})
		anHourPasses()
		require.Zero(t, reembedding(t, s))
		require.Equal(t, fresh.id, s.Stats().Content.Embedder)
		require.NoError(t, s.registry.Close())
	})
}

func TestReembedIsRefused(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "ann")
	remember(t, s, Memory{ID: "a", Content: "tea"})
	_, err := s.Reembed(background)
	require.ErrorIs(t, err, ErrInvalid)
	require.NoError(t, r.Close())
	_, err = s.Reembed(background)
	require.Error(t, err)
	r = openMemory(t, m, Options{Embedder: newMeanings(), ReadOnly: true})
	_, err = get(t, r, "ann").Reembed(background)
	require.ErrorIs(t, err, ErrReadOnly)
	require.Zero(t, reembedding(t, get(t, r, "ann")))
	require.NoError(t, r.Close())
	broken := newMeanings()
	broken.broken = errModel
	r = openMemory(t, m, Options{Embedder: broken})
	b := create(t, r, "bob")
	receipt, err := b.Reembed(background)
	require.NoError(t, err)
	require.Equal(t, Receipt{Seq: b.Stats().Content.Seq}, receipt)
	require.Zero(t, reembedding(t, b), "there is nothing to replace")
	require.NoError(t, r.Close())
}

// TestCheckpointsDuringReembedding lets operations of every kind come between the
// beginning of a checkpoint and its end, when its image takes the place of what it
// is an image of.
func TestCheckpointsDuringReembedding(t *testing.T) {
	t.Parallel()
	during := make(map[string]int)
	for seed := range uint64(scaled(24)) {
		x := newCrashRun(t, &faultRun{}, seed)
		x.opts, x.journal = Options{Clock: newStepClock()}, minJournalBytes
		x.opts.seams.segmentBytes = 4000
		require.NoError(t, x.begin())
		x.create("aaa")
		s, h := x.space("aaa"), x.spaces["aaa"]
		for range 8 {
			x.vectorSteps(h)
			from := len(x.steps)
			x.during(s, func() { x.vectorSteps(h) })
			for _, step := range x.steps[from:] {
				word, _, _ := strings.Cut(step, " ")
				during[word]++
			}
			requireUses(t, s)
			digest := verified(t, s).Digest
			x.look("aaa", h)
			if x.random.IntN(3) == 0 {
				asleep(t, s)
				require.Equal(t, digest, verified(t, s).Digest)
				requireUses(t, s)
				x.look("aaa", h)
			}
		}
		x.close()
	}
	for _, word := range []string{"remember", "forget", "embed", "re-embed", "switch"} {
		require.Greater(t, during[word], scaled(8), "%s during a checkpoint", word)
	}
}

// vectorSteps takes some steps of the crash tests' that vectors have to do with.
func (x *crashRun) vectorSteps(h *history) {
	for range x.random.IntN(14) {
		switch x.random.IntN(8) {
		case 0, 1:
			x.remember("aaa", h, 1+x.random.IntN(3))
		case 2:
			x.forget("aaa", h)
		default:
			x.embed("aaa", h)
		}
	}
}

// during does something between the beginning and the end of a checkpoint.
func (x *crashRun) during(s *Space, do func()) {
	a, err := s.use(background)
	require.NoError(x.t, err)
	defer a.uses.Add(-1)
	a.commits.Lock()
	a.maintenance.running.Lock()
	defer a.maintenance.running.Unlock()
	job, err := a.beginCheckpoint(x.random.IntN(2) == 0)
	a.commits.Unlock()
	require.NoError(x.t, err)
	do()
	if job != nil {
		require.NoError(x.t, a.finishCheckpoint(job))
	}
}

// TestReembeddingCutAnywhere ends the process before each call of a re-embedding.
// Then the space has the vectors of the one embedder or of the other, recalls with
// that one are answered from all of them, and what was begun can be finished.
func TestReembeddingCutAnywhere(t *testing.T) {
	t.Parallel()
	kept := map[string]int{}
	begun := crashfs.New()
	r := openMemory(t, begun, Options{Clock: newStepClock()})
	s := create(t, r, "ann")
	for i := range 20 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup ", i, " of a dog")})
	}
	require.NoError(t, s.adopt(background, crashEmbedder(1)))
	embedAll(t, s, crashEmbedder(1), 20)
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Close())
	for n := 0; ; n += max(100/scaled(50), 1) {
		f := begun.Snapshot()
		r := openMemory(t, f, Options{Clock: newStepClock()})
		s := get(t, r, "ann")
		require.Len(t, list(t, s, Filter{}), 20)
		calls := 0
		f.SetHook(func(c crashfs.Call) error {
			if c.Op.Mutates() {
				calls++
			}
			if calls > n {
				return crashfs.ErrCut
			}
			return nil
		})
		switched := reembedInSteps(s)
		whole := !f.Ended()
		for seed := range uint64(2) {
			after := f.Crash(seed)
			if seed == 0 {
				after = f.Kill()
			}
			kept[requireOneEmbedder(t, after, switched)]++
		}
		_ = r.Close() // its process has ended
		if whole {
			require.True(t, switched)
			break
		}
	}
	require.Positive(t, kept["meanings-1"])
	require.Positive(t, kept["meanings-2"])
}

// embedAll gives all memories that lack one a vector of e, some at a time.
func embedAll(t *testing.T, s *Space, e *meanings, n int) {
	t.Helper()
	for {
		texts, err := s.withoutVector(background, e, n, nil, embeddedRange{})
		require.NoError(t, err)
		if len(texts.ids) == 0 {
			return
		}
		require.NoError(t, s.embed(background, e, &texts))
	}
}

// reembedInSteps goes from the first embedder to the second, as far as it can, and
// returns whether the switch was acknowledged.
func reembedInSteps(s *Space) (switched bool) {
	e := crashEmbedder(2)
	some := func() error {
		texts, err := s.withoutVector(background, e, 7, nil, embeddedRange{})
		if err == nil && len(texts.ids) > 0 {
			err = s.embed(background, e, &texts)
		}
		return err
	}
	for _, step := range []func() error{
		func() error {
			_, err := s.reembed(background, e)
			return err
		},
		some,
		func() error {
			_, err := s.RememberBatch(background, []Memory{{ID: "m19", Content: "tea"}, {ID: "m3", Content: "a cat"}})
			return err
		},
		func() error {
			_, err := s.Forget(background, []string{"m4", "m18"})
			return err
		},
		func() error { return s.Checkpoint(background) },
		some, some, some,
		func() error {
			texts, err := s.withoutVector(background, e, 1, nil, embeddedRange{})
			if err == nil {
				err = s.switchVectors(background, texts.view)
				switched = err == nil
			}
			return err
		},
		func() error { return s.Checkpoint(background) },
	} {
		if step() != nil {
			return switched
		}
	}
	return switched
}

// requireOneEmbedder returns whose vectors the space has: all of them of one.
func requireOneEmbedder(t *testing.T, f *crashfs.FS, switched bool) (had string) {
	t.Helper()
	r := openMemory(t, f, Options{Clock: newStepClock()})
	s := get(t, r, "ann")
	v := viewOf(t, s)
	e := embedderNamed(v.embedder)
	if had = e.id; switched {
		require.Equal(t, "meanings-2", had)
	}
	require.NoError(t, r.Close())

	r = openMemory(t, f, Options{Embedder: e, ReadOnly: true})
	answer, err := get(t, r, "ann").Recall(background, Cue{Text: "canine cup", Limit: 100})
	require.NoError(t, err)
	for _, found := range answer.Recollections {
		replaced := found.Memory.Content == "tea" || found.Memory.Content == "a cat"
		if e.id == "meanings-1" && replaced {
			require.Zero(t, found.Why.Vector, "its vector is of what was replaced")
			continue
		}
		want := max(unitProduct(e.vector("canine cup"), e.vector(found.Memory.Content)), 0) / 2
		require.InDelta(t, want, found.Why.Vector, 1e-6, found.Memory.ID)
	}
	require.NoError(t, r.Close())

	r = openMemory(t, f, Options{Clock: newStepClock()})
	s = get(t, r, "ann")
	v = viewOf(t, s)
	if e = crashEmbedder(2); v.embedder != e.id {
		_, err := s.reembed(background, e)
		require.NoError(t, err)
		embedAll(t, s, e, 5)
		require.NoError(t, s.switchVectors(background, viewOf(t, s)))
	}
	requireVectorsOf(t, s, e)
	requireUses(t, s)
	verified(t, s)
	require.NoError(t, r.Close())
	return had
}

// applier returns what applies operations to the store, each as the next one.
func applier(s *store) func(operation) {
	return func(op operation) {
		op.seq = s.seq + 1
		op.record = locator{segment: 1, offset: int64(op.seq), length: 10}
		s.apply(&op)
	}
}

// TestApplyGenerations: a vector fits the generation that it was made for, and an
// operation that comes late changes nothing.
func TestApplyGenerations(t *testing.T) {
	s := newStore()
	apply := applier(s)
	vector := func(id string, version, generation uint64, v ...float32) operation {
		return operation{kind: opEmbed, version: version, generation: generation, memory: Memory{ID: id, Embedding: v}}
	}
	to := func(embedder string, dimension int) operation {
		return operation{kind: opReembed, embedder: embedder, dimension: dimension}
	}
	switchTo := func(generation uint64) operation { return operation{kind: opSwitch, generation: generation} }
	live := func() int64 { return s.use(1).live }

	apply(to("x", 2)) // there are no vectors
	require.Zero(t, s.next)
	apply(operation{kind: opRemember, memory: Memory{ID: "a", Content: "a"}}) // 2
	apply(operation{kind: opEmbedder, generation: 1, embedder: "x", dimension: 2})
	apply(vector("a", 2, 1, 1, 0))
	apply(to("x", 2)) // it has those
	require.Zero(t, s.next)
	apply(to("y", 2)) // 6
	require.Equal(t, nextVectors{generation: 6, embedder: "y", dimension: 2}, s.next)
	apply(vector("a", 2, 6, 0, 1))
	require.Equal(t, int64(1), s.next.vectors)
	apply(to("y", 2)) // they are under way
	require.Equal(t, int64(1), s.next.vectors)
	require.Equal(t, int64(30), live())
	apply(to("z", 2)) // 9
	require.Equal(t, nextVectors{generation: 9, embedder: "z", dimension: 2}, s.next)
	require.Equal(t, int64(20), live())
	for _, op := range []operation{
		vector("a", 2, 6, 0, 1), vector("a", 2, 2, 0, 1), vector("a", 1, 9, 0, 1), vector("a", 2, 9, 0, 1, 0), vector("b", 2, 9, 0, 1),
		switchTo(6), switchTo(1), switchTo(0),
	} {
		apply(op)
		require.Equal(t, nextVectors{generation: 9, embedder: "z", dimension: 2}, s.next)
		require.Equal(t, "x", s.embedder)
		require.Equal(t, int64(20), live())
	}
	apply(vector("a", 2, 9, 0, 1))
	apply(vector("a", 2, 9, 0, 1))
	require.Equal(t, int64(1), s.next.vectors)
	require.Equal(t, int64(30), live())
	apply(to("x", 2)) // back
	require.Zero(t, s.next)
	require.Equal(t, int64(20), live())
	require.Equal(t, int64(1), s.vectors)
	apply(switchTo(9))
	require.Equal(t, uint64(1), s.generation)

	apply(to("w", 3))
	w := s.seq
	apply(operation{kind: opRemember, memory: Memory{ID: "own", Embedding: []float32{1, 1}}})
	apply(switchTo(w))
	require.Equal(t, uint64(1), s.generation, "an embedding of a caller is in its way")
	apply(operation{kind: opForget, ids: []string{"own"}})
	apply(vector("a", 2, w, 1, 2, 3))
	apply(switchTo(w))
	require.Equal(t, vectorState{generation: w, embedder: "w", dimension: 3}, s.vectorState)
	require.Equal(t, int64(20), live())
	require.Equal(t, int64(1), s.vectors)
	apply(operation{kind: opForget, ids: []string{"a"}})
	require.Zero(t, live())
	require.Zero(t, s.vectors)
	require.Zero(t, s.derived)
}

// TestVectorsAreDurableBeforeTheyCount: what the journal could not flush is in no
// answer.
func TestVectorsAreDurableBeforeTheyCount(t *testing.T) {
	for name, write := range map[string]func(s *Space) error{
		"a vector": func(s *Space) error {
			texts, err := s.withoutVector(background, crashEmbedder(1), 1, nil, embeddedRange{})
			require.NoError(t, err)
			require.Len(t, texts.ids, 1)
			return s.embed(background, crashEmbedder(1), &texts)
		},
		"a generation": func(s *Space) error {
			_, err := s.reembed(background, crashEmbedder(3))
			return err
		},
		"a partition": func(s *Space) error { return partitionStep(s, s.awake.Load().store.view(), nil).do() },
		"a switch":    func(s *Space) error { return s.switchVectors(background, s.awake.Load().store.view()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := crashfs.New()
			r := openMemory(t, f, Options{Clock: newStepClock()})
			s := create(t, r, "ann")
			remember(t, s, Memory{ID: "a", Content: "dog"})
			require.NoError(t, s.adopt(background, crashEmbedder(1)))
			embedAll(t, s, crashEmbedder(1), 1)
			_, err := s.reembed(background, crashEmbedder(2))
			require.NoError(t, err)
			remember(t, s, Memory{ID: "b", Content: "cat"})
			embedAll(t, s, crashEmbedder(2), 1)
			before := s.awake.Load().store.view()
			f.SetHook(func(c crashfs.Call) error {
				if c.Op == crashfs.OpSync && strings.HasPrefix(c.Name, journalDir) {
					return syscall.EIO
				}
				return nil
			})
			require.ErrorIs(t, write(s), ErrUnknownOutcome)
			v := s.awake.Load().store.view()
			require.Equal(t, before.seq, v.seq)
			require.Equal(t, before.vectorState, v.vectorState)
			require.Equal(t, int64(1), v.vectors)
			require.Error(t, r.Close())
		})
	}
}

// TestReembedOnce: of callers that begin the same at the same time one does, and the
// others find that nothing is left to do.
func TestReembedOnce(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	require.NoError(t, s.adopt(background, crashEmbedder(1)))
	before := s.Info().Seq
	flushing, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpSync })
	var work sync.WaitGroup
	work.Go(func() { require.NoError(t, remembering(Memory{Content: "holds the journal"})(s)) })
	<-flushing
	receipts := make([]Receipt, 3)
	for i := range receipts {
		work.Go(func() {
			var err error
			receipts[i], err = s.reembed(background, crashEmbedder(2))
			require.NoError(t, err)
		})
	}
	waitQueued(t, s, len(receipts))
	release()
	work.Wait()
	for _, receipt := range receipts {
		require.Equal(t, Receipt{Seq: before + 2}, receipt)
	}
	require.Equal(t, before+2, s.Info().Seq)
	require.NoError(t, r.Close())
}
