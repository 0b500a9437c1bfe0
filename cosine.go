package engram

import (
	"context"
	"math"
	"slices"

	"github.com/engramdb/engram/internal/simd"
)

// The comparison of a cue's embedding with the floats of a few memories, which
// stand in their records in the log.

// storedVector is what a record says of a vector, as part of the record.
type storedVector struct {
	kind    operationKind
	id      []byte // of the memory that is remembered
	version uint64 // of the memory that it was made for
	floats  []byte
}

// openVector verifies the record and returns what it says of a vector.
func openVector(record []byte, key, seq uint64) (x storedVector, err error) {
	if x.kind, _, err = openRecord(record, key, seq); err != nil {
		return storedVector{}, err
	}
	err = decodeFields(record[operationHeaderBytes:], func(tag byte, value []byte) (err error) {
		switch tag {
		case tagID:
			x.id = value
		case tagVersion:
			var n int64
			n, err = decodeInt64(value)
			x.version = uint64(n)
		case tagEmbedding:
			x.floats = value
		}
		return err
	})
	return x, err
}

// vectorPlace returns where the record stands that holds the vector of a document
// that has one, and the seq of its operation; and whether it is a derived one.
func (v *view) vectorPlace(d uint32) (loc locator, seq uint64, derived bool) {
	if row, found := v.derivedOf(d); found {
		return row.locator(), row.seq, true
	}
	return v.locator(d), v.seqOf(d), false
}

// lacksCosine reports whether the candidate has a vector that was not compared yet.
func (q *recalling) lacksCosine(c *candidate) bool {
	return len(q.embedding) > 0 && !c.compared && q.view.embedded(c.document)
}

// wantVector adds to the records that are to be held the one with the candidate's
// vector, if that was not compared yet.
func (q *recalling) wantVector(c *candidate) {
	if q.lacksCosine(c) {
		loc, _, _ := q.view.vectorPlace(c.document)
		q.places = append(q.places, loc)
	}
}

// compare gives the candidate, which has a vector, the cosine of that and the
// cue's, by their floats; 0 where they point apart. ctx ends it with its error.
func (q *recalling) compare(ctx context.Context, c *candidate) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, v := q.awake, q.view
	loc, seq, derived := v.vectorPlace(c.document)
	record, err := q.record(loc, &q.near)
	if err != nil {
		return a.unreadable(loc, err)
	}
	x, err := openVector(record, a.identity.key, seq)
	if err != nil || !x.describes(v, c.document, derived) || len(x.floats) != 4*len(q.embedding) {
		return a.unreadable(loc, err)
	}
	q.vector.floats = slices.Grow(q.vector.floats[:0], len(q.embedding))[:len(q.embedding)]
	simd.CopyFloat32s(q.vector.floats, x.floats)
	c.why.Vector, c.compared = max(cosine(q.embedding, q.vector.floats), 0), true
	q.compared++
	return nil
}

// describes reports whether the vector is of this version of the document.
func (x *storedVector) describes(v *view, d uint32, derived bool) bool {
	if derived {
		return x.kind == opEmbed && x.version == v.seqOf(d)
	}
	return string(x.id) == string(v.id(d))
}

// Sums of squares between these leave nothing out that counts, and their elements'
// products are floats.
const (
	leastSquares = 1e-20
	mostSquares  = 1e30
)

// cosine returns that of the angle between a and b.
func cosine(a, b []float32) float64 {
	set := simd.Best()
	dot, aa, bb := float64(set.Dot(a, b)), float64(set.Dot(a, a)), float64(set.Dot(b, b))
	if min(aa, bb) < leastSquares || !(max(aa, bb) <= mostSquares) {
		dot, aa, bb = 0, 0, 0
		for i := range a {
			x, y := float64(a[i]), float64(b[i])
			dot, aa, bb = dot+float64(x*y), aa+float64(x*x), bb+float64(y*y)
		}
	}
	return min(dot/math.Sqrt(aa*bb), 1)
}
