package engram

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What documents are inverted together changes nothing: not the postings, not what
// terms a document has, not how terms are numbered. Nor does copying them.
func TestInversionIsThatOfEachDocument(t *testing.T) {
	t.Parallel()
	word := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("w", rapid.IntRange(0, 300).Draw(t, "word")) })
	term := rapid.Custom(func(t *rapid.T) termCount {
		return termCount{word.Draw(t, "term"), rapid.Uint32Range(1, 300).Draw(t, "count")}
	})
	document := rapid.Custom(func(t *rapid.T) analysis {
		return analysis{
			terms: rapid.SliceOfNDistinct(term, 0, 8, func(t termCount) string { return t.term }).Draw(t, "terms"),
			label: rapid.SliceOfNDistinct(word, 0, 2, rapid.ID).Draw(t, "label"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		together, copied := newRecentTerms(), newRecentTerms()
		copies := newCopier(together.table.seed, &copied)
		var numbers []string // of the terms
		lists := make(map[string][]posting)
		ordinal := uint32(0)
		for _, group := range rapid.SliceOf(rapid.SliceOfN(document, 1, 20)).Draw(t, "groups") {
			first := ordinal
			for _, d := range group {
				together.gather(d.terms, d.label)
				add := func(term string, count uint32) {
					if lists[term] == nil {
						numbers = append(numbers, term)
					}
					lists[term] = append(lists[term], posting{ordinal, count})
				}
				for _, t := range d.terms {
					add(t.term, t.count)
				}
				for _, term := range d.label {
					add(labelTerm(term), 1)
				}
				ordinal++
			}
			together.invert()
			for d := first; d < ordinal; d++ {
				copies.copy(&together, d)
			}
			copied.invert()
			for _, x := range []*recentTerms{&together, &copied} {
				require.Len(t, x.list, len(numbers))
				for i, p := range x.list {
					require.Equal(t, numbers[i], p.term)
					require.EqualValues(t, i, p.number)
					require.Same(t, p, x.find(p.term))
					require.Equal(t, lists[p.term], p.below(int(ordinal)))
				}
			}
			require.Equal(t, together.uses, copied.uses)
			require.Equal(t, together.ends, copied.ends)
			requireTermsOf(t, &together, numbers, lists, int(ordinal))
		}
	})
}

// requireTermsOf requires that the documents have the terms that have them.
func requireTermsOf(t *rapid.T, x *recentTerms, numbers []string, lists map[string][]posting, documents int) {
	require.Len(t, x.ends, documents)
	uses := 0
	for d := range uint32(documents) {
		x.each(d, func(number, count uint32) {
			require.Contains(t, lists[numbers[number]], posting{d, count})
			uses++
		})
	}
	for _, list := range lists {
		uses -= len(list)
	}
	require.Zero(t, uses)
}

// More is gathered than an inversion takes, and one document has more than that.
func TestInversionOfMuch(t *testing.T) {
	const documents = 3000
	x := newRecentTerms()
	random := rand.New(rand.NewPCG(1, 1))
	want := make(map[string][]posting)
	for d := range uint32(documents) {
		n := 20
		if d == documents/2 {
			n = 3 * enoughOccurrences
		}
		var terms []termCount
		for i := range n {
			terms = append(terms, termCount{fmt.Sprint(i, " of ", random.IntN(3)), d + 1})
			want[terms[i].term] = append(want[terms[i].term], posting{d, d + 1})
		}
		x.gather(terms, nil)
	}
	x.invert()
	require.Len(t, x.list, len(want))
	for term, list := range want {
		require.Equal(t, list, x.find(term).below(documents), term)
	}
	x.invert() // nothing
	require.Len(t, x.ends, documents)
}

// A term has one place, also where others have its hash, and while slots grow in number.
func TestInversionPlaces(t *testing.T) {
	in := &inversion{slots: make([]uint32, 64)}
	for range 2 {
		for i := range 1000 {
			place := in.placeOf(uint64(i%700), fmt.Sprint("term ", i))
			require.EqualValues(t, i, place)
		}
	}
}
