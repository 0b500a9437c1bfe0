package rabitq

import (
	"math"

	"github.com/engramdb/engram/internal/simd"
)

// Precision is the number of bits to which a query's elements are rounded for
// the scan of binary codes.
type Precision int

const (
	// TwoBits makes a scan twice as fast, and wants twice as deep a ranking by
	// fine codes for the same recall; as that is cheap, it is the better choice.
	TwoBits Precision = 2
	// FourBits is what RaBitQ proposes: hardly less exact than floats.
	FourBits Precision = 4
)

// step is that of the best quantiser, as fineStep is.
func (p Precision) step() float64 {
	switch p {
	case TwoBits:
		return 0.9957
	case FourBits:
		return fineStep
	}
	panic("rabitq: a query is rounded to two or to four bits")
}

func (p Precision) levels() uint8 { return 1 << p }

// Query is a vector made ready for searches: rounded to small integers, and
// spread over bit planes. Any number of searches may use it, but not while it is
// set.
type Query struct {
	rotation  *Rotation
	precision Precision
	rotated   []float32

	planes []uint64  // of the rounded elements, for the scan
	line   simd.Line // from count and ones of a row to its cosine, but for its scale

	bytes     []int8  // the elements again, for the fine codes
	byteSum   int32   // of bytes
	byteScale float32 // half the value of a byte
}

// NewQuery returns a query under a rotation that is yet to be set.
func NewQuery(rotation *Rotation, precision Precision) *Query {
	_ = precision.step() // panics if there is none
	return &Query{
		rotation:  rotation,
		precision: precision,
		rotated:   make([]float32, rotation.padded),
		planes:    make([]uint64, int(precision)*rotation.BinaryWords()),
		bytes:     make([]int8, rotation.padded),
	}
}

// Set makes v what is searched for. Only the direction of v matters, not its
// length; its elements are finite. To a vector of zeros all rows are equally near,
// at 0.
func (q *Query) Set(v []float32) {
	q.rotation.rotate(q.rotated, v)
	q.setRotated()
}

// SetCode makes the sum of the vectors of fine codes what is searched for.
func (q *Query) SetCode(fine ...[]uint8) {
	clear(q.rotated)
	for _, code := range fine {
		for i, b := range code {
			q.rotated[2*i] += float32(b&15) - 7.5
			q.rotated[2*i+1] += float32(b>>4) - 7.5
		}
	}
	q.setRotated()
}

func (q *Query) setRotated() {
	x := q.rotated
	norm := math.Sqrt(float64(q.rotation.set.Dot(x, x)))
	q.setPlanes(x, norm)
	q.setBytes(x, norm)
}

// setPlanes rounds the elements to w = u - (levels-1)/2 steps. With s for the
// signs +-1 of a row, b for its bits, and q for the query of length 1:
//
//	<s, w> = 2*<b, w> - sum(w) = 2*<b, u> - (levels-1)*ones - sum(w)
//
// <b, u> is what the scan counts. <s, q> is estimated as <s, w> / <w, q>, as
// cosines are estimated from codes.
func (q *Query) setPlanes(x []float32, norm float64) {
	clear(q.planes)
	q.line = simd.Line{}
	if norm == 0 {
		return
	}
	words, levels := q.rotation.BinaryWords(), q.precision.levels()
	perStep := float32(math.Sqrt(float64(len(x))) / (norm * q.precision.step()))
	middle := float64(float64(levels-1) / 2)
	var sum, product float64
	for i, f := range x {
		u := level(f, perStep, levels)
		for k := range int(q.precision) {
			q.planes[k*words+i/wordBits] |= uint64(u>>k&1) << (i % wordBits)
		}
		sum += float64(u) - middle
		product += float64((float64(u) - middle) * float64(f))
	}
	value := norm / product
	q.line = simd.Line{
		A: float32(2 * value),
		B: float32(-2 * middle * value),
		C: float32(-sum * value),
	}
}

// setBytes rounds the elements so that the largest becomes 127.
func (q *Query) setBytes(x []float32, norm float64) {
	clear(q.bytes)
	q.byteSum, q.byteScale = 0, 0
	largest := largestOf(x)
	if largest == 0 || norm == 0 {
		return
	}
	perStep := 127 / float64(largest)
	for i, f := range x {
		q.bytes[i] = int8(math.RoundToEven(float64(f) * perStep))
		q.byteSum += int32(q.bytes[i])
	}
	q.byteScale = float32(1 / (2 * perStep * norm))
}

// fineScore is the cosine with a row, from the product of its fine code, whose
// elements are u, and the bytes: twice the sum of (u-7.5)*byte, which is an
// integer below 2^24, times the values of half a byte and of the row.
func (q *Query) fineScore(product int32, scale float32) float32 {
	return float32(float32(2*product-15*q.byteSum)*q.byteScale) * scale
}

// FineDeviation is the standard deviation of the error of an estimate by fine codes
// that is cosine. It is that of four bits a dimension (0.107 of the length, Max
// 1960), of which one direction has its share, and a little for the query's own
// rounding. Of few dimensions, which are padded, it is more than theirs.
func FineDeviation(dim int, cosine float64) float64 {
	return 0.11 * math.Sqrt(max(1-float64(cosine*cosine), 0)/float64(dim))
}
