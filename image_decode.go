package engram

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// This file reads what image_build.go writes, and believes none of it.

// segmentEntry is a segment that holds records the documents point to.
type segmentEntry struct {
	number uint64
	kind   uint16
	end    int64
	last   lastFrame
	use    segmentUse
}

// checkpoint is everything that the file of one says.
type checkpoint struct {
	identity  identity
	start     mark // where the log goes on
	config    SpaceConfig
	dimension int
	segments  []segmentEntry
	requests  []keptRequest // oldest first
	image     *image

	associations edgeList // by ordinals
}

// keptRequest is one that the space remembers.
type keptRequest struct {
	id string
	requestRecord
}

// decodeCheckpoint verifies everything that reading the image relies on. The
// image is read in b from then on.
func decodeCheckpoint(b []byte, id identity) (*checkpoint, error) {
	if len(b) < checkpointHeaderBytes || len(b) > maxCheckpointBytes {
		return nil, errCheckpoint
	}
	if err := openBlock(b[:checkpointHeaderBytes], checkpointMagic); err != nil {
		return nil, err
	}
	if decodeIdentity(b[16:]) != id {
		return nil, errForeignSlot
	}
	c := &checkpoint{identity: id, start: mark{
		seq:     binary.LittleEndian.Uint64(b[48:]),
		segment: binary.LittleEndian.Uint64(b[56:]),
		offset:  int64(binary.LittleEndian.Uint64(b[64:])),
		sum:     binary.LittleEndian.Uint32(b[72:]),
	}}
	sections, err := splitSections(b)
	if err != nil {
		return nil, err
	}
	if c.start.offset != segmentHeaderBytes {
		return nil, errCheckpoint
	}
	if err := c.decodeState(sections.reader(sectionState)); err != nil {
		return nil, err
	}
	c.image = &image{seq: c.start.seq, size: int64(len(b))}
	for kind, decode := range map[uint32]func(*sectionReader) bool{
		sectionSegments: c.decodeSegments,
		sectionRequests: c.decodeRequests,
	} {
		if !decode(sections.reader(kind)) {
			return nil, errCheckpoint
		}
	}
	if _, found := sections[sectionPartition]; found && !c.image.decodePartition(sections.reader(sectionPartition), c.dimension) {
		return nil, errCheckpoint
	}
	if !c.image.decode(sections, c.dimension) {
		return nil, errCheckpoint
	}
	if body, found := sections[sectionAssociations]; found && !c.decodeAssociations(&sectionReader{decoder{b: body}}) {
		return nil, errCheckpoint
	}
	if _, found := sections[sectionDerived]; found && !c.image.decodeDerived(sections.reader(sectionDerived)) {
		return nil, errCheckpoint
	}
	if _, found := sections[sectionNext]; found && !c.image.decodeNext(sections.reader(sectionNext)) {
		return nil, errCheckpoint
	}
	return c, nil
}

// sectionBytes are the sections of a checkpoint by kind.
type sectionBytes map[uint32][]byte

func (s sectionBytes) reader(kind uint32) *sectionReader {
	return &sectionReader{decoder{b: s[kind]}}
}

// splitSections verifies and returns the sections.
func splitSections(b []byte) (sectionBytes, error) {
	count := int(binary.LittleEndian.Uint32(b[12:]))
	if count > maxCheckpointSections || len(b) < checkpointHeaderBytes+count*sectionEntryBytes {
		return nil, errCheckpoint
	}
	sections := make(sectionBytes, count)
	for i := range count {
		e := b[checkpointHeaderBytes+i*sectionEntryBytes:]
		kind, body, intact := decodeSectionEntry(b, e)
		if !intact {
			return nil, errCheckpoint
		}
		flags := binary.LittleEndian.Uint32(e[4:])
		known := kind >= sectionState && kind <= sectionAssociations || kind >= sectionDerived && kind <= sectionPartition
		if !known && flags&sectionOptional == 0 {
			return nil, errUnknownVersion
		}
		if _, twice := sections[kind]; twice {
			return nil, errCheckpoint
		}
		sections[kind] = body
	}
	return sections, nil
}

// decodeSectionEntry returns the section of the checkpoint that the entry of its
// table describes, and whether it is intact.
func decodeSectionEntry(checkpoint, e []byte) (kind uint32, body []byte, intact bool) {
	kind = binary.LittleEndian.Uint32(e)
	at, n := binary.LittleEndian.Uint64(e[8:]), binary.LittleEndian.Uint64(e[16:])
	if size := uint64(len(checkpoint)); at > size || n > size-at {
		return kind, nil, false
	}
	body = checkpoint[at : at+n : at+n]
	return kind, body, crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(e[24:])
}

func (c *checkpoint) decodeState(d *sectionReader) error {
	if d.u32() != analyzerVersion && !d.failed {
		return errUnknownVersion
	}
	c.dimension = int(d.u32())
	analyzer, known := analyzerOf(d.u32())
	if !known && !d.failed {
		return errUnknownVersion
	}
	c.config = SpaceConfig{
		MaxMemories: int64(d.u64()),
		MaxBytes:    int64(d.u64()),
		TextK1:      math.Float64frombits(d.u64()),
		TextB:       math.Float64frombits(d.u64()),
		Analyzer:    analyzer,
	}
	autoAssociate := d.u32()
	c.config.AutoAssociate = int(autoAssociate)
	if !d.end() || c.dimension > MaxDimension || autoAssociate > MaxAutoAssociate {
		return errCheckpoint
	}
	return nil
}

func (c *checkpoint) decodeSegments(d *sectionReader) bool {
	n := d.count(10)
	c.segments = make([]segmentEntry, 0, n)
	for i := range n {
		e := segmentEntry{number: d.uvarint(), kind: uint16(d.uvarint())}
		end, offset := d.uvarint(), d.uvarint()
		if offset < segmentHeaderBytes || offset > end || end-offset < frameHeaderBytes || end > maxSegmentBytes ||
			i > 0 && e.number <= c.segments[i-1].number {
			return false
		}
		e.end, e.last = int64(end), lastFrame{offset: int64(offset), sum: d.u32()}
		e.use = segmentUse{live: int64(d.uvarint()), dead: int64(d.uvarint())}
		c.segments = append(c.segments, e)
	}
	return d.end()
}

func (c *checkpoint) decodeRequests(d *sectionReader) bool {
	n := d.count(19)
	for range n {
		c.requests = append(c.requests, keptRequest{id: d.text(), requestRecord: requestRecord{
			seq: d.uvarint(), storedAt: int64(d.u64()), hash: d.u64(),
			operations: uint32(d.uvarint()), forgotten: uint32(d.uvarint()),
		}})
	}
	return d.end() && n <= keptRequests
}

func (c *checkpoint) decodeAssociations(d *sectionReader) bool {
	l := &c.associations
	for range d.count(1) {
		l.kinds = append(l.kinds, d.text())
	}
	total := d.count(10)
	l.edges = make([]edge, 0, total)
	documents := uint64(c.image.documents())
	next := uint64(0) // ordinals are written as distances, from -1 on
	for range d.count(12) {
		distance := d.uvarint()
		if next += distance; d.failed || distance == 0 || distance > documents || next > documents {
			return false
		}
		l.from, l.begin = append(l.from, uint32(next-1)), append(l.begin, len(l.edges))
		for range d.count(10) {
			to, kind, weight := d.uvarint(), d.uvarint(), math.Float64frombits(d.u64())
			if to >= documents || kind >= uint64(len(l.kinds)) || !(weight > 0 && weight <= 1) {
				return false
			}
			l.edges = append(l.edges, edge{weight: weight, to: uint32(to), kind: uint8(kind)})
		}
	}
	l.begin = append(l.begin, len(l.edges))
	return d.end() && len(l.edges) == total && l.ordered()
}

// decode takes the columns and checks that they agree with each other.
func (m *image) decode(sections sectionBytes, dimension int) bool {
	return m.decodeDocuments(sections.reader(sectionDocuments)) &&
		m.decodeEpisodes(sections.reader(sectionEpisodes)) &&
		m.decodeTerms(sections.reader(sectionTerms)) &&
		m.checkDocuments() && m.checkOrder() && m.checkPostings() &&
		m.decodeVectors(sections.reader(sectionVectors), dimension)
}

func (m *image) decodeDocuments(d *sectionReader) bool {
	n, pairs := d.u32(), d.u32()
	m.ids = d.texts(n)
	m.seqs, m.times, m.places = d.column64(n), d.column64(n), d.column64(n)
	m.sizes, m.lengths, m.episodes, m.byTime = d.column32(n), d.column32(n), d.column32(n), d.column32(n)
	m.flags, m.questions = d.array(uint64(n), 1), d.array(uint64(n), 1)
	m.attributes = d.texts(n)
	m.pairs = d.texts(pairs)
	if !d.end() {
		return false
	}
	var unique, uniquePairs bool
	m.byID, unique = newHashTable(&m.ids)
	m.byPair, uniquePairs = newHashTable(&m.pairs)
	return unique && uniquePairs
}

func (m *image) decodeEpisodes(d *sectionReader) bool {
	n := d.u32()
	m.episodeNames = d.texts(n)
	m.episodeFirst, m.episodeTokens = d.column32(n), d.column64(n)
	unique := false
	if d.end() {
		m.byEpisode, unique = newHashTable(&m.episodeNames)
	}
	return unique
}

func (m *image) decodeTerms(d *sectionReader) bool {
	n := d.u32()
	m.terms = d.texts(n)
	m.termDocuments = d.column32(n)
	m.postings = d.texts(n)
	unique := false
	if d.end() && m.terms.sorted() {
		m.byTerm, unique = newHashTable(&m.terms)
		m.labels = labelsEnd(&m.terms)
	}
	return unique
}

// checkDocuments checks each document by itself, and counts.
func (m *image) checkDocuments() bool {
	pairs := uint64(m.pairs.len())
	for i := range m.pairs.len() {
		if _, ok := pairOf(m.pairs.at(i)); !ok {
			return false
		}
	}
	for i := range m.documents() {
		size := m.sizes.at(i)
		if len(m.ids.at(i)) == 0 || len(m.ids.at(i)) > MaxIDBytes || size > maxFrameBytes ||
			m.flags[i]&^documentFlags != 0 || m.seqs.at(i) > m.seq {
			return false
		}
		for b := m.attributes.at(i); len(b) > 0; {
			pair, n := binary.Uvarint(b)
			if n <= 0 || pair >= pairs {
				return false
			}
			b = b[n:]
		}
		if m.flags[i]&documentEmbedded != 0 {
			m.counts.vectors++
		}
		m.counts.bytes += int64(size)
		m.counts.tokens += int64(m.lengths.at(i))
	}
	m.counts.live = int64(m.documents())
	m.counts.episodes = int64(m.episodeNames.len())
	return true
}

// checkOrder checks that documents are in the order of their episodes and times,
// and byTime in that of times: strictly, so that each occurs once.
func (m *image) checkOrder() bool {
	n := m.documents()
	for i := range n {
		if m.byTime.at(i) >= n || m.episodes.at(i) > m.episodeNames.len() {
			return false
		}
	}
	before := func(a, b uint32) bool {
		x, y := int64(m.times.at(a)), int64(m.times.at(b))
		return x < y || x == y && m.seqs.at(a) < m.seqs.at(b)
	}
	var tokens uint64
	for i := range n {
		e := m.episodes.at(i)
		switch {
		case i > 0 && !before(m.byTime.at(i-1), m.byTime.at(i)):
			return false
		case i > 0 && m.episodes.at(i-1) == e:
			if !before(i-1, i) {
				return false
			}
		case e > 0 && (i == 0 && e != 1 || i > 0 && m.episodes.at(i-1)+1 != e || m.episodeFirst.at(e-1) != i):
			return false
		case e == 0 && i > 0:
			return false
		}
		if e > 0 {
			tokens += uint64(m.lengths.at(i))
		}
		if e > 0 && (i == n-1 || m.episodes.at(i+1) != e) {
			if m.episodeTokens.at(e-1) != tokens {
				return false
			}
			m.counts.episodeTokens += int64(tokens)
			tokens = 0
		}
	}
	return n == 0 && m.episodeNames.len() == 0 || n > 0 && m.episodes.at(n-1) == m.episodeNames.len()
}

// checkPostings checks that every list decodes to what it says.
func (m *image) checkPostings() bool {
	n := uint64(m.documents())
	for i := range m.terms.len() {
		documents, next := uint32(0), uint64(0)
		for b := m.postings.at(i); len(b) > 0; documents++ {
			v, width := binary.Uvarint(b)
			next += v >> 1
			if width <= 0 || v>>1 == 0 || v>>1 > n || next > n {
				return false
			}
			b = b[width:]
			if v&1 == 0 {
				continue
			}
			count, width := binary.Uvarint(b)
			if width <= 0 || count < 2 || count > math.MaxUint32 {
				return false
			}
			b = b[width:]
		}
		if documents == 0 || documents != m.termDocuments.at(i) {
			return false
		}
	}
	return true
}

// decoder reads a section. After the first thing that does not fit, failed is
// set and everything reads as zero.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n > len(d.b) {
		d.failed = true
		return nil
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.failed {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many things of at least size bytes follow: no more than what
// is left can hold.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.failed = true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.failed = true
		return ""
	}
	return string(d.take(int(n)))
}
