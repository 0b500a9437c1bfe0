package engram

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func newSimilarSpace(t *testing.T, most int) (*Space, *memoryFS) {
	t.Helper()
	r, m := newRegistry(t, Options{Clock: newStepClock()})
	s, err := r.Create(background, "alpha", SpaceConfig{AutoAssociate: most})
	require.NoError(t, err)
	return s, m
}

// similarIDs are the memories that id is associated with by likeness.
func similarIDs(t *testing.T, s *Space, id string) []string {
	t.Helper()
	var ids []string
	for _, a := range associationsOf(t, s, id) {
		if a.From != id || a.Kind != AssociationSimilar {
			continue
		}
		require.True(t, a.Weight >= minSimilarity && a.Weight <= 1)
		ids = append(ids, a.To)
	}
	return ids
}

func TestAutoAssociate(t *testing.T) {
	s, m := newSimilarSpace(t, 2)
	remember(t, s, Memory{ID: "a", Content: "the ferry to Aberdeen leaves at nine"})
	remember(t, s, Memory{ID: "b", Content: "soup with carrots"})
	remember(t, s, Memory{ID: "c", Content: "the Aberdeen ferry was late"})
	require.Empty(t, similarIDs(t, s, "b"))
	require.Equal(t, []string{"a"}, similarIDs(t, s, "c"))
	require.Equal(t, []string{"c"}, similarIDs(t, s, "a"), "in both directions")
	// Of one write: the second resembles the first, whose id is not known yet.
	receipts := remember(t, s, Memory{Content: "carrots and onions"}, Memory{ID: "d", Content: "onions and carrots, again"})
	require.Contains(t, similarIDs(t, s, "d"), receipts[0].ID)
	require.Contains(t, similarIDs(t, s, receipts[0].ID), "b")
	associate(t, s, "c", "b", "eaten on", 1)

	remember(t, s, Memory{ID: "c", Content: "a soup of onions"}) // its likeness is made anew, the rest stays
	require.NotContains(t, similarIDs(t, s, "c"), "a")
	require.Empty(t, similarIDs(t, s, "a"))
	require.NotEmpty(t, similarIDs(t, s, "c"))
	require.Contains(t, associationsOf(t, s, "b"), Association{"c", "b", "eaten on", 1})

	want := associationsOf(t, s, "b")
	killed := openMemory(t, m.clone(), Options{})
	require.Equal(t, want, associationsOf(t, get(t, killed, "alpha"), "b"), "replayed")
	require.NoError(t, killed.Close())
	require.NoError(t, s.Checkpoint(background))
	killed = openMemory(t, m.clone(), Options{})
	require.Equal(t, want, associationsOf(t, get(t, killed, "alpha"), "b"), "loaded")
	require.Equal(t, SpaceConfig{AutoAssociate: 2}, infoOf(t, get(t, killed, "alpha")).Config)
	require.NoError(t, killed.Close())
}

func TestAutoAssociateIsBounded(t *testing.T) {
	s, _ := newSimilarSpace(t, MaxAutoAssociate)
	batch := make([]Memory, 60)
	for i := range batch {
		batch[i] = Memory{ID: fmt.Sprint("m", i), Content: "words that all have"}
	}
	remember(t, s, batch[:30]...)
	for _, m := range batch[30:] {
		remember(t, s, m)
	}
	for _, m := range batch {
		require.LessOrEqual(t, len(similarIDs(t, s, m.ID)), MaxAutoAssociate+maxSimilarBack)
	}
	require.Len(t, similarIDs(t, s, "m59"), MaxAutoAssociate)
	_, err := s.Configure(background, SpaceConfig{})
	require.NoError(t, err)
	remember(t, s, Memory{ID: "off", Content: "words that all have"})
	require.Empty(t, associationsOf(t, s, "off"))
	for _, c := range []SpaceConfig{{AutoAssociate: -1}, {AutoAssociate: MaxAutoAssociate + 1}} {
		_, err = s.Configure(background, c)
		require.Error(t, err)
	}
}

// Many that resemble one memory most leave it room for other associations.
func TestAutoAssociateLeavesRoom(t *testing.T) {
	s, _ := newSimilarSpace(t, 1)
	remember(t, s, Memory{ID: "hub", Content: "ferry ferry ferry"})
	for i := range 2 * maxSimilarBack {
		id := fmt.Sprint("m", i)
		remember(t, s, Memory{ID: id, Content: "ferry"})
		require.Equal(t, []string{"hub"}, similarIDs(t, s, id))
	}
	require.Len(t, similarIDs(t, s, "hub"), maxSimilarBack)
}

// A link to a version that was replaced or forgotten after it was found is left out.
func TestAutoAssociateWithWhatIsGone(t *testing.T) {
	s := newStore()
	remembered := func(seq uint64, id string, links ...link) *operation {
		return &operation{kind: opRemember, seq: seq, memory: Memory{ID: id, Time: unixTime(0)}, links: links}
	}
	s.apply(remembered(1, "a"))
	s.apply(remembered(2, "b"))
	s.apply(remembered(3, "a"))
	s.apply(&operation{kind: opForget, seq: 4, ids: []string{"b"}})
	s.apply(remembered(5, "c", link{seq: 1, weight: 1}, link{seq: 2, weight: 1}, link{seq: 5, weight: 1}, link{seq: 99, weight: 1}))
	require.Zero(t, s.graph.edges)
	s.apply(remembered(6, "d", link{seq: 3, weight: 0.5}))
	require.EqualValues(t, 2, s.graph.edges)
}

// What the same write replaces takes no place among the most similar.
func TestAutoAssociateWithinOneWrite(t *testing.T) {
	alike, other := Memory{ID: "a", Content: "green tea in winter"}, Memory{ID: "a", Content: "soup with carrots"}
	last := Memory{ID: "c", Content: "green tea in winter"}
	for _, writes := range [][][]Memory{{{alike}, {other, last}}, {{alike, other, last}}} {
		s, _ := newSimilarSpace(t, 1)
		remember(t, s, Memory{ID: "b", Content: "green tea in summer"})
		for _, batch := range writes {
			remember(t, s, batch...)
		}
		require.Equal(t, []string{"b"}, similarIDs(t, s, "c"))
	}
}

// What is not made by likeness is not copied for a replacement, however much leads to it.
func TestReplacingLeavesOtherAssociationsAlone(t *testing.T) {
	g := newGraph()
	for i := range 1000 {
		g.associate(fmt.Sprint("m", i), "hub", AssociationRelated, 1)
	}
	g.associate("m7", "hub", AssociationSimilar, 1)
	g.associate("hub", "m8", AssociationSimilar, 1)
	g.dropSimilar("hub")
	require.EqualValues(t, 1000, g.edges)
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() { g.dropSimilar("hub") }), 2.0)
}

// When the last checkpoint was does not show: what was forgotten counts in no term.
func TestAutoAssociateCountsTheLiving(t *testing.T) {
	likeness := func(checkpointed bool) []Association {
		s, _ := newSimilarSpace(t, 4)
		remember(t, s, Memory{ID: "a", Content: "green tea in winter"}, Memory{ID: "b", Content: "river stone and bread"})
		for _, forgotten := range []string{"imaged", "recent"} {
			for range 10 {
				remember(t, s, Memory{ID: forgotten, Content: "a green lamp"})
			}
			if forgotten == "imaged" {
				require.NoError(t, s.Checkpoint(background))
			}
			forget(t, s, forgotten)
		}
		if checkpointed {
			require.NoError(t, s.Checkpoint(background))
		}
		remember(t, s, Memory{ID: "c", Content: "green tea by the river"})
		return associationsOf(t, s, "c")
	}
	require.Equal(t, likeness(true), likeness(false))
}

// Who lives is counted by the dead, of which each counts once, and not by going through
// what the terms of each write have: also where nobody recalls.
func TestAutoAssociateCountsTheDeadOnce(t *testing.T) {
	s, _ := newSimilarSpace(t, 4)
	for i := range 10 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "green tea in winter"})
	}
	require.NoError(t, s.Checkpoint(background))
	for i := range 3 {
		forget(t, s, fmt.Sprint("m", i))
		remember(t, s, Memory{Content: "green tea by the river"})
		require.Equal(t, i+1, s.awake.Load().store.image.departed.counted)
	}
}

// The common terms are not what memories are compared by.
func TestSimilarIsBoundedWork(t *testing.T) {
	s := newStore()
	for i := range 2 * similarPostings {
		op := operation{kind: opRemember, seq: uint64(i + 1), memory: Memory{ID: fmt.Sprint("m", i), Time: unixTime(0)}}
		op.analysis = English.analyzeMemory("common " + fmt.Sprint("rare", i/2))
		s.apply(&op)
	}
	s.publish()
	f := similarFinder{view: s.view(), most: 8}
	op := operation{}
	op.analysis = English.analyzeMemory("common rare7")
	terms, _ := f.shared(&op)
	require.Len(t, terms, 1)
	require.Equal(t, []uint64{16, 15}, []uint64{f.find(&op)[0].seq, f.find(&op)[1].seq})
}
