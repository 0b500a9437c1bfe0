package engram

import (
	"math/bits"

	"github.com/engramdb/engram/internal/rabitq"
)

// rowSource says where rows of a search stand.
type rowSource uint8

const (
	imagedRows rowSource = iota
	recentRows
	derivedRows
)

// rowRange says which rows those of one part of a search are, and whose.
type rowRange struct {
	end    uint32 // behind the last one, among the rows of all parts
	source rowSource
}

// addPart adds rows to what is searched.
func (s *vectorScratch) addPart(part rabitq.Part, source rowSource) {
	end := uint32(part.Rows())
	if n := len(s.ranges); n > 0 {
		end += s.ranges[n-1].end
	}
	s.parts, s.ranges = append(s.parts, part), append(s.ranges, rowRange{end, source})
}

// wholeParts has all rows searched.
func (q *recalling) wholeParts() {
	v, s := q.view, &q.vector
	s.parts, s.ranges = s.parts[:0], s.ranges[:0]
	imaged := &v.image.of(v.generation).vectors
	s.addPart(rabitq.WholePart(&imaged.codes, q.liveImaged(imaged)), imagedRows)
	s.addPart(rabitq.WholePart(&v.recent.vectors.codes, q.liveRecent()), recentRows)
	s.addPart(rabitq.WholePart(&v.recent.derived.codes.codes, q.liveDerived()), derivedRows)
}

// probedParts has the leaves searched that are nearest to the cue, up to the gap that
// the partition says, and on until so many rows are that live and satisfy the filter:
// what it leaves over of a partition may not be near. It returns how many rows that are,
// and whether all leaves are searched. A cue that is like nothing stored is about as far
// from many leaves, so their gaps are small, and most are searched (query-aware pruning,
// as in SPANN: Chen et al. 2021).
func (q *recalling) probedParts(enough int) (rows int, all bool) {
	v, s := q.view, &q.vector
	s.parts, s.ranges = s.parts[:0], s.ranges[:0]
	p, set := v.partition, v.image.of(v.generation)
	s.leafRows = append(s.leafRows[:0], make([]uint32, p.leaves.Leaves())...)
	s.probed = append(s.probed[:0], make([]bool, p.leaves.Leaves())...)
	recent, derived := &v.recent.vectors, &v.recent.derived.codes
	liveRecent, liveDerived := q.liveRecent(), q.liveDerived()
	s.countLeaves(liveRecent, recent.leavesUnder(p))
	s.countLeaves(liveDerived, derived.leavesUnder(p))
	s.imaged = s.imaged[:0]
	var liveImaged []uint64
	byLeaf := set.isBy(p)
	if !byLeaf {
		liveImaged = q.liveImagedRows(&set.vectors, 0, uint32(set.vectors.documents.len()))
		s.countLeaves(liveImaged, set.vectors.leaves.under(p, &set.vectors.codes))
	}
	probed := 0
	for leaf, gap := range p.leaves.Nearest(s.query, float32(p.slack)) {
		if float64(gap) > p.slack && rows >= enough {
			break
		}
		probed++
		s.probed[leaf] = true
		rows += int(s.leafRows[leaf])
		if byLeaf {
			rows += q.addLeaf(&set.vectors, leaf)
		}
	}
	if !byLeaf {
		s.keepProbed(liveImaged, set.vectors.leaves.under(p, &set.vectors.codes))
		s.addPart(rabitq.WholePart(&set.vectors.codes, liveImaged), imagedRows)
	}
	s.keepProbed(liveRecent, recent.leavesUnder(p))
	s.keepProbed(liveDerived, derived.leavesUnder(p))
	s.addPart(rabitq.WholePart(&recent.codes, liveRecent), recentRows)
	s.addPart(rabitq.WholePart(&derived.codes, liveDerived), derivedRows)
	return rows, probed == p.leaves.Leaves()
}

// countLeaves adds the rows whose bits are set to those of their leaves.
func (s *vectorScratch) countLeaves(live []uint64, leaves []uint16) {
	for i, word := range live {
		for ; word != 0; word &= word - 1 {
			s.leafRows[leaves[64*i+bits.TrailingZeros64(word)]]++
		}
	}
}

// keepProbed clears the bits of rows whose leaves are not probed.
func (s *vectorScratch) keepProbed(live []uint64, leaves []uint16) {
	for i, word := range live {
		for ; word != 0; word &= word - 1 {
			if row := 64*i + bits.TrailingZeros64(word); !s.probed[leaves[row]] {
				live[i] &^= 1 << (row % 64)
			}
		}
	}
}

// addLeaf has the rows of the image's leaf searched, and returns how many of them
// live and satisfy the filter.
func (q *recalling) addLeaf(x *imageVectors, leaf uint16) (rows int) {
	from, to := x.rowsOf(leaf)
	part := rabitq.Part{Codes: &x.codes, First: int(from), End: int(to)}
	if rows = int(to - from); q.chooses() {
		part.Live = q.liveImagedRows(x, from, to)
		rows = 0
		for _, word := range part.Live {
			rows += bits.OnesCount64(word)
		}
	}
	if rows > 0 {
		q.vector.addPart(part, imagedRows)
	}
	return rows
}
