package engram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func associate(t tester, s *Space, from, to, kind string, weight float64) Receipt {
	t.Helper()
	receipt, err := s.Associate(background, Association{From: from, To: to, Kind: kind, Weight: weight})
	require.NoError(t, err)
	return receipt
}

func associationsOf(t tester, s *Space, id string) []Association {
	t.Helper()
	list, err := s.Associations(background, id)
	require.NoError(t, err)
	return list
}

// newAssociated is a space with memories a, b, c and d.
func newAssociated(t *testing.T) *Space {
	t.Helper()
	s, _ := newTestSpace(t, Options{})
	for _, id := range []string{"a", "b", "c", "d"} {
		remember(t, s, Memory{ID: id, Content: "memory " + id})
	}
	return s
}

func TestAssociateReplaceRemove(t *testing.T) {
	s := newAssociated(t)
	require.Empty(t, associationsOf(t, s, "a"))
	require.Equal(t, Receipt{Seq: 6}, associate(t, s, "a", "b", "causes", 0.5))
	associate(t, s, "a", "b", "", 0.25)
	associate(t, s, "a", "c", "causes", 1)
	associate(t, s, "d", "a", "causes", 0.1)
	associate(t, s, "a", "b", "causes", 0.75)
	require.Equal(t, []Association{
		{"a", "b", "causes", 0.75}, {"a", "b", AssociationRelated, 0.25}, {"a", "c", "causes", 1}, {"d", "a", "causes", 0.1},
	}, associationsOf(t, s, "a"))
	require.Equal(t, []Association{{"a", "b", "causes", 0.75}, {"a", "b", AssociationRelated, 0.25}}, associationsOf(t, s, "b"))
	require.EqualValues(t, 4, s.Stats().Content.Associations)

	receipt, err := s.Dissociate(background, Association{From: "a", To: "b", Kind: "causes"})
	require.NoError(t, err)
	require.Equal(t, Receipt{Seq: 11}, receipt)
	receipt, err = s.Dissociate(background, Association{From: "a", To: "b", Kind: "causes", Weight: 7})
	require.NoError(t, err)
	require.Equal(t, Receipt{Seq: 11}, receipt, "nothing was there, nothing is written")
	require.Equal(t, []Association{{"a", "b", AssociationRelated, 0.25}}, associationsOf(t, s, "b"))
	receipt, err = s.Dissociate(background, Association{From: "a", To: "gone"})
	require.NoError(t, err)
	require.Equal(t, Receipt{Seq: 11}, receipt)
}

func TestAssociateRefuses(t *testing.T) {
	s := newAssociated(t)
	for name, a := range map[string]Association{
		"no from":       {To: "b", Weight: 1},
		"no to":         {From: "a", Weight: 1},
		"self":          {From: "a", To: "a", Weight: 1},
		"zero":          {From: "a", To: "b"},
		"negative":      {From: "a", To: "b", Weight: -0.1},
		"over one":      {From: "a", To: "b", Weight: 1.01},
		"not a number":  {From: "a", To: "b", Weight: math.NaN()},
		"infinite":      {From: "a", To: "b", Weight: math.Inf(1)},
		"kind controls": {From: "a", To: "b", Kind: "a\nb", Weight: 1},
		"kind not text": {From: "a", To: "b", Kind: "\xff", Weight: 1},
	} {
		_, err := s.Associate(background, a)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	_, err := s.Associate(background, Association{From: "a", To: "b", Kind: strings.Repeat("k", 65), Weight: 1})
	require.ErrorIs(t, err, ErrLimit)
	for _, a := range []Association{{From: "a", To: "x", Weight: 1}, {From: "x", To: "a", Weight: 1}} {
		_, err := s.Associate(background, a)
		require.ErrorIs(t, err, ErrMemoryNotFound)
	}
	_, err = s.Associations(background, "x")
	require.ErrorIs(t, err, ErrMemoryNotFound)
	require.EqualValues(t, 5, infoOf(t, s).Seq, "nothing was written")
}

func TestAssociateLimits(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	batch := make([]Memory, MaxAssociations+2)
	for i := range batch {
		batch[i] = Memory{ID: fmt.Sprint("m", i), Content: "one of many"}
	}
	remember(t, s, batch...)
	for i := range MaxAssociations {
		associate(t, s, "m0", batch[i+1].ID, "", 1)
	}
	over := Association{From: "m0", To: batch[MaxAssociations+1].ID, Weight: 1}
	_, err := s.Associate(background, over)
	require.ErrorIs(t, err, ErrLimit)
	associate(t, s, "m0", "m1", "", 0.5) // of one that it has
	associate(t, s, over.To, "m0", "", 1)
	_, err = s.Dissociate(background, Association{From: "m0", To: "m2"})
	require.NoError(t, err)
	_, err = s.Associate(background, over)
	require.NoError(t, err)

	for i := range MaxAssociationKinds - 1 {
		associate(t, s, "m1", batch[i+2].ID, fmt.Sprint("kind ", i), 1)
	}
	another := Association{From: "m2", To: "m3", Kind: "another", Weight: 1}
	_, err = s.Associate(background, another)
	require.ErrorIs(t, err, ErrLimit)
	associate(t, s, "m2", "m3", "kind 3", 1)
	associate(t, s, "m2", "m3", AssociationSimilar, 1)
	_, err = s.Dissociate(background, Association{From: "m1", To: "m9", Kind: "kind 7"})
	require.NoError(t, err)
	_, err = s.Associate(background, another)
	require.NoError(t, err, "a kind that is not used any more makes room")
	require.NoError(t, s.Checkpoint(background))
	before := associationsOf(t, s, "m1")
	asleep(t, s)
	require.Equal(t, before, associationsOf(t, s, "m1"))
	another.Kind = "yet another"
	_, err = s.Associate(background, another)
	require.ErrorIs(t, err, ErrLimit)
}

// Forgetting drops associations in both directions, replacing keeps them.
func TestAssociationsOfForgotten(t *testing.T) {
	s := newAssociated(t)
	associate(t, s, "a", "b", "", 1)
	associate(t, s, "b", "c", "", 1)
	associate(t, s, "c", "a", "", 1)
	remember(t, s, Memory{ID: "b", Content: "another version"})
	require.Len(t, associationsOf(t, s, "b"), 2)
	forget(t, s, "b")
	require.Equal(t, []Association{{"c", "a", AssociationRelated, 1}}, associationsOf(t, s, "a"))
	remember(t, s, Memory{ID: "b", Content: "remembered anew"})
	require.Empty(t, associationsOf(t, s, "b"))
	require.Len(t, associationsOf(t, s, "c"), 1)
	_, err := s.ForgetWhere(background, Filter{Kind: Episodic})
	require.NoError(t, err)
	require.Zero(t, s.Stats().Content.Associations)
}

func TestAssociateOptions(t *testing.T) {
	s := newAssociated(t)
	a := Association{From: "a", To: "b", Weight: 1}
	_, err := s.Associate(background, a, ExpectSeq(4))
	require.ErrorIs(t, err, ErrConflict)
	first, err := s.Associate(background, a, ExpectSeq(5), RequestID("r"))
	require.NoError(t, err)
	again, err := s.Associate(background, a, RequestID("r"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = s.Dissociate(background, a, RequestID("r"))
	require.ErrorIs(t, err, ErrRequestReused)
	a.Kind = AssociationRelated // what an empty kind means is the same payload
	again, err = s.Associate(background, a, RequestID("r"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	removed, err := s.Dissociate(background, a, RequestID("s"))
	require.NoError(t, err)
	again, err = s.Dissociate(background, a, RequestID("s"))
	require.NoError(t, err)
	require.Equal(t, removed, again)
	require.Empty(t, associationsOf(t, s, "a"))

	cancelled, cancel := context.WithCancel(background)
	cancel()
	_, err = s.Associate(cancelled, a)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, associationsOf(t, s, "a"))
}

// Writers that meet in one frame are checked as if they came one after another.
func TestAssociateConcurrently(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	const writers, each = 8, 40
	remember(t, s, Memory{ID: "hub", Content: "hub"})
	var work sync.WaitGroup
	refused := make([]int, writers)
	for w := range writers {
		work.Go(func() {
			for i := range each {
				id := fmt.Sprintf("m%d-%d", w, i)
				_, err := s.Remember(background, Memory{ID: id, Content: "spoke"})
				if err == nil {
					_, err = s.Associate(background, Association{From: id, To: "hub", Weight: 1})
				}
				if err == nil {
					_, err = s.Associate(background, Association{From: "hub", To: id, Weight: 1})
				}
				if errors.Is(err, ErrLimit) {
					refused[w]++
				} else if err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	work.Wait()
	total := 0
	for _, n := range refused {
		total += n
	}
	require.Equal(t, writers*each-MaxAssociations, total)
	require.Len(t, associationsOf(t, s, "hub"), MaxAssociations+writers*each)
}

// associationModel drives a space and a map that does the same.
type associationModel struct {
	fs       *memoryFS
	opts     Options
	r        *Registry
	s        *Space
	memories map[string]bool
	edges    map[Association]float64 // by ends and kind, the weight aside
	held     []heldView
}

// heldView is a snapshot and what it must go on to show.
type heldView struct {
	awake *awake
	view  *view
	edges map[string][]Association
}

func (m *associationModel) open(t *rapid.T) {
	m.r = openMemory(t, m.fs, m.opts)
	var err error
	m.s, err = m.r.GetOrCreate(background, "alpha", SpaceConfig{})
	require.NoError(t, err)
}

func (m *associationModel) drawID(t *rapid.T) string {
	return rapid.SampledFrom(modelIDs).Draw(t, "id")
}

func (m *associationModel) draw(t *rapid.T) Association {
	return Association{
		From: m.drawID(t), To: m.drawID(t), Kind: rapid.SampledFrom([]string{"causes", "related", "similar", "part of"}).Draw(t, "kind"),
		Weight: rapid.SampledFrom([]float64{0.1, 0.5, 1}).Draw(t, "weight"),
	}
}

func (m *associationModel) associate(t *rapid.T) {
	a := m.draw(t)
	_, err := m.s.Associate(background, a)
	switch {
	case a.From == a.To:
		require.ErrorIs(t, err, ErrInvalid)
		return
	case !m.memories[a.From] || !m.memories[a.To]:
		require.ErrorIs(t, err, ErrMemoryNotFound)
		return
	}
	require.NoError(t, err)
	m.edges[key(a)] = a.Weight
}

func key(a Association) Association {
	a.Weight = 0
	return a
}

func (m *associationModel) dissociate(t *rapid.T) {
	a := m.draw(t)
	if a.From == a.To {
		return
	}
	_, err := m.s.Dissociate(background, a)
	require.NoError(t, err)
	delete(m.edges, key(a))
}

func (m *associationModel) remember(t *rapid.T) {
	id := m.drawID(t)
	remember(t, m.s, Memory{ID: id, Content: "tea", Episode: rapid.SampledFrom(modelEpisodes).Draw(t, "episode")})
	m.memories[id] = true
}

func (m *associationModel) forget(t *rapid.T) {
	id := m.drawID(t)
	forget(t, m.s, id)
	delete(m.memories, id)
	for a := range m.edges {
		if a.From == id || a.To == id {
			delete(m.edges, a)
		}
	}
}

func (m *associationModel) compact(t *rapid.T) {
	a, err := m.s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	a.commits.Lock()
	defer a.commits.Unlock()
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.store.graph.renumber()
	a.store.publish()
}

func (m *associationModel) hold(t *rapid.T) {
	a, err := m.s.use(background)
	require.NoError(t, err)
	m.held = append(m.held, heldView{awake: a, view: a.store.view(), edges: m.expected()})
	a.uses.Add(-1)
}

func (m *associationModel) checkpoint(t *rapid.T) { require.NoError(t, m.s.Checkpoint(background)) }

func (m *associationModel) sleep(*rapid.T) { m.s.sleep() }

func (m *associationModel) reopen(t *rapid.T) {
	require.NoError(t, m.r.Close())
	m.open(t)
}

func (m *associationModel) kill(t *rapid.T) {
	left := m.fs.clone()
	require.NoError(t, m.r.Close())
	m.fs = left
	m.open(t)
}

// expected is what each memory's associations must be.
func (m *associationModel) expected() map[string][]Association {
	all := make([]Association, 0, len(m.edges))
	for a, weight := range m.edges {
		a.Weight = weight
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Association) int {
		return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From), cmp.Compare(a.Kind, b.Kind))
	})
	expected := make(map[string][]Association)
	for id := range m.memories {
		expected[id] = []Association{}
		for _, a := range all {
			if a.From == id {
				expected[id] = append(expected[id], a)
			}
		}
		for _, a := range all {
			if a.To == id {
				expected[id] = append(expected[id], a)
			}
		}
	}
	return expected
}

func (m *associationModel) check(t *rapid.T) {
	expected := m.expected()
	for _, id := range modelIDs {
		got, err := m.s.Associations(background, id)
		if !m.memories[id] {
			require.ErrorIs(t, err, ErrMemoryNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, expected[id], got, id)
	}
	for _, h := range m.held {
		require.Len(t, h.edges, int(h.view.live))
		for id, want := range h.edges {
			_, found := h.view.lookup(id)
			require.True(t, found)
			require.Equal(t, want, h.view.graph.associations(id))
		}
	}
	a, err := m.s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	v := a.store.view()
	require.EqualValues(t, len(m.edges), v.graph.edges)
	requireReloaded(t, a.store)
}

// requireReloaded requires that a checkpoint of the store loads to one that
// makes the same checkpoint.
func requireReloaded(t require.TestingT, s *store) {
	at := mark{seq: s.seq, segment: 1, offset: segmentHeaderBytes}
	b := encodeStore(s, at, nil)
	loaded, err := decodeCheckpoint(b, exampleIdentity())
	require.NoError(t, err)
	require.Equal(t, at, loaded.start)
	require.Equal(t, b, encodeLoaded(loaded))
}

func TestAssociationsAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &associationModel{
			fs: newMemoryFS(), opts: modelOptions(t), memories: make(map[string]bool), edges: make(map[Association]float64),
		}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"":           m.check,
			"associate":  m.associate,
			"associate2": m.associate,
			"dissociate": m.dissociate,
			"remember":   m.remember,
			"forget":     m.forget,
			"compact":    m.compact,
			"hold":       m.hold,
			"checkpoint": m.checkpoint,
			"sleep":      m.sleep,
			"reopen":     m.reopen,
			"kill":       m.kill,
		})
		require.NoError(t, m.r.Close())
	})
}

// queued is a write of one operation as it waits to be taken.
func queued(op operation) *write {
	record := encodeOperation(&op)
	return &write{operations: []operation{op}, records: [][]byte{record}, bytes: len(record), signal: make(chan step, 2)}
}

// What the writes before it in a frame may have changed makes an association
// wait for the next frame; that frame decides.
func TestAssociateInOneFrame(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	batch := make([]Memory, MaxAssociations+2)
	for i := range batch {
		batch[i] = Memory{ID: fmt.Sprint("m", i), Content: "one of many"}
	}
	remember(t, s, batch...)
	for i := range MaxAssociations - 2 {
		associate(t, s, "m0", batch[i+1].ID, "", 1)
	}
	to := func(id string) *write {
		return queued(operation{kind: opAssociate, association: Association{From: "m0", To: id, Kind: AssociationRelated, Weight: 1}})
	}
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	take := func(want int, writes ...*write) []*write {
		_, kept, n := a.take(writes)
		require.Equal(t, want, n)
		return kept
	}
	last, over := batch[MaxAssociations].ID, batch[MaxAssociations+1].ID
	kept := take(2, to(batch[MaxAssociations-1].ID), to(last), to(over))
	require.Len(t, kept, 3, "the last one waits")
	fresh := queued(operation{kind: opRemember, memory: Memory{ID: "new", Content: "new", Time: unixTime(0), Confidence: 1}})
	kept = take(1, fresh, to("new"))
	require.Len(t, kept, 2, "its memory may come with the frame")
	require.Empty(t, take(0, to("new")))
	require.Len(t, take(2, to(last), fresh), 2, "others may follow it")

	associate(t, s, "m0", batch[MaxAssociations-1].ID, "", 1)
	associate(t, s, "m0", last, "", 1)
	refused := to(over)
	require.Empty(t, take(0, refused))
	require.ErrorIs(t, refused.err, ErrLimit)
}

// A memory that others are associated with and dissociated from, again and
// again, does not grow.
func TestGraphForgetsRemovedEdges(t *testing.T) {
	g := newGraph()
	g.associate("another", "hub", AssociationRelated, 1)
	for i := range 1000 {
		spoke := []string{"a", "b", "c"}[i%3]
		g.associate(spoke, "hub", fmt.Sprint("kind ", i), 1)
		g.dissociate(spoke, "hub", fmt.Sprint("kind ", i))
	}
	require.EqualValues(t, 1, g.edges)
	require.LessOrEqual(t, cap(g.of("hub").in), 4)
	require.Len(t, g.kinds, 3)
}

// Memories that come and go leave no numbers behind, and views keep theirs.
func TestGraphForgetsGoneMemories(t *testing.T) {
	g := newGraph()
	g.associate("a", "b", AssociationRelated, 0.5)
	for i := range 1000 {
		id := fmt.Sprint("m", i)
		g.associate(id, "a", AssociationRelated, 1)
		g.associate("b", id, "kind", 1)
		g.drop(id)
	}
	g.associate("m7", "a", AssociationRelated, 1) // again, under its old number
	before := g.snapshot()
	want := before.associations("a")
	require.Len(t, want, 2)
	g.compact()
	require.EqualValues(t, 3, g.last)
	require.Zero(t, g.gone)
	require.Equal(t, want, g.associations("a"))
	g.drop("m7")
	require.Len(t, g.associations("a"), 1)
	require.Equal(t, want, before.associations("a"))
}

// Of memories that are forgotten together, what one has to another is not taken away
// one by one, nor is what a memory that stays has to them.
func TestForgottenTogetherLeaveTheGraphAtOnce(t *testing.T) {
	const memories = 40
	filled := func() *store {
		s := newStore()
		for i := range memories {
			s.apply(&operation{kind: opRemember, seq: uint64(i + 1), memory: Memory{ID: fmt.Sprint("m", i), Time: unixTime(int64(i))}})
		}
		for i := range memories {
			for j := range memories {
				s.associate(&Association{From: fmt.Sprint("m", i), To: fmt.Sprint("m", j), Kind: AssociationRelated, Weight: 1})
			}
		}
		return s
	}
	var all []string
	for i := range memories {
		all = append(all, fmt.Sprint("m", i))
	}
	for _, op := range []operation{
		{kind: opForget, seq: memories + 1, ids: append(all[2:], all[2], "unknown")},
		{kind: opForget, seq: memories + 1, filter: &Filter{After: unixTime(2)}},
	} {
		stores := []*store{filled(), filled()}
		var s *store
		allocations := testing.AllocsPerRun(1, func() {
			s, stores = stores[0], stores[1:]
			s.apply(&op)
		})
		require.Less(t, allocations, float64(20*memories))
		require.EqualValues(t, 2, s.graph.edges)
		require.Equal(t, []int64{0, 2}, s.graph.uses)
		require.Len(t, s.graph.associations("m0"), 2)
		require.EqualValues(t, memories-2, s.graph.gone)
	}
}

// Nor do those whose associations were removed before, the last ones of the space.
func TestGraphForgetsMemoriesWithoutEdges(t *testing.T) {
	s := newStore()
	seq := uint64(0)
	apply := func(op operation) {
		seq++
		op.seq = seq
		s.apply(&op)
	}
	for i := range 1000 {
		a := Association{From: fmt.Sprint("a", i), To: fmt.Sprint("b", i), Kind: AssociationRelated, Weight: 1}
		for _, id := range []string{a.From, a.To} {
			apply(operation{kind: opRemember, memory: Memory{ID: id, Time: unixTime(0), Episode: "one"}})
		}
		apply(operation{kind: opAssociate, association: a})
		a.Weight = 0
		apply(operation{kind: opAssociate, association: a})
		if i%2 == 0 {
			apply(operation{kind: opForget, ids: []string{a.From, a.To}})
		} else {
			apply(operation{kind: opForget, filter: &Filter{Episode: "one"}})
		}
	}
	require.Equal(t, s.graph.last, s.graph.gone)
	s.graph.compact()
	require.Zero(t, s.graph.last)
}
