package engram

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What the indexes say that a document has is what the analyzer makes of its
// content, wherever the document stands.
func TestTermsOfDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		opts := Options{Durability: None}
		opts.seams.checkpointBytes = 3000
		r := openMemory(t, newMemoryFS(), opts)
		s := create(t, r, "alpha")
		for range 3 {
			remember(t, s, drawMemories(t, 20)...)
			forget(t, s, fmt.Sprint("m", rapid.IntRange(0, 20).Draw(t, "forgotten")))
			switch rapid.IntRange(0, 3).Draw(t, "then") {
			case 0:
				require.NoError(t, s.Checkpoint(background))
			case 1:
				asleep(t, s)
			}
			requireTerms(t, s)
		}
		require.NoError(t, r.Close())
	})
}

func requireTerms(t *rapid.T, s *Space) {
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	reader := a.read()
	defer reader.close()
	v := reader.view
	containing := make(map[string]int)
	numbers := make(map[string]uint32)
	for _, d := range v.living() {
		m, err := reader.memory(d)
		require.NoError(t, err)
		want, got := make(map[string]uint32), make(map[string]uint32)
		x := English.analyzeMemory(m.Content)
		for _, term := range x.terms {
			want[term.term] = term.count
		}
		for _, term := range x.label {
			want[labelTerm(term)] = 1
		}
		for _, use := range v.appendUses(nil, d) {
			name := string(v.termName(use.term))
			got[name] = use.count
			containing[name]++
			known, found := numbers[name]
			require.True(t, !found || known == use.term, "%q has two numbers", name)
			numbers[name] = use.term
			require.Equal(t, strings.HasPrefix(name, labelTerm("")), v.isLabel(use.term), "%q", name)
		}
		require.Equal(t, want, got, m.Content)
	}
	census := v.census()
	defer census.close()
	for name, n := range containing {
		require.Equal(t, n, census.documentsOf(numbers[name]), "%q", name)
		require.Equal(t, n, census.containing(name), "%q", name)
		require.Equal(t, v.list(nil, name), v.appendList(nil, numbers[name]), "%q", name)
	}
}

// Views of any age have a census of their own, whoever has asked before.
func TestCensus(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := openMemory(t, newMemoryFS(), Options{Durability: None})
		s := create(t, r, "alpha")
		var readers []*reader
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				remember(t, s, drawMemories(t, 20)...)
			case 1:
				require.NoError(t, s.Checkpoint(background))
			default:
				forget(t, s, fmt.Sprint("m", rapid.IntRange(0, 20).Draw(t, "forgotten")))
			}
			a, err := s.use(background)
			require.NoError(t, err)
			readers = append(readers, a.read())
			a.uses.Add(-1)
			for _, reader := range readers {
				if rapid.Bool().Draw(t, "asked") {
					requireCensus(t, reader.view)
				}
			}
		}
		for _, reader := range readers {
			reader.close()
		}
		require.NoError(t, r.Close())
	})
}

func requireCensus(t *rapid.T, v *view) {
	census := v.census()
	defer census.close()
	for term := range v.image.terms.len() + uint32(len(v.recent.terms.list)) {
		name := string(v.termName(term))
		require.Equal(t, len(v.appendList(nil, term)), census.documentsOf(term), "%q", name)
		require.Equal(t, len(v.list(nil, name)), census.containing(name), "%q", name)
	}
}

func TestPostingLen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		distance, count := rapid.Uint32Min(1).Draw(t, "distance"), rapid.Uint32Min(1).Draw(t, "count")
		encoded := appendPosting(nil, distance, count)
		require.Len(t, encoded, postingLen(distance, count))
		put := make([]byte, len(encoded))
		require.Equal(t, len(encoded), putPosting(put, distance, count))
		require.Equal(t, encoded, put)
	})
}

// Readers find what was added before they began, while the table grows.
func TestTermTableGrowsUnderReaders(t *testing.T) {
	const terms = 2000
	x := newRecentTerms()
	added := make(chan int, terms) // how many there are
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := range added {
				for _, i := range []int{n - 1, n / 2, 0} {
					p := x.find(fmt.Sprint("term ", i))
					if p == nil || p.term != fmt.Sprint("term ", i) {
						t.Errorf("term %d of %d is not found", i, n)
						return
					}
					if list := p.below(terms); len(list) != 1 {
						t.Errorf("term %d has %d postings", i, len(list))
						return
					}
				}
				if x.find(fmt.Sprint("term ", terms)) != nil {
					t.Error("a term is found that was never added")
				}
			}
		})
	}
	writer := x // readers have copies
	for i := range terms {
		writer.gather([]termCount{{fmt.Sprint("term ", i), 1}}, nil)
		writer.invert()
		added <- i + 1
	}
	close(added)
	readers.Wait()
	require.Len(t, writer.list, terms)
}

// A view of recent terms stays as it was while more come.
func TestPostingsGrowUnderReaders(t *testing.T) {
	const documents = 5000
	x := newRecentTerms()
	p := x.postings(0, "river")
	added := make(chan int, documents)
	var readers sync.WaitGroup
	readers.Go(func() {
		for n := range added {
			list := p.below(n)
			if len(list) != n || n > 0 && list[n-1] != (posting{uint32(n - 1), uint32(n)}) {
				t.Errorf("%d of %d postings", len(list), n)
				return
			}
		}
	})
	for i := range documents {
		p.add([]posting{{uint32(i), uint32(i + 1)}})
		added <- i + 1
	}
	close(added)
	readers.Wait()
}

func sortedMatches(list []match) []match {
	slices.SortFunc(list, compareMatches)
	return list
}

func TestMergeMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, ordinal uint32) []match {
			var list []match
			for _, e := range rapid.SliceOfN(rapid.Uint32Range(0, 5), 0, 8).Draw(t, label) {
				list = append(list, match{episode: e, ordinal: ordinal, count: 1})
				ordinal++
			}
			return sortedMatches(list)
		}
		before, first, second := draw("before", 0), draw("first", 100), draw("second", 200)
		got := mergeMatches(slices.Concat(before, first), len(before), second)
		want := sortedMatches(slices.Concat(first, second))
		require.Equal(t, slices.Concat(before, want), got)
	})
}

func TestLowestFirstKeepsTheHighest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := rapid.IntRange(1, 12).Draw(t, "room")
		offered := rapid.SliceOf(rapid.Float64Range(0, 9)).Draw(t, "offered")
		kept := make(lowestFirst, 0, room)
		for _, x := range offered {
			kept.offer(x)
		}
		slices.Sort(offered)
		want := offered[max(len(offered)-room, 0):]
		require.ElementsMatch(t, want, kept)
		if len(want) == room {
			require.InDelta(t, want[0], kept.floor(), 1e-8)
		}
	})
}
