package engram

import (
	"hash/maphash"
	"sync"
)

// inversion makes postings of the terms of documents that come together. It finds each
// term once for all of them, and adds to its postings once: terms lie far apart in
// memory, and finding them document by document is mostly waiting for it.
type inversion struct {
	terms       []invertedTerm // distinct, in order of first appearance
	occurrences []occurrence   // of the terms in the documents, in order
	ends        []int          // by document: where its occurrences end
	slots       []uint32       // by hash, with open addressing: 1 + place in terms
	lists       []posting      // of all terms, one after the other
}

// invertedTerm is a term of the documents.
type invertedTerm struct {
	term   string
	hash   uint64
	to     *postings // nil: not found yet
	number uint32    // of those
	slot   int       // that has it; -1: none
	count  int       // of documents that have it
	end    int       // of what is in lists so far
}

// occurrence says how often a document has a term.
type occurrence struct{ place, count uint32 }

// enoughOccurrences make an inversion worth its while: with more it takes more memory,
// and not less time.
const enoughOccurrences = 16 << 10

// inversions are used again, by any space: they hold nothing between two uses.
var inversions = sync.Pool{New: func() any { return &inversion{slots: make([]uint32, 64)} }}

// gather gives the next document its terms, and those of its label: they are in the
// postings after invert.
func (x *recentTerms) gather(terms []termCount, label []string) {
	in := x.inversion()
	for _, t := range terms {
		in.add(in.placeOf(maphash.String(x.table.seed, t.term), t.term), t.count)
	}
	for _, t := range label {
		term := labelTerm(t)
		in.add(in.placeOf(maphash.String(x.table.seed, term), term), 1)
	}
	x.endGathered()
}

// inversion returns the one of the next documents.
func (x *recentTerms) inversion() *inversion {
	if x.gathered == nil {
		x.gathered = inversions.Get().(*inversion)
	}
	return x.gathered
}

// endGathered ends the document whose terms were gathered.
func (x *recentTerms) endGathered() {
	in := x.gathered
	in.ends = append(in.ends, len(in.occurrences))
	if len(in.occurrences) >= enoughOccurrences {
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
	end := 0
	for i := range in.terms {
		t := &in.terms[i]
		t.end = end
		end += t.count
		if t.to == nil {
			t.to = x.postings(t.hash, t.term)
		}
		t.number = t.to.number
	}
	in.fillLists(x)
	for i := range in.terms {
		t := &in.terms[i]
		t.to.add(in.lists[t.end-t.count : t.end])
	}
	in.release()
}

// add adds a term, by its place, to the document at hand.
func (in *inversion) add(place, count uint32) {
	in.terms[place].count++
	in.occurrences = append(in.occurrences, occurrence{place, count})
}

// placeOf returns the place of the term in terms, where it puts it unless it is there.
func (in *inversion) placeOf(hash uint64, term string) uint32 {
	if 2*len(in.terms) >= len(in.slots) {
		in.grow()
	}
	slot := in.slotOf(hash, term)
	if in.slots[slot] == 0 {
		in.terms = append(in.terms, invertedTerm{hash: hash, term: term, slot: slot})
		in.slots[slot] = uint32(len(in.terms))
	}
	return in.slots[slot] - 1
}

// slotOf returns the slot that has the term, or is to have it.
func (in *inversion) slotOf(hash uint64, term string) int {
	mask := len(in.slots) - 1
	slot := int(hash) & mask
	for ; in.slots[slot] != 0; slot = (slot + 1) & mask {
		if t := &in.terms[in.slots[slot]-1]; t.hash == hash && t.term == term {
			break
		}
	}
	return slot
}

func (in *inversion) grow() {
	in.slots = make([]uint32, 2*len(in.slots))
	for i := range in.terms {
		t := &in.terms[i]
		t.slot = in.slotOf(t.hash, t.term)
		in.slots[t.slot] = uint32(i + 1)
	}
}

// placeFound is placeOf for a term whose postings were found, and that no other place has.
func (in *inversion) placeFound(p *postings) uint32 {
	in.terms = append(in.terms, invertedTerm{to: p, slot: -1})
	return uint32(len(in.terms) - 1)
}

// fillLists gives each document its terms, and each term its documents.
func (in *inversion) fillLists(x *recentTerms) {
	if n := len(in.occurrences); n > cap(in.lists) {
		in.lists = make([]posting, n)
	} else {
		in.lists = in.lists[:n]
	}
	from := 0
	for _, end := range in.ends {
		ordinal := uint32(len(x.ends))
		for _, o := range in.occurrences[from:end] {
			t := &in.terms[o.place]
			in.lists[t.end] = posting{ordinal: ordinal, count: o.count}
			t.end++
			x.uses = appendPosting(x.uses, t.number, o.count)
		}
		x.ends = append(x.ends, len(x.uses))
		from = end
	}
}

// release keeps the inversion for the next use, unless it has become large.
func (in *inversion) release() {
	if len(in.occurrences) > 2*enoughOccurrences {
		return
	}
	for i := range in.terms {
		if slot := in.terms[i].slot; slot >= 0 {
			in.slots[slot] = 0
		}
	}
	clear(in.terms)
	in.terms, in.occurrences, in.ends, in.lists = in.terms[:0], in.occurrences[:0], in.ends[:0], in.lists[:0]
	inversions.Put(in)
}
