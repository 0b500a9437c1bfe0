package engram

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The checksum of a part is the same, however it is come by.
func TestRangeSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "unit")
		b := make([]byte, 0, 40*sumStride)
		for n := rapid.IntRange(0, 40*sumStride).Draw(t, "length"); len(b) < n; {
			b = append(b, unit...)
		}
		s := sumRanges(b)
		from := rapid.IntRange(0, len(b)).Draw(t, "from")
		to := rapid.IntRange(from, len(b)).Draw(t, "to")
		sum := rapid.Uint32().Draw(t, "sum")
		require.Equal(t, crc32.Update(sum, castagnoli, b[from:to]), s.update(sum, from, to))
		if to-from >= 8 {
			require.Equal(t, sumExcept(sum, b[from:to]), s.except(sum, from, to))
		}
	})
}
