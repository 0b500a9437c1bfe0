package rabitq

import (
	"math"
	"math/bits"
	"slices"

	"github.com/engramdb/engram/internal/simd"
)

// Candidate is a row and the estimated cosine of its angle to the query.
type Candidate struct {
	Row   uint32
	Score float32
}

const (
	// blockRows is how many rows are scanned before they are ranked: what is counted
	// stays in the nearest cache. It is a multiple of 64, the rows in a word of a
	// bitmap.
	blockRows = 1024
	// headRows of a part are asked for while the part before is scanned. The scan asks
	// for the others itself.
	headRows = 32
)

// minusInfinity is the floor while there is room for any row.
var minusInfinity = float32(math.Inf(-1))

// Search finds candidates. Its zero value is ready; it is memory that searches
// use again, and not for concurrent use.
type Search struct {
	counts  [blockRows]uint32
	scores  [blockRows]float32
	reached [blockRows / 64]uint64

	coarse, fine top
	marks        []uint64 // bitmap of rows
	rows, own    []uint32
	products     []int32
}

// Part is some of the rows that are searched together: those of Codes from First to
// End-1, none where the two are equal. Rows whose bit in Live is not set are left out:
// bit i%64 of word i/64 is that of the i-th of them; nil is all.
type Part struct {
	Codes      *Codes
	First, End int
	Live       []uint64
}

// WholePart is all rows of codes.
func WholePart(codes *Codes, live []uint64) Part {
	return Part{Codes: codes, End: codes.Rows(), Live: live}
}

// Rows is how many rows the part has.
func (p *Part) Rows() int { return p.End - p.First }

// All returns the candidates among the rows of the parts, which count on from
// part to part; best first, of equal scores the lowest row first: the limit best
// by their fine codes among the depth best by their binary codes, and at either
// limit also those that score like the last one. They are appended to dst. In
// which order the rows stand, and how they are divided into parts, changes no
// answer but the order of equal scores.
func (s *Search) All(dst []Candidate, parts []Part, q *Query, depth, limit int) []Candidate {
	s.coarse.reset(depth)
	floor, base := minusInfinity, 0
	for i := range parts {
		if i+1 < len(parts) {
			parts[i+1].prefetch(q)
		}
		floor = s.scan(&parts[i], q, base, floor)
		base += parts[i].Rows()
	}
	s.fine.reset(limit)
	s.rankFine(parts, q, s.coarseRows(base))
	return s.best(dst)
}

// Ahead returns how many rows the last search found ahead of the row by their binary
// codes; its depth, if the row is not among those that were ranked.
func (s *Search) Ahead(row uint32) (ahead int) {
	i := slices.IndexFunc(s.coarse.keys, func(key uint64) bool { return keyRow(key) == row })
	if i < 0 {
		return s.coarse.limit
	}
	for _, key := range s.coarse.keys {
		if key > s.coarse.keys[i] {
			ahead++
		}
	}
	return ahead
}

// prefetch asks for the first rows of the part.
func (p *Part) prefetch(q *Query) {
	end, words := p.First+min(p.Rows(), headRows), q.rotation.BinaryWords()
	simd.Prefetch(p.Codes.Binary[p.First*words : end*words])
	simd.Prefetch(p.Codes.Ones[p.First:end])
	simd.Prefetch(p.Codes.BinaryScales[p.First:end])
}

// scan offers the rows of a part, the first of which has the number base.
func (s *Search) scan(part *Part, q *Query, base int, floor float32) float32 {
	mustFit(part.Codes, q)
	rows := part.Rows()
	if part.Live != nil && len(part.Live) < (rows+63)/64 {
		panic("rabitq: the bitmap of live rows is too short")
	}
	words, set, codes := q.rotation.BinaryWords(), q.rotation.set, part.Codes
	for done := 0; done < rows; done += blockRows {
		first, end := part.First+done, part.First+min(done+blockRows, rows)
		count := end - first
		reached := s.reached[:(count+63)/64]
		set.ScanCodes(s.counts[:count], q.planes, codes.Binary[first*words:end*words], words)
		set.Score(s.scores[:count], reached, s.counts[:count], codes.Ones[first:end], codes.BinaryScales[first:end], q.line, floor)
		for i := range reached {
			if part.Live != nil {
				reached[i] &= part.Live[done/64+i]
			}
			floor = s.offer(i*64, uint32(base+done+i*64), reached[i], floor)
		}
	}
	return floor
}

func mustFit(codes *Codes, q *Query) {
	if !codes.fits(q.rotation) {
		panic("rabitq: the codes are not of the query's rotation")
	}
}

// offer gathers the rows of a word of reached, which starts at a score and at the
// row first.
func (s *Search) offer(score int, first uint32, word uint64, floor float32) float32 {
	for ; word != 0; word &= word - 1 {
		j := bits.TrailingZeros64(word)
		floor = s.coarse.offer(s.scores[score+j], first+uint32(j), floor)
	}
	return floor
}

// coarseRows returns the best rows of the scan of count rows, in their order: a
// bitmap sorts many numbers in less time than comparing them.
func (s *Search) coarseRows(count int) []uint32 {
	s.coarse.cut()
	s.marks = slices.Grow(s.marks[:0], (count+63)/64)[:(count+63)/64]
	clear(s.marks)
	for _, key := range s.coarse.keys {
		row := keyRow(key)
		s.marks[row/64] |= 1 << (row % 64)
	}
	s.rows = s.rows[:0]
	for i, word := range s.marks {
		for ; word != 0; word &= word - 1 {
			s.rows = append(s.rows, uint32(i*64+bits.TrailingZeros64(word)))
		}
	}
	return s.rows
}

// rankFine offers the rows, which are in order, by their fine codes: those of parts with
// the same codes at once, so that the next one is asked for in time.
func (s *Search) rankFine(parts []Part, q *Query, rows []uint32) {
	floor, base := minusInfinity, 0
	for len(parts) > 0 {
		codes, numbers := parts[0].Codes, rows
		s.own = s.own[:0] // the numbers in codes
		for ; len(parts) > 0 && parts[0].Codes == codes; parts = parts[1:] {
			first, end := parts[0].First, base+parts[0].Rows()
			for ; len(rows) > 0 && int(rows[0]) < end; rows = rows[1:] {
				s.own = append(s.own, uint32(first)+rows[0]-uint32(base))
			}
			base = end
		}
		floor = s.offerFine(codes, q, s.own, numbers[:len(s.own)], floor)
	}
}

// offerFine offers rows of codes under their numbers among those of all parts.
func (s *Search) offerFine(codes *Codes, q *Query, rows, numbers []uint32, floor float32) float32 {
	s.products = slices.Grow(s.products[:0], len(rows))[:len(rows)]
	q.rotation.set.DotInt4At(s.products, q.bytes, codes.Fine, rows)
	for i, row := range rows {
		score := q.fineScore(s.products[i], codes.FineScales[row])
		if score >= floor {
			floor = s.fine.offer(score, numbers[i], floor)
		}
	}
	return floor
}

func (s *Search) best(dst []Candidate) []Candidate {
	for _, key := range s.fine.sorted() {
		dst = append(dst, Candidate{keyRow(key), keyScore(key)})
	}
	return dst
}
