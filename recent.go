package engram

import (
	"cmp"
	"sync/atomic"

	"github.com/google/btree"
)

const treeDegree = 32

// recent indexes the documents that were stored since the image was made. Its
// trees are cloned for a view; a view's slice is shorter than or equal to the
// store's; the postings are shared.
type recent struct {
	documents []*document // by ordinal; the dead stay until the next image
	byID      *btree.BTreeG[*document]
	byTime    *btree.BTreeG[*document] // time, seq
	byEpisode *btree.BTreeG[*document] // episode, time, seq; those that have one
	episodes  *btree.BTreeG[episodeUse]
	terms     recentTerms
	vectors   vectors // grows as documents do
	derived   derived // of the present generation
	next      derived // and of the next one
	bytes     int     // of the documents' ids and lists of attributes
}

// document is what the indexes know of one version of a memory.
type document struct {
	id         string
	seq        uint64
	time       int64 // Unix time in nanoseconds
	episode    *episode
	attributes []attribute   // in key order
	place      uint64        // of its record: segment << 32 | offset
	died       atomic.Uint64 // seq that replaced or forgot it; 0 while it lives
	ordinal    uint32
	size       uint32 // of its record
	length     uint32 // of its content, in tokens
	flags      uint8
	questions  uint8 // share of its sentences, of 255
}

type attribute struct{ key, value string }

// episode numbers up to those of the image are its; names that came since have
// higher ones.
type episode struct {
	name   string
	number uint32
}

// episodeUse is what of an episode lives, where that is not what the image says.
type episodeUse struct {
	number    uint32
	documents int64
	tokens    int64
}

func newRecent() recent {
	return recent{
		byID:      btree.NewG(treeDegree, func(a, b *document) bool { return a.id < b.id }),
		byTime:    btree.NewG(treeDegree, func(a, b *document) bool { return compareTime(a, b) < 0 }),
		byEpisode: btree.NewG(treeDegree, func(a, b *document) bool { return compareEpisode(a, b) < 0 }),
		episodes:  btree.NewG(treeDegree, func(a, b episodeUse) bool { return a.number < b.number }),
		terms:     newRecentTerms(),
		derived:   newDerived(), next: newDerived(),
	}
}

// clone returns a snapshot. It has one caller at a time, as has insert.
func (x *recent) clone() recent {
	c := *x
	c.byID, c.byTime = x.byID.Clone(), x.byTime.Clone()
	c.byEpisode, c.episodes = x.byEpisode.Clone(), x.episodes.Clone()
	c.derived, c.next = x.derived.clone(), x.next.clone()
	return c
}

func compareTime(a, b *document) int {
	if c := cmp.Compare(a.time, b.time); c != 0 {
		return c
	}
	return cmp.Compare(a.seq, b.seq)
}

func compareEpisode(a, b *document) int {
	if c := cmp.Compare(a.episode.number, b.episode.number); c != 0 {
		return c
	}
	return compareTime(a, b)
}

// visibleAt reports whether the document, which is in a view of that seq, lives in it.
func (d *document) visibleAt(seq uint64) bool {
	died := d.died.Load()
	return died == 0 || died > seq
}

// insert numbers d and adds it to everything but the postings.
func (x *recent) insert(d *document) {
	d.ordinal = uint32(len(x.documents))
	x.documents = append(x.documents, d)
	x.bytes += len(d.id) + pairBytes*len(d.attributes)
	x.byID.ReplaceOrInsert(d)
	x.byTime.ReplaceOrInsert(d)
	if d.episode != nil {
		x.byEpisode.ReplaceOrInsert(d)
	}
}

// remove takes d out of everything but the postings, where it stays as dead.
func (x *recent) remove(d *document) {
	x.byID.Delete(d)
	x.byTime.Delete(d)
	if d.episode != nil {
		x.byEpisode.Delete(d)
	}
}
