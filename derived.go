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

// derivedOf returns the derived vector of the document, if it has one.
func derivedOf(m *image, x *recent, d uint32) (derivedRow, bool) {
	if r, found := x.derived.rows.Get(derivedRow{document: d}); found {
		return r, true
	}
	if d >= m.documents() {
		return derivedRow{}, false
	}
	i, found := m.derived.find(d)
	if !found {
		return derivedRow{}, false
	}
	return derivedRow{document: d, size: m.derived.sizes.at(i), seq: m.derived.seqs.at(i), place: m.derived.places.at(i)}, true
}

func (r *derivedRow) locator() locator { return locatorOf(r.place, r.size) }

// derivedOf returns the derived vector of the document, if it has one.
func (v *view) derivedOf(d uint32) (derivedRow, bool) { return derivedOf(v.image, &v.recent, d) }

// embedded reports whether the document has a vector, its own or a derived one.
func (v *view) embedded(d uint32) bool {
	return v.flagsOf(d)&documentEmbedded != 0 || v.recent.derived.rows.Has(derivedRow{document: d})
}

// embeddedFlags returns the document's flags as an image has them.
func (v *view) embeddedFlags(d uint32) uint8 {
	if v.embedded(d) {
		return v.flagsOf(d) | documentEmbedded
	}
	return v.flagsOf(d)
}

// unembedded is how many of the living memories have no vector.
func (v *view) unembedded() int64 { return v.live - v.vectors }

// setEmbedder begins the vectors of an embedder.
func (s *store) setEmbedder(op *operation) {
	if op.generation != s.generation+1 || s.dimension != 0 {
		return // vectors of the caller's came before it
	}
	s.generation, s.embedder, s.dimension = op.generation, op.embedder, op.dimension
}

// embed gives the memory its vector, unless the version that it was made of has
// been replaced or forgotten since, or has one.
func (s *store) embed(op *operation) {
	use := s.use(op.record.segment)
	v := view{seq: s.seq, image: s.image, recent: s.recent}
	d, found := v.lookup(op.memory.ID)
	if !found || v.seqOf(d) != op.version || op.generation != s.generation ||
		len(op.memory.Embedding) != s.dimension || v.embedded(d) {
		use.dead += int64(op.record.length)
		return
	}
	codes := op.codes
	if codes == nil {
		codes = s.rotations.encode(op.memory.Embedding)
	}
	s.recent.derived.add(derivedRow{
		document: d, size: uint32(op.record.length), seq: op.seq, place: op.record.place(),
	}, codes, 0)
	use.live += int64(op.record.length)
	s.vectors++
}

// dropVector counts the vector of a document that dies.
func (s *store) dropVector(d uint32) {
	v := view{seq: s.seq, image: s.image, recent: s.recent}
	if !v.embedded(d) {
		return
	}
	s.vectors--
	if r, found := v.derivedOf(d); found {
		use := s.use(r.place >> 32)
		use.live -= int64(r.size)
		use.dead += int64(r.size)
	}
}

// carryDerived keeps the derived vectors that came after the image was made:
// their documents have other numbers beside it.
func (s *store) carryDerived(old *image, recent *recent) {
	recent.derived.rows.Ascend(func(r derivedRow) bool {
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
		v := view{seq: s.seq, image: s.image, recent: s.recent}
		if d, found := v.lookup(id); found && v.seqOf(d) == seq {
			codes, row := &recent.derived.codes.codes, int(r.row)
			r.document = d
			s.recent.derived.add(r, codes, row)
		}
		return true
	})
}

// appendDerived writes whose vectors the space has, and where the records of
// those stand that were derived.
func (b *imageBuilder) appendDerived(file []byte) []byte {
	v := b.view
	file = appendCounted(appendU64(file, v.generation), v.embedder)
	var rows []derivedRow
	for i, d := range b.order {
		r, found := v.derivedOf(d)
		if !found {
			continue
		}
		if loc, moved := b.moved[movedRecord{d, true}]; moved {
			r.place = loc.place()
		}
		r.document = uint32(i)
		rows = append(rows, r)
	}
	file = appendU32(file, uint32(len(rows)))
	for _, r := range rows {
		file = appendU32(file, r.document)
	}
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
func (c *checkpoint) decodeDerived(d *sectionReader) bool {
	c.generation = d.u64()
	c.embedder = d.text()
	n := d.u32()
	x := &c.image.derived
	x.documents, x.seqs, x.places, x.sizes = d.column32(n), d.column64(n), d.column64(n), d.column32(n)
	if !d.end() || c.generation == 0 || validateEmbedderID(c.embedder) != nil || c.dimension == 0 {
		return false
	}
	for i := range n {
		at := x.documents.at(i)
		if at >= c.image.documents() || i > 0 && at <= x.documents.at(i-1) ||
			c.image.flags[at]&documentEmbedded == 0 || x.seqs.at(i) > c.image.seq || x.sizes.at(i) > maxFrameBytes {
			return false
		}
	}
	return true
}

// movedRecord names a record that a checkpoint has rewritten: that of a
// document, or that of its derived vector.
type movedRecord struct {
	document uint32
	vector   bool
}

// recordOf returns where the record stands, and the seq that it has.
func (v *view) recordOf(m movedRecord) (locator, uint64) {
	if !m.vector {
		return v.locator(m.document), v.seqOf(m.document)
	}
	r, _ := v.derivedOf(m.document)
	return r.locator(), r.seq
}

// records calls yield for each record that the living documents need.
func (v *view) records(yield func(m movedRecord)) {
	for d := range v.documents() {
		if !v.visible(d) {
			continue
		}
		yield(movedRecord{document: d})
		if _, found := v.derivedOf(d); found {
			yield(movedRecord{document: d, vector: true})
		}
	}
}

// derivedVector reads and verifies the derived vector of d, nil if it has none.
func (r *reader) derivedVector(d uint32) ([]float32, error) {
	row, found := r.view.derivedOf(d)
	if !found {
		return nil, nil
	}
	loc := row.locator()
	record, err := r.awake.log.read(loc)
	if err == nil {
		var op operation
		op, err = decodeOperation(record, r.awake.identity.key, row.seq)
		if err == nil && op.kind == opEmbed && op.version == r.view.seqOf(d) && len(op.memory.Embedding) == r.view.dimension {
			return op.memory.Embedding, nil
		}
	}
	return nil, r.awake.unreadable(loc, err)
}

// appendEmbedder adds to the digest whose vectors the space has.
func (x *stateDigest) appendEmbedder(b []byte) []byte {
	if x.view.generation == 0 {
		return b
	}
	return appendCounted(binary.AppendUvarint(b, x.view.generation), x.view.embedder)
}

// liveDerived returns which rows of the derived vectors live and satisfy the filter.
func (q *recalling) liveDerived() []uint64 {
	x := &q.view.recent.derived
	return liveRows(&q.vector.derived, len(x.codes.documents), func(row int) bool {
		d := x.codes.documents[row]
		return q.view.visible(d) && q.matcher.matches(q.view, d)
	})
}

// missingVectors returns up to n memories without a vector that skip does not
// hold, the newest of the recent ones first.
func (v *view) missingVectors(n int, skip map[uint64]bool) []uint32 {
	var list []uint32
	left := v.unembedded()
	for d := v.documents(); d > 0 && left > 0 && len(list) < n; {
		if d--; !v.visible(d) || v.embedded(d) {
			continue
		}
		left--
		if !skip[v.seqOf(d)] {
			list = append(list, d)
		}
	}
	return list
}
