package engram

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What documents are inverted together changes nothing: not the postings, not what
// terms a document has, not how terms are numbered.
func TestInversionIsThatOfEachDocument(t *testing.T) {
	word := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("w", rapid.IntRange(0, 30).Draw(t, "word")) })
	term := rapid.Custom(func(t *rapid.T) termCount {
		return termCount{word.Draw(t, "term"), rapid.Uint32Range(1, 300).Draw(t, "count")}
	})
	document := rapid.Custom(func(t *rapid.T) documentTerms {
		return documentTerms{
			terms: rapid.SliceOfNDistinct(term, 0, 8, func(t termCount) string { return t.term }).Draw(t, "terms"),
			label: rapid.SliceOfNDistinct(word, 0, 2, rapid.ID).Draw(t, "label"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		together, each := newRecentTerms(), newRecentTerms()
		for _, group := range rapid.SliceOf(rapid.SliceOfN(document, 1, 20)).Draw(t, "groups") {
			for _, d := range group {
				together.gather(d.terms, d.label)
				d.each(func(term string, count uint32) { each.add(uint32(len(each.ends)), term, count) })
				each.endDocument()
			}
			together.invert()
			require.Equal(t, each.uses, together.uses)
			require.Equal(t, each.ends, together.ends)
			require.Len(t, together.list, len(each.list))
			for i, p := range each.list {
				x := together.list[i]
				require.Equal(t, p.term, x.term)
				require.Equal(t, p.number, x.number)
				require.Same(t, x, together.find(p.term))
				require.Equal(t, p.below(len(each.ends)), x.below(len(each.ends)))
			}
		}
	})
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
