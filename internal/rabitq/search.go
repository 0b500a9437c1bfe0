package rabitq

import (
	"math"
	"math/bits"
	"slices"
)

// Candidate is a row and the estimated cosine of its angle to the query.
type Candidate struct {
	Row   uint32
	Score float32
}

// blockRows is how many rows are scanned before they are ranked: what is counted
// stays in the nearest cache. It is a multiple of 64, the rows in a word of a
// bitmap.
const blockRows = 1024

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

// Part is some of the rows that are searched together. Rows whose bit in Live is
// not set are left out: bit i%64 of word i/64 is that of row i; nil is all rows.
type Part struct {
	Codes *Codes
	Live  []uint64
}

// All returns the candidates among the rows of the parts, which count on from
// part to part; best first, of equal scores the lowest row first: the limit best
// by their fine codes among the depth best by their binary codes, and at either
// limit also those that score like the last one. They are appended to dst. In
// which order the rows stand, and how they are divided into parts, changes no
// answer but the order of equal scores.
func (s *Search) All(dst []Candidate, parts []Part, q *Query, depth, limit int) []Candidate {
	s.coarse.reset(depth)
	floor, base := minusInfinity, 0
	for _, part := range parts {
		floor = s.scan(part, q, base, floor)
		base += part.Codes.Rows()
	}
	rows := s.coarseRows(base)
	s.fine.reset(limit)
	floor, base = minusInfinity, 0
	for _, part := range parts {
		end := base + part.Codes.Rows()
		n, _ := slices.BinarySearch(rows, uint32(end))
		floor = s.offerFine(part.Codes, q, rows[:n], uint32(base), floor)
		rows, base = rows[n:], end
	}
	return s.best(dst)
}

// scan offers the rows of a part, the first of which has the number base.
func (s *Search) scan(part Part, q *Query, base int, floor float32) float32 {
	rows := mustFit(part.Codes, q)
	if part.Live != nil && len(part.Live) < (rows+63)/64 {
		panic("rabitq: the bitmap of live rows is too short")
	}
	words, set, codes := q.rotation.BinaryWords(), q.rotation.set, part.Codes
	for first := 0; first < rows; first += blockRows {
		end := min(first+blockRows, rows)
		count := end - first
		reached := s.reached[:(count+63)/64]
		set.ScanCodes(s.counts[:count], q.planes, codes.Binary[first*words:end*words], words)
		set.Score(s.scores[:count], reached, s.counts[:count], codes.Ones[first:end], codes.BinaryScales[first:end], q.line, floor)
		for i := range reached {
			if part.Live != nil {
				reached[i] &= part.Live[first/64+i]
			}
			floor = s.offer(i*64, uint32(base+first+i*64), reached[i], floor)
		}
	}
	return floor
}

func mustFit(codes *Codes, q *Query) (rows int) {
	if !codes.fits(q.rotation) {
		panic("rabitq: the codes are not of the query's rotation")
	}
	return codes.Rows()
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

// offerFine offers the rows, less base those of codes, by their fine codes.
func (s *Search) offerFine(codes *Codes, q *Query, rows []uint32, base uint32, floor float32) float32 {
	own := rows
	if base > 0 {
		s.own = append(s.own[:0], rows...)
		own = s.own
		for i := range own {
			own[i] -= base
		}
	}
	s.products = slices.Grow(s.products[:0], len(own))[:len(own)]
	q.rotation.set.DotInt4At(s.products, q.bytes, codes.Fine, own)
	for i, row := range own {
		score := q.fineScore(s.products[i], codes.FineScales[row])
		if score >= floor {
			floor = s.fine.offer(score, base+row, floor)
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
