package engram

import (
	"math"
	"sync"
)

// census tells how many documents of a view have a term.
type census struct {
	view     *view
	departed *departed // locked; nil: the dead are not counted for the view
}

// departed are, by term, the documents of an image that are dead, so that nobody has to
// go through a term's postings to learn how many live. Who asks first after a death
// counts it.
type departed struct {
	mu      sync.RWMutex
	counted int      // deaths, in their order
	seq     uint64   // of the last of them
	terms   []uint32 // by term: how many of those documents have it
	uses    []termUse
}

// census returns one, which is to be closed.
func (v *view) census() census { return census{v, v.image.lockDeparted(v.seq)} }

func (c *census) close() {
	if c.departed != nil {
		c.departed.mu.RUnlock()
	}
}

// documentsOf returns how many documents have the term of that number.
func (c *census) documentsOf(term uint32) int {
	n := c.view.recentDocumentsOf(c.view.recentOf(term))
	if term < c.view.image.terms.len() {
		n += c.imagedDocumentsOf(term)
	}
	return n
}

// containing returns how many documents have the term.
func (c *census) containing(term string) int {
	n := c.view.recentDocumentsOf(c.view.recent.terms.find(term))
	if i, found := c.view.image.byTerm.lookup(&c.view.image.terms, term); found {
		n += c.imagedDocumentsOf(i)
	}
	return n
}

func (c *census) imagedDocumentsOf(term uint32) (n int) {
	m := c.view.image
	if !m.deaths.any() {
		return int(m.termDocuments.at(term))
	}
	if c.departed != nil {
		return int(m.termDocuments.at(term) - c.departed.terms[term])
	}
	p := posting{ordinal: math.MaxUint32}
	for b := m.postings.at(term); len(b) > 0; {
		if p, b = nextPosting(b, p.ordinal); m.visibleAt(p.ordinal, c.view.seq) {
			n++
		}
	}
	return n
}

// recentDocumentsOf returns how many of p, which may be nil, are visible.
func (v *view) recentDocumentsOf(p *postings) (n int) {
	list := p.below(v.recentDocuments())
	if v.recent.byID.Len() == v.recentDocuments() {
		return len(list) // all of them live
	}
	for _, p := range list {
		if v.recent.documents[p.ordinal].visibleAt(v.seq) {
			n++
		}
	}
	return n
}

// lockDeparted returns who is dead at seq, locked for reading; nil where nobody is, and
// where later ones are counted already.
func (m *image) lockDeparted(seq uint64) *departed {
	if !m.deaths.any() {
		return nil
	}
	d, index := &m.departed, m.byDocument()
	for {
		d.mu.RLock()
		if _, more := m.deaths.next(d.counted, seq); !more {
			break
		}
		d.mu.RUnlock()
		d.count(m, index, seq)
	}
	if d.seq > seq || d.terms == nil {
		d.mu.RUnlock()
		return nil
	}
	return d
}

// count counts the deaths up to seq.
func (d *departed) count(m *image, index *forward, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.terms == nil {
		d.terms = make([]uint32, m.terms.len())
	}
	for {
		dead, more := m.deaths.next(d.counted, seq)
		if !more {
			return
		}
		d.uses = index.appendUses(d.uses[:0], dead.ordinal)
		for _, use := range d.uses {
			d.terms[use.term]++
		}
		d.counted++
		d.seq = max(d.seq, dead.seq)
	}
}
