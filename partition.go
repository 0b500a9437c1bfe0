package engram

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/engramdb/engram/internal/rabitq"
)

// A partition divides the vectors of a large space by direction, so that a recall
// scans those near to its cue. It is state, and one logged operation makes it:
// replay trains nothing. The leaf of a vector is a function of its code and the
// partition alone. It is stored nowhere but as the order of the rows in a checkpoint,
// and a row counts only where its leaf is probed, wherever it stands: an answer does
// not show whether the space has slept, nor when its last checkpoint was made.

// partition divides the vectors of one generation. It is immutable.
type partition struct {
	number  uint64            // seq of the operation that made it: no other has it
	trained int64             // on so many vectors
	slack   float64           // greatest gap to the nearest leaf of one that a recall probes
	scanned int               // vectors that a recall scans on average, or at least if that is more
	depth   int               // of the scan of so many
	leaves  *rabitq.Partition // nil where it does not pay
}

// pays reports whether recalls use the partition, which may be nil.
func (p *partition) pays() bool { return p != nil && p.leaves != nil }

// whole reports whether the parts of what was stored fit each other.
func (p *partition) whole() bool {
	if !p.pays() {
		return p.slack == 0 && p.scanned == 0 && p.depth == 0
	}
	return p.slack >= 0 && p.slack <= maxSlack && p.depth > 0 && p.scanned > 0 &&
		int64(p.depth) <= p.trained && int64(p.scanned) <= p.trained
}

// depthFor is the depth of a scan of so many rows of the leaves, for the n best by their
// codes of so many living vectors. If more of them are scanned than in the training,
// more leaves are about as near to the cue as the nearest, and so are more rows of each:
// codes mistake the more of them.
func (p *partition) depthFor(vectors int64, rows, n int) int {
	growth := float64(vectors) / float64(p.trained)
	wider := max(1, float64(rows)/(float64(p.scanned)*growth))
	depth := float64(p.depth) * wider * wider * math.Sqrt(growth) * float64(n) / exactReads
	return int(min(depth, float64(deepestOf(vectors)))) // what is stored may say anything
}

// partitions reports whether the operation is about the vectors that the space has.
func (x *vectorState) partitions(op *operation) bool {
	return x.dimension > 0 && op.dimension == x.dimension && op.generation == x.generation
}

// appendPartition appends what an operation says of it.
func appendPartition(b []byte, p *partition) []byte {
	b = appendInt64(b, tagTrained, p.trained)
	b = appendInt64(b, tagSlack, int64(math.Float64bits(p.slack)))
	b = appendInt64(b, tagScanned, int64(p.scanned))
	b = appendInt64(b, tagDepth, int64(p.depth))
	if p.pays() {
		leaves := p.leaves.Append(nil)
		b = append(appendTag(b, tagLeaves, len(leaves)), leaves...)
	}
	return b
}

// decodeLeaves decodes the leaves of a partition; the dimension precedes them.
func (op *operation) decodeLeaves(value []byte) error {
	if op.dimension == 0 {
		return errNotOperation
	}
	leaves, ok := rabitq.DecodePartition(op.dimension, value)
	if op.partition.leaves = leaves; !ok {
		return errNotOperation
	}
	return nil
}

// leafColumn has the leaves of rows behind which others are added. They are found
// when they are first asked for: no write waits for that.
type leafColumn struct {
	mu   sync.Mutex        // guards the fields below
	of   *rabitq.Partition // whose leaves they are
	rows []uint16
}

// under returns the leaf of each row.
func (x *leafColumn) under(p *partition, codes *rabitq.Codes) []uint16 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of != p.leaves {
		x.of, x.rows = p.leaves, nil
	}
	done, n := len(x.rows), codes.Rows()
	if done < n {
		x.rows = p.leaves.AppendLeaves(x.rows, codes.Fine[len(codes.Fine)/n*done:])
	}
	return x.rows[:n]
}

// leavesUnder returns the leaf of each row.
func (x *vectors) leavesUnder(p *partition) []uint16 {
	if len(x.documents) == 0 {
		return nil
	}
	return x.leaves.under(p, &x.codes)
}

// isBy reports whether the rows of the image stand by the leaves of the partition,
// which pays.
func (set *vectorSet) isBy(p *partition) bool {
	return set.partition.pays() && set.partition.number == p.number
}

// leafOf returns the leaf of the vector of a document that has one.
func (v *view) leafOf(d uint32) uint16 {
	if r, found := v.recent.derived.rows.Get(derivedRow{document: d}); found {
		return v.recent.derived.codes.leavesUnder(v.partition)[r.row]
	}
	if !v.imaged(d) {
		x := &v.recent.vectors
		return x.leavesUnder(v.partition)[x.row(d-v.image.documents())]
	}
	set := v.image.of(v.generation)
	row := set.vectors.row(d)
	if !set.isBy(v.partition) {
		return set.vectors.leaves.under(v.partition, &set.vectors.codes)[row]
	}
	return uint16(sort.Search(set.vectors.ends.len(), func(leaf int) bool { return int(set.vectors.ends.at(uint32(leaf))) > row }))
}

// rowsOf returns the rows of a leaf, the last one excluded.
func (x *imageVectors) rowsOf(leaf uint16) (from, to uint32) {
	if leaf > 0 {
		from = x.ends.at(uint32(leaf) - 1)
	}
	return from, x.ends.at(uint32(leaf))
}

// byLeaf orders documents that have vectors by their leaves, those of a leaf as they
// stand, and notes where each leaf ends.
func (b *imageBuilder) byLeaf(documents []uint32) []uint32 {
	leaves := make([]uint16, b.view.documents())
	b.leafEnds = make([]uint32, b.view.partition.leaves.Leaves())
	for _, d := range documents {
		leaves[d] = b.view.leafOf(d)
		b.leafEnds[leaves[d]]++
	}
	end := uint32(0)
	for leaf, rows := range b.leafEnds {
		end += rows
		b.leafEnds[leaf] = end
	}
	slices.SortStableFunc(documents, func(x, y uint32) int { return cmp.Compare(leaves[x], leaves[y]) })
	return documents
}

// appendPartition writes the partition, and where the rows of each leaf end, which
// have been written.
func (b *imageBuilder) appendPartition(file []byte) []byte {
	p := b.view.partition
	file = appendU64(appendU64(file, p.number), uint64(p.trained))
	file = appendU64(file, math.Float64bits(p.slack))
	file = appendU32(appendU32(file, uint32(p.scanned)), uint32(p.depth))
	file = appendU32(file, uint32(len(b.leafEnds)))
	if !p.pays() {
		return file
	}
	for _, end := range b.leafEnds {
		file = appendU32(file, end)
	}
	return p.leaves.Append(file)
}

// decodePartition takes what appendPartition wrote. The vectors are decoded after it.
func (m *image) decodePartition(d *sectionReader, dimension int) bool {
	p := &partition{number: d.u64(), trained: int64(d.u64()), slack: math.Float64frombits(d.u64()), scanned: int(d.u32()), depth: int(d.u32())}
	ends := d.column32(d.u32())
	m.present.partition, m.present.vectors.ends = p, ends
	if d.failed || dimension == 0 || p.number > m.seq || p.trained < 0 {
		return false
	}
	if ends.len() == 0 {
		return d.end() && p.whole()
	}
	var ok bool
	p.leaves, ok = rabitq.DecodePartition(dimension, d.b)
	return ok && p.leaves.Leaves() == ends.len() && p.whole()
}

// checkLeaves checks that the documents that say so have a row each, and that those
// of a leaf are in order. It makes the index of the rows by document.
func (m *image) checkLeaves() bool {
	x := &m.present.vectors
	x.rowOf = make([]uint32, m.documents())
	row := uint32(0)
	for leaf := range uint32(x.ends.len()) {
		end := x.ends.at(leaf)
		if end < row || int(end) > x.documents.len() {
			return false
		}
		for first := row; row < end; row++ {
			d := x.documents.at(row)
			if d >= m.documents() || m.flags[d]&documentEmbedded == 0 || x.rowOf[d] != 0 ||
				row > first && d < x.documents.at(row-1) {
				return false
			}
			x.rowOf[d] = row + 1
		}
	}
	return int(row) == x.documents.len() && int64(row) == m.counts.vectors
}
