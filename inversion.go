package engram

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// inversion makes postings of the terms of documents that are stored together. It finds
// each term once for all of them, and adds to its postings once: terms lie far apart in
// memory, and finding them document by document is mostly waiting for it.
type inversion struct {
	documents   []documentTerms // the next ones, in order
	occurrences int             // of a term in a document

	slots  []uint32       // by hash, with open addressing: 1 + place in terms
	terms  []invertedTerm // distinct, in order of first appearance
	places []uint32       // by occurrence: of its term in terms
	lists  []posting      // of all terms, one after the other
}

// documentTerms are the terms of one document, and those of its label.
type documentTerms struct {
	terms []termCount
	label []string
}

// invertedTerm is a term of the documents.
type invertedTerm struct {
	term  string
	hash  uint64
	count int // of documents that have it
	end   int // in lists, of what is there so far
	to    *postings
}

// enoughOccurrences make an inversion worth its while: with more it takes more memory,
// and not less time.
const enoughOccurrences = 16 << 10

// inversions are used again, by any space: they hold nothing between two uses.
var inversions = sync.Pool{New: func() any { return new(inversion) }}

// gather gives the next document its terms: they are in the postings after invert.
func (x *recentTerms) gather(terms []termCount, label []string) {
	if x.gathered == nil {
		x.gathered = inversions.Get().(*inversion)
	}
	in := x.gathered
	in.documents = append(in.documents, documentTerms{terms, label})
	in.occurrences += len(terms) + len(label)
	if in.occurrences >= enoughOccurrences {
		x.invert()
	}
}

// invert adds what was gathered to the postings.
func (x *recentTerms) invert() {
	in := x.gathered
	if in == nil {
		return
	}
	x.gathered = nil
	if len(in.documents) == 1 {
		in.documents[0].each(func(term string, count uint32) { x.add(uint32(len(x.ends)), term, count) })
		x.endDocument()
	} else {
		in.findTerms(x)
		in.fillLists(x)
	}
	in.release()
}

// each calls yield for each term.
func (d *documentTerms) each(yield func(term string, count uint32)) {
	for _, t := range d.terms {
		yield(t.term, t.count)
	}
	for _, term := range d.label {
		yield(labelTerm(term), 1)
	}
}

// findTerms finds the distinct terms, and makes postings for those that have none.
func (in *inversion) findTerms(x *recentTerms) {
	in.slots = slices.Grow(in.slots, 1<<bits.Len(uint(2*in.occurrences)))[:1<<bits.Len(uint(2*in.occurrences))]
	clear(in.slots)
	for i := range in.documents {
		in.documents[i].each(func(term string, _ uint32) {
			place := in.placeOf(maphash.String(x.table.seed, term), term)
			in.terms[place].count++
			in.places = append(in.places, place)
		})
	}
	end := 0
	for i := range in.terms {
		t := &in.terms[i]
		t.end = end
		end += t.count
		if t.to = x.table.at(t.hash, t.term); t.to == nil {
			t.to = x.make(t.hash, strings.Clone(t.term))
		}
	}
}

// placeOf returns the place of the term in terms, where it puts it unless it is there.
func (in *inversion) placeOf(hash uint64, term string) uint32 {
	mask := uint64(len(in.slots) - 1)
	at := hash & mask
	for ; in.slots[at] != 0; at = (at + 1) & mask {
		place := in.slots[at] - 1
		if t := &in.terms[place]; t.hash == hash && t.term == term {
			return place
		}
	}
	in.terms = append(in.terms, invertedTerm{hash: hash, term: term})
	in.slots[at] = uint32(len(in.terms))
	return uint32(len(in.terms) - 1)
}

// fillLists gives each document its terms, and each term its documents.
func (in *inversion) fillLists(x *recentTerms) {
	in.lists = slices.Grow(in.lists, in.occurrences)[:in.occurrences]
	places := in.places
	for i := range in.documents {
		ordinal := uint32(len(x.ends))
		in.documents[i].each(func(_ string, count uint32) {
			t := &in.terms[places[0]]
			places = places[1:]
			in.lists[t.end] = posting{ordinal: ordinal, count: count}
			t.end++
			x.uses = appendPosting(x.uses, t.to.number, count)
		})
		x.endDocument()
	}
	for i := range in.terms {
		t := &in.terms[i]
		t.to.add(in.lists[t.end-t.count : t.end]...)
	}
}

// release keeps the inversion for the next use, unless it has become large.
func (in *inversion) release() {
	if in.occurrences > 2*enoughOccurrences {
		return
	}
	clear(in.documents)
	clear(in.terms)
	in.documents, in.terms = in.documents[:0], in.terms[:0]
	in.slots, in.places, in.lists, in.occurrences = in.slots[:0], in.places[:0], in.lists[:0], 0
	inversions.Put(in)
}
