package simd

// Line is the function x, y, z -> (A*x + B*y + C) * z, with which [Set.Score]
// turns what a scan has counted into scores. It is computed from left to right,
// each step rounded to a float32.
type Line struct{ A, B, C float32 }

// Score sets scores[i] to the line at counts[i], offsets[i] and factors[i], and
// bit i%64 of reached[i/64] to whether this is at least the floor; the bits
// behind the last row are 0. Counts are below 2^24. All slices have a length of
// len(scores), reached of a sixty-fourth, rounded up.
func (s Set) Score(scores []float32, reached []uint64, counts []uint32, offsets, factors []float32, line Line, floor float32) {
	count := len(scores)
	mustBeLong("reached", len(reached), (count+63)/64)
	mustBeLong("counts", len(counts), count)
	mustBeLong("offsets", len(offsets), count)
	mustBeLong("factors", len(factors), count)
	clear(reached)
	if count == 0 {
		return
	}
	for i := s.score(scores, reached, counts, offsets, factors, &line, floor); i < count; i++ {
		sum := float32(line.A*float32(counts[i])) + float32(line.B*offsets[i])
		scores[i] = (sum + line.C) * factors[i]
		if scores[i] >= floor {
			reached[i/64] |= 1 << (i % 64)
		}
	}
}
