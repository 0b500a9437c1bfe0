package engram

import (
	"encoding/binary"

	"github.com/google/btree"

	"github.com/engramdb/engram/internal/rabitq"
)

// Vectors that the registry's Embedder made are derived from contents. Each has
// a record of its own in the log, because the memory was durable before the
// embedder answered; a checkpoint keeps where that record stands. Their codes
// are searched beside those of embeddings that callers gave.

// derived are the derived vectors that came after the image was made. Rows are
// added under readers: a view's codes are shorter than or equal to the store's,
// and its tree is a clone.
type derived struct {
	rows  *btree.BTreeG[derivedRow] // by document
	codes vectors                   // their documents are those of the view, in order of arrival
}

// derivedRow says where the vector of a document is: its record in the log, and
// its codes.
type derivedRow struct {
	document uint32 // of the view
	row      uint32
	size     uint32 // of the record
	seq      uint64 // of the operation
	place    uint64 // of the record
}

func newDerived() derived {
	return derived{rows: btree.NewG(treeDegree, func(a, b derivedRow) bool { return a.document < b.document })}
}

func (x *derived) clone() derived { return derived{rows: x.rows.Clone(), codes: x.codes} }

// add gives the document its vector.
func (x *derived) add(r derivedRow, codes *rabitq.Codes, row int) {
	r.row = uint32(len(x.codes.documents))
	x.codes.add(r.document, codes, row)
	x.rows.ReplaceOrInsert(r)
}

// imageDerived says where the records of the derived vectors of a checkpoint
// stand. Their codes are rows of its vectors, like all others.
type imageDerived struct {
	documents column32 // ascending
	seqs      column64
	places    column64
	sizes     column32
}

func (x *imageDerived) find(document uint32) (uint32, bool) {
	from, to := uint32(0), uint32(x.documents.len())
	for from < to {
		if middle := (from + to) / 2; x.documents.at(middle) < document {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from, from < uint32(x.documents.len()) && x.documents.at(from) == document
}

func (x *imageDerived) row(i uint32) derivedRow {
	return derivedRow{document: x.documents.at(i), size: x.sizes.at(i), seq: x.seqs.at(i), place: x.places.at(i)}
}

// vectorSet are the vectors of one generation in an image: the codes of all, and
// where the records of the derived ones stand.
type vectorSet struct {
	generation uint64
	embedder   string
	dimension  int
	partition  *partition // of the present generation; nil: none was made
	vectors    imageVectors
	derived    imageDerived
}

// of returns the image's vectors of the generation, which are none where it came
// after the image.
func (m *image) of(generation uint64) *vectorSet {
	switch generation {
	case m.present.generation:
		return &m.present
	case m.next.generation:
		return &m.next
	}
	return &m.absent
}

// vectorsOf returns the derived vector that the document has among those of a
// generation, which came after the image or are in it.
func (v *view) vectorsOf(x *derived, generation uint64, d uint32) (derivedRow, bool) {
	if r, found := x.rows.Get(derivedRow{document: d}); found {
		return r, true
	}
	if !v.imaged(d) {
		return derivedRow{}, false
	}
	set := &v.image.of(generation).derived
	i, found := set.find(d)
	if !found {
		return derivedRow{}, false
	}
	return set.row(i), true
}

func (r *derivedRow) locator() locator { return locatorOf(r.place, r.size) }

// derivedOf returns the derived vector of the document, if it has one.
func (v *view) derivedOf(d uint32) (derivedRow, bool) {
	return v.vectorsOf(&v.recent.derived, v.generation, d)
}

// embedded reports whether the document, which lives, has a vector: its own or a
// derived one.
func (v *view) embedded(d uint32) bool {
	if !v.imaged(d) || v.image.present.generation == v.generation {
		return v.flagsOf(d)&documentEmbedded != 0 || v.recent.derived.rows.Has(derivedRow{document: d})
	}
	_, found := v.derivedOf(d) // those that the image's flags mean are of another generation
	return found
}

// isGiven reports whether the document, which lives, has an embedding that its caller
// gave.
func (v *view) isGiven(d uint32) bool {
	_, derived := v.derivedOf(d)
	return !derived && v.embedded(d)
}

// embeddedFlags returns the document's flags as an image has them.
func (v *view) embeddedFlags(d uint32) uint8 {
	if v.embedded(d) {
		return v.flagsOf(d) | documentEmbedded
	}
	return v.flagsOf(d) &^ documentEmbedded
}

// unembedded is how many of the living memories have no vector.
func (v *view) unembedded() int64 { return v.live - v.vectors }

// embed gives the memory its vector, unless the version that it was made of has
// been replaced or forgotten since, or has one.
func (s *store) embed(op *operation) {
	use, v := s.use(op.record.segment), s.now()
	d, found := v.lookup(op.memory.ID)
	var x *derived
	if found && v.seqOf(d) == op.version {
		x = s.lacking(op, &v, d)
	}
	if x == nil {
		use.dead += int64(op.record.length)
		return
	}
	codes := op.codes
	if codes == nil {
		codes = s.rotations.encode(op.memory.Embedding)
	}
	x.add(derivedRow{document: d, size: uint32(op.record.length), seq: op.seq, place: op.record.place()}, codes, 0)
	use.live += int64(op.record.length)
	if x == &s.recent.next {
		s.next.vectors++
		return
	}
	s.vectors++
	s.derived++
}

// lacking returns the vectors that the operation's belongs to, if d has none there.
func (s *store) lacking(op *operation, v *view, d uint32) *derived {
	n := len(op.memory.Embedding)
	switch op.generation {
	case 0:
	case s.generation:
		if n == s.dimension && !v.embedded(d) {
			return &s.recent.derived
		}
	case s.next.generation:
		if _, has := v.nextOf(d); n == s.next.dimension && !has {
			return &s.recent.next
		}
	}
	return nil
}

// dropVector counts the vectors of a document that dies.
func (s *store) dropVector(d uint32) {
	v := s.now()
	if v.embedded(d) {
		s.vectors--
	}
	if r, found := v.derivedOf(d); found {
		s.derived--
		s.drop(&r)
	}
	if r, found := v.nextOf(d); found {
		s.next.vectors--
		s.drop(&r)
	}
}

// drop says that the vector's record is not needed any more.
func (s *store) drop(r *derivedRow) {
	use := s.use(r.place >> 32)
	use.live -= int64(r.size)
	use.dead += int64(r.size)
}

// carryDerived keeps the derived vectors that came after the image was made:
// their documents have other numbers beside it.
func (s *store) carryDerived(to, from *derived, old *image, recent *recent) {
	v := s.now()
	from.rows.Ascend(func(r derivedRow) bool {
		if r.seq <= s.image.seq {
			return true // the image has it
		}
		var id string
		var seq uint64
		if n := old.documents(); r.document < n {
			id, seq = string(old.ids.at(r.document)), old.seqs.at(r.document)
		} else {
			d := recent.documents[r.document-n]
			id, seq = d.id, d.seq
		}
		if d, found := v.lookup(id); found && v.seqOf(d) == seq {
			codes, row := &from.codes.codes, int(r.row)
			r.document = d
			to.add(r, codes, row)
		}
		return true
	})
}

// rows returns where the records of derived vectors stand, by the new image's
// documents, in their order.
func (b *imageBuilder) rows(kind recordKind, of func(d uint32) (derivedRow, bool)) []derivedRow {
	var rows []derivedRow
	for i, d := range b.order {
		r, found := of(d)
		if !found {
			continue
		}
		if loc, moved := b.moved[movedRecord{d, kind}]; moved {
			r.place = loc.place()
		}
		r.document = uint32(i)
		rows = append(rows, r)
	}
	return rows
}

// appendDerived writes whose vectors the space has, and where the records of
// those stand that were derived.
func (b *imageBuilder) appendDerived(file []byte) []byte {
	file = appendCounted(appendU64(file, b.view.generation), b.view.embedder)
	rows := b.rows(recordVector, b.view.derivedOf)
	file = appendU32(file, uint32(len(rows)))
	for _, r := range rows {
		file = appendU32(file, r.document)
	}
	return appendPlaces(file, rows)
}

func appendPlaces(file []byte, rows []derivedRow) []byte {
	for _, r := range rows {
		file = appendU64(file, r.seq)
	}
	for _, r := range rows {
		file = appendU64(file, r.place)
	}
	for _, r := range rows {
		file = appendU32(file, r.size)
	}
	return file
}

// decodeDerived takes what appendDerived wrote. Vectors are decoded before it.
func (m *image) decodeDerived(d *sectionReader) bool {
	set := &m.present
	set.generation, set.embedder = d.u64(), d.text()
	n := d.u32()
	set.derived.documents = d.column32(n)
	if !set.decodePlaces(d, n) || !d.end() || !set.valid(m) {
		return false
	}
	for i := range n {
		if m.flags[set.derived.documents.at(i)]&documentEmbedded == 0 {
			return false
		}
	}
	m.counts.derived = int64(n)
	return true
}

func (set *vectorSet) decodePlaces(d *sectionReader, n uint32) bool {
	x := &set.derived
	x.seqs, x.places, x.sizes = d.column64(n), d.column64(n), d.column32(n)
	return !d.failed
}

// valid reports whether the set is an embedder's, and its rows are of documents
// of the image.
func (set *vectorSet) valid(m *image) bool {
	if set.generation == 0 || validateEmbedderID(set.embedder) != nil || set.dimension == 0 {
		return false
	}
	x := &set.derived
	for i := range uint32(x.documents.len()) {
		at := x.documents.at(i)
		if at >= m.documents() || i > 0 && at <= x.documents.at(i-1) || x.seqs.at(i) > m.seq || x.sizes.at(i) > maxFrameBytes {
			return false
		}
	}
	return true
}

// recordKind says which of a document's records is meant.
type recordKind uint8

const (
	recordMemory recordKind = iota
	recordVector            // its derived vector
	recordNext              // and that of the next generation
)

// movedRecord names a record that a checkpoint has rewritten.
type movedRecord struct {
	document uint32
	kind     recordKind
}

// recordOf returns where the record stands, and the seq that it has.
func (v *view) recordOf(m movedRecord) (locator, uint64) {
	var r derivedRow
	switch m.kind {
	case recordMemory:
		return v.locator(m.document), v.seqOf(m.document)
	case recordVector:
		r, _ = v.derivedOf(m.document)
	case recordNext:
		r, _ = v.nextOf(m.document)
	}
	return r.locator(), r.seq
}

// records calls yield for each record that the document, which lives, needs.
func (v *view) records(d uint32, yield func(m movedRecord)) {
	yield(movedRecord{document: d})
	if _, found := v.derivedOf(d); found {
		yield(movedRecord{d, recordVector})
	}
	if _, found := v.nextOf(d); found {
		yield(movedRecord{d, recordNext})
	}
}

// derivedVector reads and verifies the derived vector of d, nil if it has none.
func (r *reader) derivedVector(d uint32) ([]float32, error) {
	row, found := r.view.derivedOf(d)
	if !found {
		return nil, nil
	}
	return r.readVector(d, &row, r.view.dimension)
}

// readVector reads and verifies a derived vector of d.
func (r *reader) readVector(d uint32, row *derivedRow, dimension int) ([]float32, error) {
	loc := row.locator()
	record, err := r.awake.log.read(loc)
	if err == nil {
		var op operation
		op, err = decodeOperation(record, r.awake.identity.key, row.seq)
		if err == nil && op.kind == opEmbed && op.version == r.view.seqOf(d) && len(op.memory.Embedding) == dimension {
			return op.memory.Embedding, nil
		}
	}
	return nil, r.awake.unreadable(loc, err)
}

// appendVectorState adds to the digest whose vectors the space has, and is to have.
func (x *stateDigest) appendVectorState(b []byte) []byte {
	if x.view.generation > 0 {
		b = appendCounted(binary.AppendUvarint(b, x.view.generation), x.view.embedder)
	}
	if next := &x.view.next; next.generation > 0 {
		b = binary.AppendUvarint(b, next.generation)
		b = binary.AppendUvarint(appendCounted(b, next.embedder), uint64(next.dimension))
	}
	if p := x.view.partition; p != nil {
		b = appendPartition(appendU64(b, p.number), p)
	}
	return b
}

// liveDerived returns which rows of the derived vectors live and satisfy the filter.
func (q *recalling) liveDerived() []uint64 {
	x := &q.view.recent.derived
	return liveRows(&q.vector.derived, len(x.codes.documents), func(row int) bool {
		d := x.codes.documents[row]
		return q.view.visible(d) && q.matcher.matches(q.view, d)
	})
}

// embeddedRange are the documents from..to-1 beside an image that are known to lack no
// vector of a generation but what the embedder has refused: to look at them again for
// every few that get one would take the square of their number.
type embeddedRange struct {
	imageSeq   uint64 // which of the space's images
	generation uint64
	from, to   uint32
}

// known returns the range, which is empty where the view's documents have other
// numbers, or are to have other vectors.
func (v *view) known(r embeddedRange, generation uint64) embeddedRange {
	if r.imageSeq != v.image.seq || r.generation != generation || r.to > v.documents() {
		return embeddedRange{}
	}
	return r
}

// missingVectors returns up to n memories without a vector, of the next generation
// or the present one, that neither skip nor embedded holds, the newest of the recent
// ones first. Of the next generation those need none that have an embedding of their
// caller's: while they are there, it does not come.
func (v *view) missingVectors(next bool, n int, skip map[uint64]bool, embedded embeddedRange) []uint32 {
	var list []uint32
	has, left := v.embedded, v.unembedded()
	if next {
		left = v.unembeddedNext()
		has = func(d uint32) bool {
			_, found := v.nextOf(d)
			return found || v.isGiven(d)
		}
	}
	for d := v.documents(); d > 0 && left > 0 && len(list) < n; {
		if d == embedded.to && embedded.from < d {
			d = embedded.from
			continue
		}
		if d--; !v.visible(d) || has(d) {
			continue
		}
		left--
		if !skip[v.seqOf(d)] {
			list = append(list, d)
		}
	}
	if len(list) == 0 && embedded.to > 0 {
		return v.missingVectors(next, n, skip, embeddedRange{}) // a space that has woken may number others so
	}
	return list
}
