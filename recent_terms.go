package engram

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// recentTerms are the terms of the recent documents with their postings, and of
// each document its terms. One writer adds to them. A view has a copy, in which
// nothing changes: what came later is behind the ends of its slices.
type recentTerms struct {
	table *termTable  // finds them; all copies share it
	list  []*postings // by number
	uses  []byte      // of all documents: the number of each of its terms, and how often it has it
	ends  []int       // by ordinal: where the uses of the document end

	gathered *inversion // of the next documents; nil: of none
}

func newRecentTerms() recentTerms { return recentTerms{table: newTermTable()} }

// find returns the postings of the term, nil if there is none.
func (x *recentTerms) find(term string) *postings { return x.table.find(term) }

// postings returns the list of the term of that hash, which it makes if there is none.
func (x *recentTerms) postings(hash uint64, term string) *postings {
	p := x.table.at(hash, term)
	if p == nil {
		p = x.make(hash, strings.Clone(term))
	}
	return p
}

// make makes the postings of a term that has none.
func (x *recentTerms) make(hash uint64, term string) *postings {
	p := &postings{term: term, hash: hash, number: uint32(len(x.list))}
	p.first = p.few[:]
	p.items.Store(&p.first)
	x.list = append(x.list, p)
	x.table.add(p)
	return p
}

// each calls yield for each term of the document, by its number.
func (x *recentTerms) each(ordinal uint32, yield func(number, count uint32)) {
	from := 0
	if ordinal > 0 {
		from = x.ends[ordinal-1]
	}
	for b := x.uses[from:x.ends[ordinal]]; len(b) > 0; {
		var use posting
		use, b = nextPosting(b, 0)
		yield(use.ordinal, use.count)
	}
}

// copier copies documents of one recentTerms, or of later copies of it, to another.
type copier struct {
	to     *recentTerms
	copied []copiedTerm // by number where they come from
	round  uint32       // of the inversion at hand, from 1 on
}

// copiedTerm is a term where it is copied to.
type copiedTerm struct {
	to    *postings // nil: not there yet
	round uint32    // of the inversion in which it has a place
	place uint32
}

// newCopier returns one to terms that have none yet, from those whose hashes have
// that seed.
func newCopier(seed maphash.Seed, to *recentTerms) copier {
	to.table.seed = seed // hashes stay
	return copier{to: to}
}

// copy gives the next document of to the terms of one of from. They are in the postings
// after an invert of to.
func (c *copier) copy(from *recentTerms, document uint32) {
	if n := len(from.list) - len(c.copied); n > 0 {
		c.copied = append(c.copied, make([]copiedTerm, n)...)
	}
	if c.to.gathered == nil {
		c.round++
	}
	in := c.to.inversion()
	from.each(document, func(number, count uint32) {
		t := &c.copied[number]
		if t.to == nil {
			t.to = c.to.make(from.list[number].hash, from.list[number].term)
		}
		if t.round != c.round {
			t.round, t.place = c.round, in.placeFound(t.to)
		}
		in.add(t.place, count)
	})
	c.to.endGathered()
}

// postings is the list of one term, in ordinal order. It grows under readers:
// the length is published after the items it counts, and an array that is
// replaced stays as it was.
type postings struct {
	term   string
	hash   uint64
	number uint32 // in the order of coming
	length atomic.Uint32
	items  atomic.Pointer[[]posting]
	first  []posting  // few: what items is at first
	few    [2]posting // most terms occur no more often
}

func (p *postings) add(list []posting) {
	n := int(p.length.Load())
	items := *p.items.Load()
	if n+len(list) > len(items) {
		grown := make([]posting, max(8, 2*n, n+len(list)))
		copy(grown, items[:n])
		p.items.Store(&grown)
		items = grown
	}
	copy(items[n:], list)
	p.length.Store(uint32(n + len(list)))
}

// below returns the postings of the first n documents, dead ones among them. p
// may be nil.
func (p *postings) below(n int) []posting {
	if p == nil {
		return nil
	}
	length := p.length.Load()
	return before((*p.items.Load())[:length], uint32(n))
}

// before returns the postings of documents below the ordinal.
func before(list []posting, ordinal uint32) []posting {
	n := len(list)
	if n > 0 && list[n-1].ordinal >= ordinal {
		n, _ = slices.BinarySearchFunc(list, ordinal, func(p posting, end uint32) int { return cmp.Compare(p.ordinal, end) })
	}
	return list[:n]
}

// termTable finds postings by their terms. One writer adds to it, and any number
// of readers look things up meanwhile: they find what was added before they
// began. It is seeded anew each time, so that no texts can be written to make it
// slow.
type termTable struct {
	seed  maphash.Seed
	used  int // the writer's
	slots atomic.Pointer[[]atomic.Pointer[postings]]
}

func newTermTable() *termTable {
	t := &termTable{seed: maphash.MakeSeed()}
	slots := make([]atomic.Pointer[postings], 8)
	t.slots.Store(&slots)
	return t
}

func (t *termTable) find(term string) *postings { return t.at(maphash.String(t.seed, term), term) }

func (t *termTable) at(hash uint64, term string) *postings {
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if p := slots[i].Load(); p == nil || p.hash == hash && p.term == term {
			return p
		}
	}
}

// add adds postings whose term is not there. Where it needs a larger table it
// leaves the present one to who reads it.
func (t *termTable) add(p *postings) {
	slots := *t.slots.Load()
	if t.used++; 2*t.used > len(slots) {
		grown := make([]atomic.Pointer[postings], 2*len(slots))
		for i := range slots {
			if known := slots[i].Load(); known != nil {
				putPostings(grown, known)
			}
		}
		putPostings(grown, p)
		t.slots.Store(&grown)
		return
	}
	putPostings(slots, p)
}

func putPostings(slots []atomic.Pointer[postings], p *postings) {
	mask := uint64(len(slots) - 1)
	i := p.hash & mask
	for slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	slots[i].Store(p)
}
