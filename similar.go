package engram

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// MaxAutoAssociate is the most that [SpaceConfig.AutoAssociate] may be.
const MaxAutoAssociate = 8

const (
	// A memory is compared by this many of its rarest terms, as long as their
	// postings are no more than that: the common ones say little and cost most.
	similarTerms    = 8
	similarPostings = 4096
	// minSimilarity is the least that makes an association.
	minSimilarity = 0.1
	// maxSimilarBack is how many associations of kind similar a memory has, at
	// most, where later ones resemble it: the rest of its MaxAssociations is free.
	maxSimilarBack = 16
)

// link says that a memory resembles an earlier one. It is part of the operation
// that remembers it, so that replaying needs no search.
type link struct {
	seq    uint64 // of that version; of a mate, how many operations it is before this one
	weight float64
	mate   bool // it is in the same write, whose seqs are not known yet
}

// linkSimilar gives each memory its links to those that are stored and to those
// before it in the write.
func (a *awake) linkSimilar(operations []operation) {
	most := int(a.store.autoAssociate.Load())
	if most == 0 || a.registry.options.ReadOnly { // it is refused, wherever it leads
		return
	}
	f := similarFinder{view: a.store.view(), most: most}
	for i := range operations {
		op := &operations[i]
		op.links = f.find(op)
		if i+1 < len(operations) {
			f.add(op)
		}
	}
}

// similarFinder finds the memories of a snapshot, and of those added to it, that
// resemble one.
type similarFinder struct {
	view  *view
	most  int
	mates []*operation         // nil where a later one has its id
	terms map[string][]posting // of the mates; the ordinal is the place in them
	ids   map[string]int       // places of the mates that say their ids
	dead  map[uint32]bool      // documents that mates replace
}

func (f *similarFinder) add(op *operation) {
	if f.terms == nil {
		f.terms, f.ids, f.dead = make(map[string][]posting), make(map[string]int), make(map[uint32]bool)
	}
	if id := op.memory.ID; id != "" {
		if place, found := f.ids[id]; found {
			f.mates[place] = nil
		} else if d, found := f.view.lookup(id); found {
			f.dead[d] = true
		}
		f.ids[id] = len(f.mates)
	}
	for _, t := range op.terms {
		f.terms[t.term] = append(f.terms[t.term], posting{ordinal: uint32(len(f.mates)), count: t.count})
	}
	f.mates = append(f.mates, op)
}

// sharedTerm is a term of the memory at hand that others have.
type sharedTerm struct {
	term  string
	idf   float64
	known int // postings: of those that are stored and live, and of mates
}

// shared returns the terms to compare op by, the rarest first, and what all of
// its terms weigh.
func (f *similarFinder) shared(op *operation) (terms []sharedTerm, total float64) {
	documents := int(f.view.live) + len(f.mates)
	census := f.view.census()
	defer census.close()
	for _, t := range op.terms {
		s := sharedTerm{term: t.term, known: census.containing(t.term) + len(f.terms[t.term])}
		s.idf = inverseDocumentFrequency(documents, s.known)
		if total += s.idf; s.known > 0 {
			terms = append(terms, s)
		}
	}
	slices.SortFunc(terms, func(a, b sharedTerm) int {
		return cmp.Or(cmp.Compare(a.known, b.known), strings.Compare(a.term, b.term))
	})
	left := similarPostings
	for i, t := range terms {
		if left -= t.known; i == similarTerms || left < 0 {
			return terms[:i], total
		}
	}
	return terms, total
}

// find returns op's links: to the memories that have most of what its terms
// weigh, as BM25 weighs them, in [0,1].
func (f *similarFinder) find(op *operation) []link {
	terms, total := f.shared(op)
	if len(terms) == 0 {
		return nil
	}
	v := f.view
	k1, b := v.config.textParameters()
	bm25 := weigher{k1: k1, b: b, average: ratio(v.tokens, v.live)}
	replaced, replaces := v.lookup(op.memory.ID)
	stored, mates := make(map[uint32]float64), make(map[uint32]float64)
	var list []posting
	for _, t := range terms {
		share := t.idf / (total * (k1 + 1))
		list = v.list(list[:0], t.term)
		for _, p := range list {
			if (!replaces || p.ordinal != replaced) && !f.dead[p.ordinal] {
				stored[p.ordinal] += float64(share * bm25.weight(p.count, v.lengthOf(p.ordinal)))
			}
		}
		for _, p := range f.terms[t.term] {
			if m := f.mates[p.ordinal]; m != nil && (m.memory.ID == "" || m.memory.ID != op.memory.ID) {
				mates[p.ordinal] += float64(share * bm25.weight(p.count, uint32(m.length)))
			}
		}
	}
	var links []link
	for d, weight := range stored {
		links = append(links, link{seq: v.seqOf(d), weight: min(weight, 1)})
	}
	for place, weight := range mates {
		links = append(links, link{seq: uint64(len(f.mates)) - uint64(place), weight: min(weight, 1), mate: true})
	}
	return best(links, f.most)
}

// best returns the heaviest links, of equal ones those to the newer.
func best(links []link, most int) []link {
	links = slices.DeleteFunc(links, func(l link) bool { return l.weight < minSimilarity })
	slices.SortFunc(links, func(a, b link) int {
		switch {
		case a.weight != b.weight:
			return cmp.Compare(b.weight, a.weight)
		case a.mate && b.mate:
			return cmp.Compare(a.seq, b.seq)
		case a.mate != b.mate && a.mate:
			return -1
		case a.mate != b.mate:
			return 1
		}
		return cmp.Compare(b.seq, a.seq)
	})
	return links[:min(len(links), most)]
}

// resolve turns mates' distances into seqs, now that the operation has its own.
// It reports whether there were any.
func (op *operation) resolve() bool {
	any := false
	for i := range op.links {
		if l := &op.links[i]; l.mate {
			l.seq, l.mate, any = op.seq-l.seq, false, true
		}
	}
	return any
}

// link makes the associations of the memory that came with it, in both
// directions. What has been replaced or forgotten since they were found is left
// out.
func (s *store) link(id string, links []link) {
	for _, l := range links {
		other, found := s.idOf(l.seq)
		if !found || other == id || !(l.weight > 0) {
			continue
		}
		weight := min(l.weight, 1)
		if s.graph.outgoing(id) < MaxAssociations {
			s.graph.associate(id, other, AssociationSimilar, weight)
		}
		if s.graph.similar(other) < maxSimilarBack && s.graph.outgoing(other) < MaxAssociations {
			s.graph.associate(other, id, AssociationSimilar, weight)
		}
	}
}

// idOf returns the id of the memory that the operation of that seq remembered,
// if it is still that version.
func (s *store) idOf(seq uint64) (string, bool) {
	documents := s.recent.documents
	i, found := slices.BinarySearchFunc(documents, seq, func(d *document, seq uint64) int { return cmp.Compare(d.seq, seq) })
	if found {
		return documents[i].id, documents[i].died.Load() == 0
	}
	ordinal, found := s.image.version(seq)
	if !found || !s.image.visibleAt(ordinal, s.seq) {
		return "", false
	}
	return string(s.image.ids.at(ordinal)), true
}

// version returns the document of that seq. It has one caller at a time, as has
// kill; the first one pays for a table, which few images need.
func (m *image) version(seq uint64) (uint32, bool) {
	n := m.documents()
	if seq > m.seq || n == 0 {
		return 0, false
	}
	if m.bySeq == nil {
		m.bySeq = make([]uint32, 1<<bits.Len32(n+n/2))
		for d := range n {
			m.bySeq[m.seqSlot(m.seqs.at(d))] = d + 1
		}
	}
	slot := m.seqSlot(seq)
	return m.bySeq[slot] - 1, m.bySeq[slot] != 0
}

// seqSlot returns the slot of bySeq that has the seq, or the free one where it
// belongs.
func (m *image) seqSlot(seq uint64) uint64 {
	mask := uint64(len(m.bySeq) - 1)
	slot := seq * 0x9e3779b97f4a7c15 >> 32 & mask // Fibonacci hashing: Knuth, TAOCP 3, 6.4
	for m.bySeq[slot] != 0 && m.seqs.at(m.bySeq[slot]-1) != seq {
		slot = (slot + 1) & mask
	}
	return slot
}

// similar is how many associations of kind similar the memory has to others.
func (g *graph) similar(id string) int {
	count := 0
	if n := g.of(id); n != nil {
		for _, e := range n.out {
			if e.kind == similarKind {
				count++
			}
		}
	}
	return count
}

// dropSimilar removes the memory's associations of kind similar, in both
// directions: they were of another content.
func (g *graph) dropSimilar(id string) {
	n := g.of(id)
	if n == nil {
		return
	}
	g.prune(n, func(e edge) bool { return e.kind == similarKind })
	for _, number := range n.in {
		f := g.node(number)
		if f == nil {
			continue
		}
		if _, found := f.find(n.number, similarKind); found {
			g.prune(f, func(e edge) bool { return e.to == n.number && e.kind == similarKind })
		}
	}
}
