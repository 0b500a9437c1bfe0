package rabitq

import "github.com/engramdb/engram/internal/simd"

// WithSet returns the rotation with the kernels of another set.
func (r Rotation) WithSet(set simd.Set) *Rotation {
	r.set = set
	return &r
}

// Rotated returns the rotated v.
func (r *Rotation) Rotated(v []float32) []float32 {
	x := make([]float32, r.padded)
	r.rotate(x, v)
	return x
}

// Best returns the limit best of scores offered one by one, with their rows.
func Best(scores []float32, rows []uint32, limit int) (best []Candidate) {
	var t top
	t.reset(limit)
	floor := scores[0]
	for _, score := range scores {
		floor = min(floor, score)
	}
	for i, score := range scores {
		if score >= floor {
			floor = t.offer(score, rows[i], floor)
		}
	}
	for _, key := range t.sorted() {
		best = append(best, Candidate{keyRow(key), keyScore(key)})
	}
	return best
}

// SelectGreatest is the selection under the tops.
func SelectGreatest(keys []uint64, count int) { selectGreatest(keys, count) }
