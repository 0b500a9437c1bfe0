package simd

// lanes is the number of partial sums of a float dot product. It is part of the
// definition: another number would round differently.
const lanes = 32

// Dot returns the dot product of two vectors of one length.
//
// The products of the elements i, i+32, i+64 ... are summed in this order in
// lane i; then the upper half of the lanes is added to the lower half, five
// times. Thirty-two lanes are two registers of AVX-512, four of AVX2 and eight
// of NEON: enough to hide the time that an addition takes.
func (s Set) Dot(a, b []float32) float32 {
	var product [1]float32
	s.DotRows(product[:], a, b)
	return product[0]
}

// DotRows sets dst[i] to the dot product of q and row i, where the rows are
// len(dst) vectors as long as q, one after another. See [Set.Dot] for the order
// of the sums.
func (s Set) DotRows(dst, q, rows []float32) {
	mustBeLong("rows", len(rows), len(dst)*len(q))
	if len(dst) == 0 || len(q) == 0 {
		clear(dst)
		return
	}
	for i := s.dotRows(dst, q, rows); i < len(dst); i++ {
		dst[i] = dotPortable(q, rows[i*len(q):][:len(q)])
	}
}

// dotPortable goes over the vectors once for every eight lanes, because Go keeps
// eight sums in registers and not thirty-two.
func dotPortable(a, b []float32) float32 {
	var sums [lanes]float32
	for first := 0; first < lanes; first += 8 {
		dotEightLanes((*[8]float32)(sums[first:]), a[min(first, len(a)):], b[min(first, len(b)):])
	}
	for i := len(a) &^ 7; i < len(a); i++ {
		sums[i%lanes] += float32(a[i] * b[i])
	}
	return sumLanes(&sums)
}

// dotEightLanes sums the first eight of every thirty-two elements, as long as
// there are eight.
func dotEightLanes(sums *[8]float32, a, b []float32) {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for i := 0; i+8 <= len(a); i += lanes {
		x, y := (*[8]float32)(a[i:]), (*[8]float32)(b[i:])
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		s4 += float32(x[4] * y[4])
		s5 += float32(x[5] * y[5])
		s6 += float32(x[6] * y[6])
		s7 += float32(x[7] * y[7])
	}
	*sums = [8]float32{s0, s1, s2, s3, s4, s5, s6, s7}
}

// sumLanes folds the upper half onto the lower half until one lane is left.
func sumLanes(sums *[lanes]float32) float32 {
	for half := lanes / 2; half > 0; half /= 2 {
		for i := range half {
			sums[i] += sums[i+half]
		}
	}
	return sums[0]
}
