package engram

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
)

// spareShare: an array with more room to spare than this share of a checkpoint is not
// kept.
const spareShare = 4

// encode makes the file of a checkpoint of the view, with the places of moved
// records.
func (c *checkpoint) encode(v *view, moved map[movedRecord]locator) ([]byte, error) {
	b := newImageBuilder(v, moved)
	type section struct {
		kind   uint32
		append func([]byte) []byte
	}
	sections := []section{
		{sectionState, c.appendState},
		{sectionSegments, c.appendSegments},
		{sectionEpisodes, b.appendEpisodes},
		{sectionDocuments, b.appendDocuments},
		{sectionTerms, b.appendTerms},
		{sectionRequests, c.appendRequests},
		{sectionVectors, b.appendVectors},
	}
	if v.partition != nil {
		sections = append(sections, section{sectionPartition, b.appendPartition})
	}
	if v.graph.edges > 0 {
		sections = append(sections, section{sectionAssociations, b.appendAssociations})
	}
	if v.generation > 0 {
		sections = append(sections, section{sectionDerived, b.appendDerived})
	}
	if v.next.generation > 0 {
		sections = append(sections, section{sectionNext, b.appendNext})
	}
	file := make([]byte, checkpointHeaderBytes+len(sections)*sectionEntryBytes, b.estimate())
	for i, s := range sections {
		file = append(file, make([]byte, -len(file)&7)...) // aligned, for the vectors
		at := len(file)
		file = s.append(file)
		body := file[at:]
		e := file[checkpointHeaderBytes+i*sectionEntryBytes:][:0]
		e = appendU64(appendU32(appendU32(e, s.kind), 0), uint64(at))
		e = appendU64(e, uint64(len(body)))
		appendU32(appendU32(e, crc32.Checksum(body, castagnoli)), 0)
	}
	h := append(file[:0], checkpointMagic...)
	h = appendU32(appendU32(h, formatVersion), uint32(len(sections)))
	h = appendIdentity(h, c.identity)
	h = appendU64(appendU64(appendU64(h, c.start.seq), c.start.segment), uint64(c.start.offset))
	h = appendU32(h, c.start.sum)
	clear(file[len(h):checkpointHeaderBytes])
	sealBlock(file[:checkpointHeaderBytes])
	if len(file) > maxCheckpointBytes {
		return nil, errTooLarge
	}
	if cap(file)-len(file) > len(file)/spareShare {
		file = slices.Clone(file) // the image keeps the whole array
	}
	return file, nil
}

func (c *checkpoint) appendState(b []byte) []byte {
	b = appendU32(appendU32(appendU32(b, analyzerVersion), uint32(c.dimension)), c.config.Analyzer.number())
	b = appendU64(appendU64(b, uint64(c.config.MaxMemories)), uint64(c.config.MaxBytes))
	b = appendU64(appendU64(b, math.Float64bits(c.config.TextK1)), math.Float64bits(c.config.TextB))
	return appendU32(b, uint32(c.config.AutoAssociate))
}

func (c *checkpoint) appendSegments(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.segments)))
	for _, s := range c.segments {
		b = binary.AppendUvarint(b, s.number)
		b = binary.AppendUvarint(b, uint64(s.kind))
		b = binary.AppendUvarint(b, uint64(s.end))
		b = appendU32(binary.AppendUvarint(b, uint64(s.last.offset)), s.last.sum)
		b = binary.AppendUvarint(b, uint64(s.use.live))
		b = binary.AppendUvarint(b, uint64(s.use.dead))
	}
	return b
}

func (c *checkpoint) appendRequests(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.requests)))
	for _, r := range c.requests {
		b = appendCounted(b, r.id)
		b = binary.AppendUvarint(b, r.seq)
		b = appendU64(appendU64(b, uint64(r.storedAt)), r.hash)
		b = binary.AppendUvarint(b, uint64(r.operations))
		b = binary.AppendUvarint(b, uint64(r.forgotten))
	}
	return b
}

func appendCounted(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// imageBuilder merges the living documents of a view's image with its recent
// ones.
type imageBuilder struct {
	view     *view
	moved    map[movedRecord]locator
	order    []uint32 // documents of the view in the order of the new image
	ordinals []uint32 // 1 + place in the new image, by document of the view; 0: dead
	recent   []uint32 // the living recent documents
	leafEnds []uint32 // of the vectors, where they stand by leaves
}

func newImageBuilder(v *view, moved map[movedRecord]locator) *imageBuilder {
	b := &imageBuilder{view: v, moved: moved, ordinals: make([]uint32, v.documents())}
	var kept []uint32
	for i := range v.image.documents() {
		if v.visible(i) {
			kept = append(kept, i)
		}
	}
	for i := v.image.documents(); i < v.documents(); i++ {
		if v.visible(i) {
			b.recent = append(b.recent, i)
		}
	}
	b.order = mergeDocuments(kept, b.recent, v.compareEpisode)
	for i, d := range b.order {
		b.ordinals[d] = uint32(i) + 1
	}
	return b
}

// mergeDocuments merges a sorted list with one that it sorts.
func mergeDocuments(sorted, more []uint32, compare func(x, y uint32) int) []uint32 {
	more = slices.Clone(more)
	slices.SortFunc(more, compare)
	merged := make([]uint32, 0, len(sorted)+len(more))
	for len(sorted) > 0 && len(more) > 0 {
		if compare(sorted[0], more[0]) < 0 {
			merged, sorted = append(merged, sorted[0]), sorted[1:]
		} else {
			merged, more = append(merged, more[0]), more[1:]
		}
	}
	return append(append(merged, sorted...), more...)
}

// leastCheckpointBytes is no more than a checkpoint of the view is long: what is of
// fixed length for each document, and of each embedding its codes of 4 bits.
func (v *view) leastCheckpointBytes() int64 {
	const document = 3*8 + 6*4 + 2 // numbers, ends of texts, and flags
	return document*v.live + int64(v.dimension)/2*v.vectors
}

// estimate is about as long as the file will be.
func (b *imageBuilder) estimate() int {
	const scales = 16 // of the codes of an embedding
	return 4096 + 160*len(b.order) + (b.view.dimension*5/8+scales)*int(b.view.vectors)
}

func (b *imageBuilder) appendDocuments(file []byte) []byte {
	v := b.view
	var pairs [][]byte
	numbers := make(map[attribute]uint64)
	var ids, attributes [][]byte
	for _, d := range b.order {
		ids = append(ids, v.id(d))
		var list []byte
		for _, a := range v.attributes(d) {
			if _, found := numbers[a]; !found {
				numbers[a] = uint64(len(pairs))
				pairs = append(pairs, a.append(nil))
			}
			list = binary.AppendUvarint(list, numbers[a])
		}
		attributes = append(attributes, list)
	}
	file = appendU32(appendU32(file, uint32(len(b.order))), uint32(len(pairs)))
	file = appendTexts(file, ids)
	for _, column := range []func(d uint32) uint64{v.seqOf, func(d uint32) uint64 { return uint64(v.timeOf(d)) }, b.place} {
		for _, d := range b.order {
			file = appendU64(file, column(d))
		}
	}
	episode, last := uint32(0), uint32(0)
	episodeOf := func(d uint32) uint32 {
		if e := v.episodeOf(d); e != last {
			episode, last = episode+1, e
		}
		return episode
	}
	for _, column := range []func(d uint32) uint32{v.sizeOf, v.lengthOf, episodeOf} {
		for _, d := range b.order {
			file = appendU32(file, column(d))
		}
	}
	for _, d := range b.byTime() {
		file = appendU32(file, b.ordinals[d]-1)
	}
	for _, d := range b.order {
		file = append(file, v.embeddedFlags(d))
	}
	for _, d := range b.order {
		file = append(file, v.questionsOf(d))
	}
	return appendTexts(appendTexts(file, attributes), pairs)
}

func (b *imageBuilder) place(d uint32) uint64 {
	if loc, found := b.moved[movedRecord{document: d}]; found {
		return loc.place()
	}
	return b.view.locator(d).place()
}

// byTime returns the documents in time order.
func (b *imageBuilder) byTime() []uint32 {
	var kept []uint32
	for i := range b.view.image.documents() {
		if d := b.view.image.byTime.at(i); b.ordinals[d] != 0 {
			kept = append(kept, d)
		}
	}
	return mergeDocuments(kept, b.recent, b.view.compareTime)
}

func (b *imageBuilder) appendEpisodes(file []byte) []byte {
	var names []string
	var first []uint32
	var tokens []uint64
	last := uint32(0)
	for i, d := range b.order {
		e := b.view.episodeOf(d)
		if e == 0 {
			continue
		}
		if e != last {
			names, first, tokens = append(names, b.view.episodeName(d)), append(first, uint32(i)), append(tokens, 0)
			last = e
		}
		tokens[len(tokens)-1] += uint64(b.view.lengthOf(d))
	}
	file = appendTexts(appendU32(file, uint32(len(names))), names)
	for _, v := range first {
		file = appendU32(file, v)
	}
	for _, v := range tokens {
		file = appendU64(file, v)
	}
	return file
}

// appendTerms merges the terms of the image with the recent ones, in order.
func (b *imageBuilder) appendTerms(file []byte) []byte {
	m := b.view.image
	recent := b.sortedTerms()
	most := int(m.terms.len()) + len(recent)
	names, lists := textsBuilder{ends: make([]uint32, 0, most)}, textsBuilder{ends: make([]uint32, 0, most)}
	lists.bytes = make([]byte, 0, len(m.postings.bytes)+len(b.view.recent.terms.uses))
	documents := make([]uint32, 0, most)
	var list []posting
	for i := uint32(0); i < m.terms.len() || len(recent) > 0; {
		order := 1 // of the image's next term, compared with the next recent one
		if i < m.terms.len() {
			order = -1
		}
		if len(recent) > 0 && order < 0 {
			order = recent[0].compare(m.terms.at(i))
		}
		list = list[:0]
		name := len(names.bytes)
		if order <= 0 {
			list = b.kept(list, i)
			names.bytes = append(names.bytes, m.terms.at(i)...)
			i++
		}
		if order >= 0 {
			list = b.added(list, recent[0].postings)
			names.bytes = append(names.bytes[:name], recent[0].term...)
			recent = recent[1:]
		}
		if len(list) == 0 {
			names.bytes = names.bytes[:name]
			continue
		}
		lists.bytes = appendPostings(lists.bytes, list)
		names.end()
		lists.end()
		documents = append(documents, uint32(len(list)))
	}
	file = names.append(appendU32(file, uint32(len(documents))))
	for _, n := range documents {
		file = appendU32(file, n)
	}
	return lists.append(file)
}

// sortedTerm is a recent term with how it begins, which mostly tells its order.
type sortedTerm struct {
	*postings
	prefix uint64
}

// sortedTerms returns the recent terms in order.
func (b *imageBuilder) sortedTerms() []sortedTerm {
	list := make([]sortedTerm, 0, len(b.view.recent.terms.list))
	for _, p := range b.view.recent.terms.list {
		var prefix [8]byte
		copy(prefix[:], p.term)
		list = append(list, sortedTerm{p, binary.BigEndian.Uint64(prefix[:])})
	}
	slices.SortFunc(list, func(x, y sortedTerm) int {
		if x.prefix != y.prefix {
			return cmp.Compare(x.prefix, y.prefix)
		}
		return strings.Compare(x.term, y.term)
	})
	return list
}

// compare compares a term of the image with this one.
func (t *sortedTerm) compare(imaged []byte) int { return strings.Compare(string(imaged), t.term) }

// kept appends the image's postings of its i-th term, renumbered.
func (b *imageBuilder) kept(list []posting, i uint32) []posting {
	p := posting{ordinal: math.MaxUint32}
	for bytes := b.view.image.postings.at(i); len(bytes) > 0; {
		p, bytes = nextPosting(bytes, p.ordinal)
		if at := b.ordinals[p.ordinal]; at != 0 {
			list = append(list, posting{at - 1, p.count})
		}
	}
	return list
}

// added appends the recent postings of a term, renumbered, in order.
func (b *imageBuilder) added(list []posting, p *postings) []posting {
	before := len(list)
	for _, p := range p.below(b.view.recentDocuments()) {
		if at := b.ordinals[b.view.image.documents()+p.ordinal]; at != 0 {
			list = append(list, posting{at - 1, p.count})
		}
	}
	byOrdinal := func(x, y posting) int { return int(x.ordinal) - int(y.ordinal) }
	if len(list) > before && !slices.IsSortedFunc(list, byOrdinal) {
		slices.SortFunc(list, byOrdinal)
	}
	return list
}

func appendPostings(b []byte, list []posting) []byte {
	last := uint32(math.MaxUint32)
	for _, p := range list {
		b = appendPosting(b, p.ordinal-last, p.count)
		last = p.ordinal
	}
	return b
}

// appendAssociations writes the edges of each memory that has some, by ordinals:
// equal states have equal bytes.
func (b *imageBuilder) appendAssociations(file []byte) []byte {
	l := b.view.graph.list(func(id string) uint32 {
		d, found := b.view.lookup(id)
		if !found {
			return noDocument // no edge has such an end
		}
		return b.ordinals[d] - 1
	})
	file = binary.AppendUvarint(file, uint64(len(l.kinds)))
	for _, name := range l.kinds {
		file = appendCounted(file, name)
	}
	file = binary.AppendUvarint(file, uint64(len(l.edges)))
	file = binary.AppendUvarint(file, uint64(len(l.from)))
	last := -1
	for i, from := range l.from {
		out := l.edges[l.begin[i]:l.begin[i+1]]
		file = binary.AppendUvarint(file, uint64(int(from)-last))
		file = binary.AppendUvarint(file, uint64(len(out)))
		for _, e := range out {
			file = binary.AppendUvarint(file, uint64(e.to))
			file = binary.AppendUvarint(file, uint64(e.kind))
			file = appendU64(file, math.Float64bits(e.weight))
		}
		last = int(from)
	}
	return file
}
