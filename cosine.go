package engram

import (
	"encoding/binary"
	"math"
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
// cue's, by their floats; 0 where they point apart.
func (q *recalling) compare(c *candidate) error {
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
	c.why.Vector, c.compared = max(cosine(q.embedding, x.floats), 0), true
	return nil
}

// describes reports whether the vector is of this version of the document.
func (x *storedVector) describes(v *view, d uint32, derived bool) bool {
	if derived {
		return x.kind == opEmbed && x.version == v.seqOf(d)
	}
	return string(x.id) == string(v.id(d))
}

// cosine returns that of the angle between a and the little-endian floats of b,
// which are as many.
func cosine(a []float32, b []byte) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		dot, aa, bb = dot+float64(x*y), aa+float64(x*x), bb+float64(y*y)
	}
	return min(dot/math.Sqrt(aa*bb), 1)
}
