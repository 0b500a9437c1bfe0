package engram

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"sort"
)

// forward is an image's postings the other way round: of each document its
// terms. A checkpoint does not hold it, because it says nothing that the postings
// do not say; it is made when it is first needed.
type forward struct {
	ends []int  // by ordinal: where the uses of the document end
	uses []byte // as postings: the places of its terms ascend
}

// termUse says how often a document has a term, by its number in a view: its
// place among the terms of the image or, if the image lacks it, behind those its
// number among the recent ones.
type termUse struct {
	term  uint32
	count uint32
}

// byDocument returns the image's postings by document.
func (m *image) byDocument() *forward {
	if f := m.forward.Load(); f != nil {
		return f
	}
	m.forwarding.Lock()
	defer m.forwarding.Unlock()
	if f := m.forward.Load(); f != nil {
		return f
	}
	f := makeForward(m)
	m.forward.Store(f)
	return f
}

// makeForward goes through the postings twice: for the lengths, and to write.
func makeForward(m *image) *forward {
	n := int(m.documents())
	last := make([]uint32, n) // by document: its last term, from 1 on
	ends := make([]int, n+1)
	m.eachPosting(func(term uint32, p posting) {
		ends[p.ordinal+1] += postingLen(term+1-last[p.ordinal], p.count)
		last[p.ordinal] = term + 1
	})
	for d := range n {
		ends[d+1] += ends[d]
	}
	f := &forward{uses: make([]byte, ends[n])}
	clear(last)
	m.eachPosting(func(term uint32, p posting) {
		at := &ends[p.ordinal] // where the next use of the document goes
		*at += putPosting(f.uses[*at:], term+1-last[p.ordinal], p.count)
		last[p.ordinal] = term + 1
	})
	f.ends = ends[:n] // the places have moved from where uses begin to where they end
	return f
}

// eachPosting calls yield for all postings of all terms.
func (m *image) eachPosting(yield func(term uint32, p posting)) {
	for i := range m.terms.len() {
		p := posting{ordinal: math.MaxUint32}
		for b := m.postings.at(i); len(b) > 0; {
			p, b = nextPosting(b, p.ordinal)
			yield(i, p)
		}
	}
}

// postingLen is how many bytes appendPosting appends.
func postingLen(distance, count uint32) int {
	n := (bits.Len64(uint64(distance)<<1|1) + 6) / 7
	if count > 1 {
		n += (bits.Len32(count) + 6) / 7
	}
	return n
}

// putPosting is appendPosting to b, which has room, and returns how many bytes
// it took.
func putPosting(b []byte, distance, count uint32) int {
	if count == 1 {
		return binary.PutUvarint(b, uint64(distance)<<1)
	}
	n := binary.PutUvarint(b, uint64(distance)<<1|1)
	return n + binary.PutUvarint(b[n:], uint64(count))
}

// labelsEnd returns how many of the image's terms, the first ones, are those of
// labels.
func labelsEnd(terms *texts) uint32 {
	return uint32(sort.Search(int(terms.len()), func(i int) bool {
		return bytes.Compare(terms.at(uint32(i)), []byte(labelTerm("\xff"))) > 0
	}))
}

// appendUses appends the terms of the document.
func (f *forward) appendUses(list []termUse, d uint32) []termUse {
	from := 0
	if d > 0 {
		from = f.ends[d-1]
	}
	use := posting{ordinal: math.MaxUint32}
	for b := f.uses[from:f.ends[d]]; len(b) > 0; {
		use, b = nextPosting(b, use.ordinal)
		list = append(list, termUse{use.ordinal, use.count})
	}
	return list
}

// appendUses appends the terms of the document.
func (v *view) appendUses(list []termUse, d uint32) []termUse {
	if v.imaged(d) {
		return v.image.byDocument().appendUses(list, d)
	}
	terms := &v.recent.terms
	terms.each(d-v.image.documents(), func(number, count uint32) {
		i, found := v.image.byTerm.lookup(&v.image.terms, terms.list[number].term)
		if !found {
			i = v.image.terms.len() + number
		}
		list = append(list, termUse{i, count})
	})
	return list
}

// recentOf returns the recent postings of the term of that number, nil if there
// are none.
func (v *view) recentOf(term uint32) *postings {
	if n := v.image.terms.len(); term >= n {
		return v.recent.terms.list[term-n]
	}
	if len(v.recent.documents) == 0 {
		return nil
	}
	return v.recent.terms.find(string(v.image.terms.at(term)))
}

func (v *view) termName(term uint32) []byte {
	if n := v.image.terms.len(); term >= n {
		return []byte(v.recent.terms.list[term-n].term)
	}
	return v.image.terms.at(term)
}

// isLabel reports whether a term is one of labels.
func (v *view) isLabel(term uint32) bool {
	if n := v.image.terms.len(); term >= n {
		return v.recent.terms.list[term-n].term[0] == labelTerm("")[0]
	}
	return term < v.image.labels
}

// appendList appends the visible postings of the term of that number.
func (v *view) appendList(list []posting, term uint32) []posting {
	if term < v.image.terms.len() {
		list = v.image.appendListAt(list, term, v.seq)
	}
	return v.appendRecent(list, v.recentOf(term))
}

// sortedTerms returns the terms of the image and the recent ones, each once.
func (v *view) sortedTerms() []string {
	var terms []string
	for _, p := range v.recent.terms.list {
		terms = append(terms, p.term)
	}
	for i := range v.image.terms.len() {
		terms = append(terms, string(v.image.terms.at(i)))
	}
	slices.Sort(terms)
	return slices.Compact(terms)
}
