package rabitq

import (
	"math"
	"math/bits"
	"slices"
)

// top keeps the best of the rows it is offered: as many as the limit, those with
// the highest scores, and all others that score like the last of them. Which of
// equal rows are the better ones is not for their numbers to say, which change
// with the place of the codes. It gathers more than it keeps and throws the worse
// ones out once in a while, which costs a few steps for each row offered where a
// heap costs the logarithm of their number.
type top struct {
	limit int
	room  int // how many are gathered before the worse ones go
	keys  []uint64
}

// key orders by score, and by row where scores are equal. The best is greatest.
func key(score float32, row uint32) uint64 {
	bits := math.Float32bits(float32(score) + 0) // +0 and -0 are one score
	if bits&signBit != 0 {
		bits = ^bits
	} else {
		bits |= signBit
	}
	return uint64(bits)<<32 | uint64(^row)
}

func keyRow(key uint64) uint32 { return ^uint32(key) }

func keyScore(key uint64) float32 {
	bits := uint32(key >> 32)
	if bits&signBit != 0 {
		bits &^= signBit
	} else {
		bits = ^bits
	}
	return math.Float32frombits(bits)
}

// reset empties t, to keep limit rows.
func (t *top) reset(limit int) {
	t.limit, t.room = limit, 2*limit+256
	t.keys = slices.Grow(t.keys[:0], t.room)
}

// offer gathers a row. It returns the score that another must reach to be
// offered: one below the floor is not among the best.
func (t *top) offer(score float32, row uint32, floor float32) float32 {
	t.keys = append(t.keys, key(score, row))
	if len(t.keys) < t.room {
		return floor
	}
	floor = t.cut()
	t.room = max(t.room, 2*len(t.keys))
	return floor
}

// cut leaves the best, in no order, and returns the score of the last of them: no
// score if there was room for all, more than any if there is none for one.
func (t *top) cut() (floor float32) {
	if len(t.keys) <= t.limit {
		return minusInfinity
	}
	selectGreatest(t.keys, t.limit)
	kept := t.keys[:t.limit]
	if t.limit == 0 {
		t.keys = kept
		return float32(math.Inf(1))
	}
	last := slices.Min(kept)
	for _, key := range t.keys[t.limit:] {
		if key>>32 == last>>32 {
			kept = append(kept, key)
		}
	}
	t.keys = kept
	return keyScore(last)
}

// sorted leaves the best, the best first.
func (t *top) sorted() []uint64 {
	t.cut()
	slices.Sort(t.keys)
	slices.Reverse(t.keys)
	return t.keys
}

// selectGreatest moves the count greatest keys, of which no two are equal, to the
// front: Hoare's quickselect with the median of three. Keys that take more passes than
// halves would, as some orders do, are sorted.
func selectGreatest(keys []uint64, count int) {
	low, high := 0, len(keys) // where the boundary lies
	for patience := bits.Len(uint(len(keys))); low < count && count < high; patience-- {
		if patience == 0 || high-low <= 16 {
			slices.Sort(keys[low:high])
			slices.Reverse(keys[low:high])
			return
		}
		a, b, c := keys[low], keys[low+(high-low)/2], keys[high-1]
		middle := low + gatherAbove(keys[low:high], max(min(a, b), min(max(a, b), c)))
		if count <= middle {
			high = middle
		} else {
			low = middle
		}
	}
}

// gatherAbove moves the keys above the pivot to the front, and returns their number
// (Lomuto). What a key is compared to decides no branch: which it would take, no
// processor guesses.
func gatherAbove(keys []uint64, pivot uint64) (count int) {
	for i, key := range keys {
		keys[i] = keys[count]
		keys[count] = key
		_, above := bits.Sub64(pivot, key, 0)
		count += int(above)
	}
	return count
}
