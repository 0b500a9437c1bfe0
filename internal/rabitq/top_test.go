package rabitq_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engramdb/engram/internal/rabitq"
)

// The best are what sorting all finds, with those that score like the last.
func TestBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{0, 1, 2, 10, 100}).Draw(t, "limit")
		source := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		scores, rows := make([]float32, 1+source.IntN(3000)), []uint32{}
		distinct := 1 + source.IntN(2*len(scores))
		all := make([]rabitq.Candidate, len(scores))
		for i := range scores {
			scores[i] = float32(source.IntN(distinct)-distinct/2) / 7
			rows = append(rows, uint32(i))
		}
		source.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for i := range all {
			all[i] = rabitq.Candidate{Row: rows[i], Score: scores[i]}
		}
		slices.SortFunc(all, func(a, b rabitq.Candidate) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Row, b.Row))
		})
		want := min(limit, len(all))
		for want > 0 && want < len(all) && all[want].Score == all[want-1].Score {
			want++
		}
		got := rabitq.Best(scores, rows, limit)
		require.Equal(t, all[:want], append([]rabitq.Candidate{}, got...))
	})
}

func TestBestOfExtremes(t *testing.T) {
	negativeZero, infinite := float32(math.Copysign(0, -1)), float32(math.Inf(1))
	scores := []float32{negativeZero, 0, -math.MaxFloat32, infinite, -infinite, math.SmallestNonzeroFloat32}
	got := rabitq.Best(scores, []uint32{7, 8, 9, 10, 11, 12}, 6)
	require.Equal(t, []rabitq.Candidate{
		{Row: 10, Score: infinite},
		{Row: 12, Score: math.SmallestNonzeroFloat32},
		{Row: 7, Score: 0},
		{Row: 8, Score: 0},
		{Row: 9, Score: -math.MaxFloat32},
		{Row: 11, Score: -infinite},
	}, got)
}

// Orders that quickselect likes and such that it does not.
func TestSelectGreatest(t *testing.T) {
	const n = 5000
	for name, fill := range map[string]func(i int) uint64{
		"rising":     func(i int) uint64 { return uint64(i) },
		"falling":    func(i int) uint64 { return uint64(n - i) },
		"equal":      func(int) uint64 { return 1 },
		"two values": func(i int) uint64 { return uint64(i % 2) },
		"organ pipe": func(i int) uint64 { return uint64(min(i, n-i)) },
		"saw":        func(i int) uint64 { return uint64(i % 71) },
		"random":     func(int) uint64 { return rand.Uint64() },
	} {
		for _, count := range []int{0, 1, 16, 17, n / 2, n - 1, n} {
			keys := make([]uint64, n)
			for i := range keys {
				keys[i] = fill(i)
			}
			want := slices.Sorted(slices.Values(keys))
			rabitq.SelectGreatest(keys, count)
			slices.Sort(keys[:count])
			slices.Sort(keys[count:])
			require.Equal(t, want, append(slices.Clone(keys[count:]), keys[:count]...), "%s %d", name, count)
		}
	}
}
