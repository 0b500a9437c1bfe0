package engram

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

// Recall by embedding. Every embedding has a code of one bit and one of four
// bits for each dimension in memory; the floats stay in the log. A search scans
// the first, ranks the best rows by the second, and compares the few that are
// left by their floats, exactly. There is no index to build: storing costs
// microseconds, forgetting a bit.
const (
	// rotationSeed is part of the format: codes in a checkpoint depend on it. It
	// is one for all spaces, so that equal spaces answer alike; no data is in it.
	rotationSeed = 0x656e6772616d

	// scanDepth rows of the scan are ranked by fine codes, more where there are more
	// than scanRows vectors: see scanDepthOf. Of those at most this many times as many
	// as wanted, or exactReads if that is more, are compared exactly.
	scanDepth  = 800
	scanRows   = 1 << 16
	readFactor = 3
	exactReads = 32
	// They are compared in their order, so many at a time once as many are known as
	// are wanted, until the next would have to be this many deviations of its estimate
	// better than that to be one of the best. If no more than exactReads have a
	// vector, all are compared.
	comparedTogether = 8
	doubt            = 3

	// At most probedDepth times as deep it is where a partition leaves fewer rows to
	// scan: of some data all of them are near, so binary codes mistake more of them.
	// The partition says how deep.
	probedDepth = 2
)

// vectors are the codes of some documents' embeddings, by row.
type vectors struct {
	codes     rabitq.Codes
	documents []uint32    // their ordinals, ascending
	leaves    *leafColumn // nil: there are no rows
}

// rotations has the rotation of each dimension that the space has vectors of.
type rotations struct {
	made sync.Map // dimension -> *rabitq.Rotation
}

func (r *rotations) of(dimension int) *rabitq.Rotation {
	known, found := r.made.Load(dimension)
	if !found {
		known, _ = r.made.LoadOrStore(dimension, rabitq.NewRotation(dimension, rotationSeed))
	}
	return known.(*rabitq.Rotation)
}

// encode returns the codes of an embedding, as one row.
func (r *rotations) encode(v []float32) *rabitq.Codes {
	codes := new(rabitq.Codes)
	rabitq.NewEncoder(r.of(len(v))).Append(codes, v)
	return codes
}

// add appends a row of other codes.
func (x *vectors) add(document uint32, codes *rabitq.Codes, row int) {
	words, bytes := len(codes.Binary)/codes.Rows(), len(codes.Fine)/codes.Rows()
	if x.leaves == nil {
		x.leaves = new(leafColumn)
	}
	x.documents = append(x.documents, document)
	x.codes.Binary = append(x.codes.Binary, codes.Binary[row*words:][:words]...)
	x.codes.Fine = append(x.codes.Fine, codes.Fine[row*bytes:][:bytes]...)
	x.codes.Ones = append(x.codes.Ones, codes.Ones[row])
	x.codes.BinaryScales = append(x.codes.BinaryScales, codes.BinaryScales[row])
	x.codes.FineScales = append(x.codes.FineScales, codes.FineScales[row])
}

// row returns where the document's codes are; it has an embedding.
func (x *vectors) row(document uint32) int {
	row, _ := slices.BinarySearch(x.documents, document)
	return row
}

// imageVectors are the codes in a checkpoint, read where they lie.
type imageVectors struct {
	codes     rabitq.Codes
	documents column32
	ends      column32   // of each leaf, behind its last row; empty: rows do not stand by leaves
	rowOf     []uint32   // 1 + row, by document, where they do
	leaves    leafColumn // where they do not
}

func (x *imageVectors) row(document uint32) int {
	if x.rowOf != nil {
		return int(x.rowOf[document]) - 1
	}
	from, to := uint32(0), uint32(x.documents.len())
	if to > document && x.documents.at(document) == document {
		return int(document) // all have embeddings
	}
	for from < to {
		middle := (from + to) / 2
		if x.documents.at(middle) < document {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return int(from)
}

// decodeVectors takes the codes of the present generation.
func (m *image) decodeVectors(d *sectionReader, dimension int) bool {
	m.present.dimension = dimension
	if dimension == 0 {
		return d.end()
	}
	n := d.u32()
	d.u32()
	return m.present.vectors.decode(d, n, dimension) && d.end() && m.checkVectors()
}

// decode takes the columns of n rows, and checks that all numbers are such as
// codes have.
func (x *imageVectors) decode(d *sectionReader, n uint32, dimension int) bool {
	r, rows := rabitq.NewRotation(dimension, rotationSeed), uint64(n)
	binary := d.array(rows, uint64(8*r.BinaryWords()))
	fine := d.array(rows, uint64(r.FineBytes()))
	ones, scales, fineScales := d.array(rows, 4), d.array(rows, 4), d.array(rows, 4)
	x.documents = d.column32(n)
	if d.failed {
		return false
	}
	x.codes = rabitq.Codes{
		Binary: simd.Uint64s(binary), Fine: fine,
		Ones: simd.Float32s(ones), BinaryScales: simd.Float32s(scales), FineScales: simd.Float32s(fineScales),
	}
	for _, column := range [][]float32{x.codes.Ones, x.codes.BinaryScales, x.codes.FineScales} {
		for _, f := range column {
			if !(f >= 0 && f <= math.MaxFloat32) {
				return false
			}
		}
	}
	return true
}

// checkVectors checks that the documents that say so have a row each.
func (m *image) checkVectors() bool {
	if m.present.vectors.ends.len() > 0 {
		return m.checkLeaves()
	}
	row, documents := uint32(0), m.present.vectors.documents
	for d := range m.documents() {
		if m.flags[d]&documentEmbedded == 0 {
			continue
		}
		if int(row) >= documents.len() || documents.at(row) != d {
			return false
		}
		row++
	}
	return int(row) == documents.len()
}

// codesOf returns the codes that those of the document's embedding, which it
// has, are a row of.
func (v *view) codesOf(d uint32) (codes *rabitq.Codes, row int) {
	if r, found := v.recent.derived.rows.Get(derivedRow{document: d}); found {
		return &v.recent.derived.codes.codes, int(r.row)
	}
	if v.imaged(d) {
		x := &v.image.of(v.generation).vectors
		return &x.codes, x.row(d)
	}
	return &v.recent.vectors.codes, v.recent.vectors.row(d - v.image.documents())
}

// appendVectors writes the codes of the living documents that have embeddings.
func (b *imageBuilder) appendVectors(file []byte) []byte {
	if b.view.dimension == 0 {
		return file
	}
	var rows []uint32 // documents of the view
	for _, d := range b.order {
		if b.view.embedded(d) {
			rows = append(rows, d)
		}
	}
	if b.view.partition.pays() {
		rows = b.byLeaf(rows)
	}
	var x vectors
	for _, d := range rows {
		codes, row := b.view.codesOf(d)
		x.add(b.ordinals[d]-1, codes, row)
	}
	return x.append(file, 0)
}

// append writes the number of rows, a number that stands behind it (of the next
// generation its dimension, else 0), and the columns.
func (x *vectors) append(file []byte, number uint32) []byte {
	file = appendU32(appendU32(file, uint32(len(x.documents))), number)
	for _, word := range x.codes.Binary {
		file = appendU64(file, word)
	}
	file = append(file, x.codes.Fine...)
	for _, column := range [][]float32{x.codes.Ones, x.codes.BinaryScales, x.codes.FineScales} {
		for _, v := range column {
			file = appendU32(file, math.Float32bits(v))
		}
	}
	for _, d := range x.documents {
		file = appendU32(file, d)
	}
	return file
}

// vectorScratch is what a search computes in.
type vectorScratch struct {
	query   *rabitq.Query
	of      *rabitq.Rotation // that query is made for
	search  rabitq.Search
	found   []rabitq.Candidate
	imaged  []uint64 // bitmaps of rows
	recent  []uint64
	derived []uint64
	nearest []candidateRow
	floats  []float32 // of the memory that is compared

	parts    []rabitq.Part
	ranges   []rowRange // the rows of each part
	leafRows []uint32   // by leaf: those that do not stand by leaves, and may be found
	probed   []bool     // by leaf
}

// candidateRow is a document with its estimated cosine.
type candidateRow struct {
	document uint32
	score    float32
}

// recallEmbedding finds the memories that satisfy the filter and whose
// embeddings are nearest to the cue's, by cosine: at least as many as wanted, if
// there are.
func (q *recalling) recallEmbedding(ctx context.Context, want int) error {
	if len(q.embedding) == 0 || q.view.dimension == 0 {
		return nil
	}
	rows := q.nearestRows(max(readFactor*want, exactReads))
	few := q.view.vectors <= exactReads
	best := make(lowestFirst, 0, want)
	for n := want; len(rows) > 0; n = comparedTogether {
		next := float64(rows[0].score)
		if !few && next+float64(doubt*rabitq.FineDeviation(q.view.dimension, next)) < best.floor() {
			break
		}
		some := rows[:min(n, len(rows))]
		for _, row := range some {
			q.wantVector(q.of(row.document))
		}
		if err := q.hold(); err != nil {
			return err
		}
		for _, row := range some {
			c := q.of(row.document)
			if err := q.compare(ctx, c); err != nil {
				return err
			}
			best.offer(c.why.Vector)
		}
		rows = rows[len(some):]
	}
	return nil
}

// scanDepthOf is the depth of a scan for so many living vectors. Binary codes mistake
// more rows for near ones where there are more, so it grows, with the root: ranking
// by fine codes stays a small part of the scan. Rows do not count, for the dead are
// among them until the next checkpoint, and when that was must not show.
func scanDepthOf(vectors int64) int {
	return max(scanDepth, int(scanDepth*math.Sqrt(float64(vectors)/scanRows)))
}

// deepestOf is the greatest depth of a scan of leaves of so many living vectors.
func deepestOf(vectors int64) int { return probedDepth * scanDepthOf(vectors) }

// nearestRows returns the n nearest by their codes.
func (q *recalling) nearestRows(n int) []candidateRow {
	s, v := &q.vector, q.view
	if r := q.awake.store.rotations.of(v.dimension); s.of != r {
		s.query, s.of = rabitq.NewQuery(r, rabitq.TwoBits), r
	}
	s.query.Set(q.embedding)
	s.nearest = s.nearest[:0]
	if !v.partition.pays() || !q.searchLeaves(n) {
		q.wholeParts()
		s.find(scanDepthOf(v.vectors), n)
	}
	for _, c := range s.found {
		s.nearest = append(s.nearest, candidateRow{q.documentAt(c.Row), c.Score})
	}
	slices.SortFunc(s.nearest, func(a, b candidateRow) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(v.seqOf(b.document), v.seqOf(a.document)))
	})
	return s.nearest[:min(n, len(s.nearest))]
}

// searchLeaves finds the n best rows of the leaves that are near. It reports whether
// that is enough: where few of those rows match, what does may stand anywhere.
func (q *recalling) searchLeaves(n int) bool {
	v, s := q.view, &q.vector
	depth := deepestOf(v.vectors)
	rows, all := q.probedParts(max(depth, 4*n))
	if q.matcher.admitsAll() { // as where the partition's was measured
		depth = v.partition.depthFor(v.vectors, rows, n)
	}
	s.find(depth, n)
	return all || s.matching(n)
}

// find searches the parts.
func (s *vectorScratch) find(depth, n int) {
	s.found = s.search.All(s.found[:0], s.parts, s.query, max(depth, 4*n), n)
}

// matching reports whether n of the rows found are at less than a right angle to the
// cue, by their codes.
func (s *vectorScratch) matching(n int) bool { return len(s.found) >= n && s.found[n-1].Score > 0 }

// documentAt returns the document of a row, by its number among those of all parts.
func (q *recalling) documentAt(row uint32) uint32 {
	v, s := q.view, &q.vector
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].end > row })
	if i > 0 {
		row -= s.ranges[i-1].end
	}
	row += uint32(s.parts[i].First)
	switch s.ranges[i].source {
	case imagedRows:
		return v.image.of(v.generation).vectors.documents.at(row)
	case recentRows:
		return v.image.documents() + v.recent.vectors.documents[row]
	default:
		return v.recent.derived.codes.documents[row]
	}
}

// liveImaged returns which rows of the image live and satisfy the filter, nil
// for all.
func (q *recalling) liveImaged(x *imageVectors) []uint64 {
	if !q.chooses() {
		return nil
	}
	q.vector.imaged = q.vector.imaged[:0]
	return q.liveImagedRows(x, 0, uint32(x.documents.len()))
}

// chooses reports whether some of the image's documents may be dead, or not satisfy
// the filter.
func (q *recalling) chooses() bool {
	return !q.matcher.admitsAll() || q.view.image.deaths.any()
}

// liveImagedRows returns which of the rows from..to-1 live and satisfy the filter,
// from the first bit on.
func (q *recalling) liveImagedRows(x *imageVectors, from, to uint32) []uint64 {
	m, bits := q.view.image, &q.vector.imaged
	begin := len(*bits)
	*bits = appendLive(*bits, int(to-from), func(row int) bool {
		d := x.documents.at(from + uint32(row))
		return m.visibleAt(d, q.view.seq) && q.matcher.matchesImaged(m, d)
	})
	return (*bits)[begin:]
}

func (q *recalling) liveRecent() []uint64 {
	x := &q.view.recent
	return liveRows(&q.vector.recent, len(x.vectors.documents), func(row int) bool {
		d := x.documents[x.vectors.documents[row]]
		return d.visibleAt(q.view.seq) && q.matcher.matchesRecent(d)
	})
}

func liveRows(bits *[]uint64, rows int, lives func(row int) bool) []uint64 {
	*bits = appendLive((*bits)[:0], rows, lives)
	return *bits
}

// appendLive appends a bitmap of the rows that live.
func appendLive(bits []uint64, rows int, lives func(row int) bool) []uint64 {
	first := len(bits)
	bits = append(bits, make([]uint64, (rows+63)/64)...)
	for row := range rows {
		if lives(row) {
			bits[first+row/64] |= 1 << (row % 64)
		}
	}
	return bits
}
