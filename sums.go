package engram

import "hash/crc32"

// sumStride bytes lie between two sums that are kept of what is searched: to sum up
// so many takes about as long as to join two sums.
const sumStride = 1 << 10

// rangeSums gives the checksum of any part of some bytes in a time that does not
// grow with the part. What looks for frames at every byte needs it: contents that
// are full of headers would otherwise have it sum up the same bytes for each of
// them. It is not for concurrent use with a change of the bytes.
type rangeSums struct {
	bytes  []byte
	before []uint32 // checksums of bytes[:i*sumStride]
	powers [32]uint32
}

func sumRanges(b []byte) *rangeSums {
	s := &rangeSums{bytes: b, before: make([]uint32, 1, len(b)/sumStride+1)}
	for at := sumStride; at <= len(b); at += sumStride {
		s.before = append(s.before, crc32.Update(s.before[len(s.before)-1], castagnoli, b[at-sumStride:at]))
	}
	s.powers[0] = 1 << (31 - 8) // x^8: a byte
	for i := 1; i < len(s.powers); i++ {
		s.powers[i] = multiplySums(s.powers[i-1], s.powers[i-1])
	}
	return s
}

// update continues sum over bytes[from:to].
//
// A checksum is a remainder of polynomials over GF(2): the one of a part is that of
// all up to its end, less that of all up to its start, moved up by the bytes between.
// sum is moved up by as many.
func (s *rangeSums) update(sum uint32, from, to int) uint32 {
	if to-from <= 2*sumStride {
		return crc32.Update(sum, castagnoli, s.bytes[from:to])
	}
	sum ^= s.upTo(from)
	for i, n := 0, to-from; n > 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			sum = multiplySums(sum, s.powers[i])
		}
	}
	return sum ^ s.upTo(to)
}

func (s *rangeSums) upTo(end int) uint32 {
	i := end / sumStride
	return crc32.Update(s.before[i], castagnoli, s.bytes[i*sumStride:end])
}

// except is sumExcept of bytes[from:to].
func (s *rangeSums) except(sum uint32, from, to int) uint32 {
	return s.update(s.update(sum, from, from+4), from+8, to)
}

// frame is decodeFrame of bytes[at:].
func (s *rangeSums) frame(at int, key uint64) (frame, int, error) {
	f, n, err := splitFrame(s.bytes[at:])
	if err != nil || s.except(keyedSum(key), at, at+n) != f.checksum {
		return frame{}, 0, errNotFrame
	}
	return f, n, nil
}

// multiplySums multiplies two polynomials modulo that of the checksum. As in a
// checksum, the highest bit is the coefficient of x^0.
func multiplySums(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}
