package engram

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// A checkpoint is an image of a space's indexes at a seq. It holds no contents:
// documents carry the places of their records, and the segments that it lists
// are their home.
//
//	header 128 | section table, 32 for each | sections
//
// A section is a kind, flags, and bytes with a checksum. A reader refuses an
// unknown section unless its flags say that it may be skipped.
const (
	checkpointMagic       = "ENGRAMCK"
	checkpointTemporary   = "checkpoint.tmp"
	checkpointPrefix      = "checkpoint-"
	checkpointHeaderBytes = 128
	sectionEntryBytes     = 32
	maxCheckpointSections = 256
	maxCheckpointBytes    = 1<<32 - 1 // what the ends of texts can say

	// analyzerVersion changes with what analyze makes of a text: the terms of a
	// checkpoint are only good for the analyzer that made them.
	analyzerVersion = 1
)

// Kinds of section. The numbers are part of the format.
const (
	sectionState        = 1
	sectionSegments     = 2
	sectionEpisodes     = 3
	sectionDocuments    = 4
	sectionTerms        = 5
	sectionRequests     = 6
	sectionVectors      = 7
	sectionAssociations = 8
	sectionDerived      = 11
	sectionNext         = 12
	sectionPartition    = 13

	sectionOptional = 1 // flag: a reader may skip it
)

// Flags of a document.
const (
	documentSemantic   = 1
	documentEmbedded   = 2
	documentTellsWhen  = 4
	documentTellsWhere = 8
	documentTellsWho   = 16
	documentTells      = documentTellsWhen | documentTellsWhere | documentTellsWho
	documentFlags      = documentSemantic | documentEmbedded | documentTells
)

var (
	// errCheckpoint says that a checkpoint's bytes do not decode.
	errCheckpoint = errors.New("checkpoint does not decode")
	// errTooLarge says that an image has outgrown what the format can say.
	errTooLarge = errors.New("the indexes of the space exceed 4 GiB")
)

// image is the documents of a checkpoint, read where they lie in its bytes: the
// file, the loaded state and what a checkpoint is made from are one thing. It
// never changes; which of its documents have died since is kept beside it.
//
// Documents stand in the order of their episodes, those without one first, and
// within an episode in time order: neighbours in an episode are neighbours here.
// A document's place is its ordinal.
type image struct {
	seq  uint64
	size int64 // of the checkpoint

	ids        texts
	seqs       column64
	times      column64 // Unix time in nanoseconds
	places     column64 // of the records: segment << 32 | offset
	sizes      column32 // of the records
	lengths    column32 // of the contents, in tokens
	episodes   column32 // 1 + place of the episode; 0: none
	flags      []byte
	questions  []byte   // the share of their sentences, of 255
	attributes texts    // of each, the places of its pairs, as uvarints
	byTime     column32 // ordinals in time order
	pairs      texts    // the attributes that occur

	episodeNames  texts // in the order of the documents
	episodeFirst  column32
	episodeTokens column64

	terms         texts // ascending
	termDocuments column32
	postings      texts // of each term

	present vectorSet // of the space's generation of vectors
	next    vectorSet // and of the one that it is to have
	absent  vectorSet // of any other: empty

	byID      hashTable
	byPair    hashTable
	byEpisode hashTable
	byTerm    hashTable
	bySeq     []uint32 // 1 + ordinal, hashed; made when it is first needed

	labels uint32 // how many of the terms, the first ones, are those of labels

	counts   counts // of all documents
	deaths   deaths
	departed departed

	forwarding sync.Mutex // held while forward is made
	forward    atomic.Pointer[forward]
}

// counts are the sums that scoring and quotas need, over the living.
type counts struct {
	live          int64 // memories
	bytes         int64 // of their records
	vectors       int64 // memories that have one
	derived       int64 // of those, from an embedder
	tokens        int64 // of their contents
	episodes      int64 // that have memories
	episodeTokens int64 // of the memories in an episode
}

// deaths says which documents of an image have died, and when. One writer adds;
// readers of an older seq see that a death is later than they are.
type deaths struct {
	bits   []atomic.Uint64         // by ordinal; made with the first death
	at     sync.Map                // ordinal -> seq
	order  atomic.Pointer[[]death] // set after bits; what comes later is behind the end of it
	latest atomic.Uint64           // seq; no death that has its bit is later
}

// death is that of one document. Those that came over from an image before stand first,
// in any order: they are of no later seq than any view of this one.
type death struct {
	ordinal uint32
	seq     uint64
}

func (x *deaths) any() bool { return x.order.Load() != nil }

// all returns the deaths so far, in their order.
func (x *deaths) all() []death {
	if order := x.order.Load(); order != nil {
		return *order
	}
	return nil
}

// next returns the i-th death, if it is not later than seq.
func (x *deaths) next(i int, seq uint64) (_ death, found bool) {
	if all := x.all(); i < len(all) && all[i].seq <= seq {
		return all[i], true
	}
	return death{}, false
}

func (m *image) documents() uint32 { return m.ids.len() }

// visibleAt reports whether the document lives in a view of that seq.
func (m *image) visibleAt(ordinal uint32, seq uint64) bool {
	if !m.deaths.any() || m.deaths.bits[ordinal/64].Load()&(1<<(ordinal%64)) == 0 {
		return true
	}
	if m.deaths.latest.Load() <= seq {
		return false // no death is later
	}
	died, _ := m.deaths.at.Load(ordinal)
	return died.(uint64) > seq
}

// kill marks the document dead from seq on. It has one caller at a time.
func (m *image) kill(ordinal uint32, seq uint64) {
	if m.deaths.bits == nil {
		m.deaths.bits = make([]atomic.Uint64, (m.documents()+63)/64)
	}
	m.deaths.at.Store(ordinal, seq)
	m.deaths.latest.Store(max(m.deaths.latest.Load(), seq))
	m.deaths.bits[ordinal/64].Or(1 << (ordinal % 64))
	order := append(m.deaths.all(), death{ordinal, seq})
	m.deaths.order.Store(&order)
}

func (m *image) locator(ordinal uint32) locator {
	place := m.places.at(ordinal)
	return locator{segment: place >> 32, offset: int64(place & (1<<32 - 1)), length: int(m.sizes.at(ordinal))}
}

// episodeRange returns the ordinals of the episode's documents, the last one
// excluded.
func (m *image) episodeRange(number uint32) (from, to uint32) {
	from, to = m.episodeFirst.at(number-1), m.documents()
	if number < m.episodeNames.len() {
		to = m.episodeFirst.at(number)
	}
	return from, to
}

// attributesOf calls yield for each of the document's pairs.
func (m *image) attributesOf(ordinal uint32, yield func(pair uint32) bool) {
	for b := m.attributes.at(ordinal); len(b) > 0; {
		pair, n := binary.Uvarint(b)
		if b = b[n:]; !yield(uint32(pair)) {
			return
		}
	}
}

// hasPairs reports whether the document has all of these pairs, which are in the order
// of their keys, as its own are.
func (m *image) hasPairs(ordinal uint32, wanted []uint32) bool {
	if len(wanted) == 0 {
		return true
	}
	m.attributesOf(ordinal, func(pair uint32) bool {
		if pair == wanted[0] {
			wanted = wanted[1:]
		}
		return len(wanted) > 0
	})
	return len(wanted) == 0
}

// findPair returns the pair's place.
func (m *image) findPair(a attribute) (uint32, bool) {
	return m.byPair.lookup(&m.pairs, string(a.append(nil)))
}

// append appends the pair as one text: the key, counted, and the value.
func (a attribute) append(b []byte) []byte { return append(appendCounted(b, a.key), a.value...) }

// pairOf is the inverse of append; ok is false if the text is no pair.
func pairOf(text []byte) (a attribute, ok bool) {
	n, width := binary.Uvarint(text)
	if width <= 0 || n > uint64(len(text)-width) {
		return attribute{}, false
	}
	return attribute{key: string(text[width:][:n]), value: string(text[width+int(n):])}, true
}

// posting says how often a document contains a term.
type posting struct {
	ordinal uint32
	count   uint32
}

// appendPosting encodes the distance to the ordinal before, from -1 on, doubled;
// odd where the term occurs more than once and its count follows.
func appendPosting(b []byte, distance, count uint32) []byte {
	if count == 1 {
		return binary.AppendUvarint(b, uint64(distance)<<1)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(distance)<<1|1), uint64(count))
}

// nextPosting decodes one; b is intact.
func nextPosting(b []byte, last uint32) (posting, []byte) {
	var v uint64
	n := 1
	if v = uint64(b[0]); v >= 0x80 {
		v, n = binary.Uvarint(b)
	}
	p := posting{ordinal: last + uint32(v>>1), count: 1}
	b = b[n:]
	if v&1 != 0 {
		count, n := binary.Uvarint(b)
		p.count, b = uint32(count), b[n:]
	}
	return p, b
}

// appendList appends the postings of a term that are visible at seq.
func (m *image) appendList(list []posting, term string, seq uint64) []posting {
	i, found := m.byTerm.lookup(&m.terms, term)
	if !found {
		return list
	}
	return m.appendListAt(list, i, seq)
}

// appendListAt is appendList for the i-th term.
func (m *image) appendListAt(list []posting, i uint32, seq uint64) []posting {
	from := len(list)
	list = decodePostings(slices.Grow(list, int(m.termDocuments.at(i))), m.postings.at(i))
	if !m.deaths.any() {
		return list
	}
	living := slices.DeleteFunc(list[from:], func(p posting) bool { return !m.visibleAt(p.ordinal, seq) })
	return list[:from+len(living)]
}

// decodePostings appends a list of them; b is intact. It is nextPosting in a loop,
// written out: the calls would be a twentieth of a recall among 100,000 memories
// (BenchmarkRecallSize).
func decodePostings(list []posting, b []byte) []posting {
	p := posting{ordinal: math.MaxUint32}
	for len(b) > 0 {
		v := uint64(b[0])
		switch {
		case v < 0x80:
			b = b[1:]
		case b[1] < 0x80: // most distances in a large space
			v = v&0x7f | uint64(b[1])<<7
			b = b[2:]
		default:
			var n int
			v, n = binary.Uvarint(b)
			b = b[n:]
		}
		p.ordinal, p.count = p.ordinal+uint32(v>>1), 1
		if v&1 != 0 {
			count, n := binary.Uvarint(b)
			p.count, b = uint32(count), b[n:]
		}
		list = append(list, p)
	}
	return list
}
