package simd_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engramdb/engram/internal/simd"
)

// forEachSet runs a test with every set that this machine has.
func forEachSet(t *testing.T, test func(t *testing.T, set simd.Set)) {
	for _, set := range simd.Available() {
		t.Run(set.String(), func(t *testing.T) { test(t, set) })
	}
}

func TestSets(t *testing.T) {
	sets := simd.Available()
	require.Equal(t, simd.Portable, sets[0])
	require.Equal(t, sets[len(sets)-1], simd.Best())
	require.IsIncreasing(t, sets)
	if runtime.GOARCH == "arm64" {
		require.Equal(t, simd.NEON, simd.Best())
	}
	require.Equal(t, "AVX-512", simd.AVX512.String())
	require.Equal(t, "Set(9)", simd.Set(9).String())

	sets[0] = simd.Set(9)
	require.Equal(t, simd.Portable, simd.Available()[0], "a caller's slice is the caller's")
}

// Lengths that end in, at, and behind every register and block.
func drawDim(t *rapid.T, most int) int {
	return rapid.OneOf(
		rapid.IntRange(0, min(most, 140)),
		rapid.SampledFrom([]int{0, 1, 31, 32, 33, 63, 64, 65, 384, 767, 768, 769}),
		rapid.IntRange(0, most),
	).Filter(func(n int) bool { return n <= most }).Draw(t, "dim")
}

func drawRows(t *rapid.T) int { return rapid.IntRange(0, 19).Draw(t, "rows") }

func drawSource(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
}

// skewed returns n elements that start at an address of a drawn remainder.
func skewed[T any](t *rapid.T, n int) []T {
	skew := rapid.IntRange(0, 9).Draw(t, "skew")
	return make([]T, skew+n)[skew:]
}

// fillFloats draws floats of very different sizes, so that a sum in another order
// is another number; now and then extreme ones.
func fillFloats(x []float32, source *rand.Rand) {
	for i := range x {
		x[i] = float32(source.NormFloat64() * math.Exp2(float64(source.IntN(24)-12)))
		switch source.IntN(60) {
		case 0:
			x[i] = 0
		case 1:
			x[i] = float32(math.Copysign(0, -1))
		case 2:
			x[i] = math.SmallestNonzeroFloat32 * float32(1+source.IntN(9))
		}
	}
}

func fillInt8(x []int8, source *rand.Rand) {
	extreme := source.IntN(3) == 0
	for i := range x {
		x[i] = int8(source.IntN(256) - 128)
		if extreme {
			x[i] = []int8{-128, -128, -128, 127}[source.IntN(4)]
		}
	}
}

func fillBytes(x []uint8, source *rand.Rand) {
	full := source.IntN(3) == 0
	for i := range x {
		x[i] = uint8(source.Uint32())
		if full {
			x[i] = 0xff
		}
	}
}

func fillWords(x []uint64, source *rand.Rand) {
	full := source.IntN(3) == 0
	for i := range x {
		x[i] = source.Uint64()
		if full {
			x[i] = math.MaxUint64
		}
	}
}

// someRows lists rows of a store of count, in no order and with repetition.
func someRows(count int, source *rand.Rand) []uint32 {
	if count == 0 {
		return nil
	}
	list := make([]uint32, source.IntN(2*count+1))
	for i := range list {
		list[i] = uint32(source.IntN(count))
	}
	return list
}

func floatBits(x []float32) []uint32 {
	all := make([]uint32, len(x))
	for i, f := range x {
		all[i] = math.Float32bits(f)
	}
	return all
}

// dotByDefinition is the order of sums that Set.Dot documents, and nothing else.
func dotByDefinition(a, b []float32) float32 {
	var lanes [32]float32
	for i := range a {
		lanes[i%32] += float32(a[i] * b[i])
	}
	for half := 16; half > 0; half /= 2 {
		for i := range half {
			lanes[i] += lanes[half+i]
		}
	}
	return lanes[0]
}

func TestDot(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		rapid.Check(t, func(t *rapid.T) {
			dim, count, source := drawDim(t, 4096), drawRows(t), drawSource(t)
			q, rows, got := skewed[float32](t, dim), skewed[float32](t, dim*count), skewed[float32](t, count)
			fillFloats(q, source)
			fillFloats(rows, source)

			want := make([]float32, count)
			for i := range want {
				want[i] = dotByDefinition(q, rows[i*dim:][:dim])
			}
			set.DotRows(got, q, rows)
			require.Equal(t, floatBits(want), floatBits(got))
			for i := range got {
				require.Equal(t, math.Float32bits(want[i]), math.Float32bits(set.Dot(q, rows[i*dim:][:dim])))
			}
		})
	})
}

func TestDotOfInfinities(t *testing.T) {
	infinite := float32(math.Inf(1))
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for dim := 1; dim < 140; dim++ {
			a, b := make([]float32, dim), make([]float32, dim)
			a[dim-1], b[dim-1] = infinite, 2
			require.True(t, math.IsInf(float64(set.Dot(a, b)), 1), dim)
			a[0], b[0] = -infinite, 2
			if dim > 1 {
				require.True(t, math.IsNaN(float64(set.Dot(a, b))), dim)
			}
		}
	})
}

func scanByDefinition(planes, code []uint64) (sum uint32) {
	for i, word := range code {
		for j := range 64 {
			for k := range len(planes) / len(code) {
				bit := planes[k*len(code)+i] >> j & (word >> j) & 1
				sum += uint32(bit) << k
			}
		}
	}
	return sum
}

func TestScanCodes(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		rapid.Check(t, func(t *rapid.T) {
			words, rows, source := rapid.IntRange(0, 33).Draw(t, "words"), drawRows(t), drawSource(t)
			count := rapid.SampledFrom([]int{2, 4}).Draw(t, "planes")
			planes, codes, got := skewed[uint64](t, count*words), skewed[uint64](t, words*rows), skewed[uint32](t, rows)
			fillWords(planes, source)
			fillWords(codes, source)

			want := make([]uint32, rows)
			for i := range want {
				want[i] = scanByDefinition(planes, codes[i*words:][:words])
			}
			set.ScanCodes(got, planes, codes, words)
			require.Equal(t, want, append([]uint32{}, got...))
		})
	})
}

// Very long codes reach the ends of the narrow sums that a kernel keeps.
func TestScanCodesOfManyWords(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for _, words := range []int{64, 544, 546, 548, 1000, 1024} {
			planes, codes := make([]uint64, 4*words), make([]uint64, 5*words)
			for i := range planes {
				planes[i] = math.MaxUint64
			}
			for i := range codes {
				codes[i] = math.MaxUint64
			}
			got := make([]uint32, 5)
			set.ScanCodes(got, planes, codes, words)
			for _, sum := range got {
				require.Equal(t, uint32(15*64*words), sum, words)
			}
			set.ScanCodes(got, planes[:2*words], codes, words)
			for _, sum := range got {
				require.Equal(t, uint32(3*64*words), sum, words)
			}
		}
	})
}

func dotIntegers(q []int8, code []uint8) (sum int32) {
	for i := range q {
		sum += int32(q[i]) * int32(code[i])
	}
	return sum
}

func TestDotInt4(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		rapid.Check(t, func(t *rapid.T) {
			dim, count, source := 64*rapid.IntRange(0, 64).Draw(t, "groups"), drawRows(t), drawSource(t)
			q, codes, got := skewed[int8](t, dim), skewed[uint8](t, dim/2*count), skewed[int32](t, count)
			fillInt8(q, source)
			fillBytes(codes, source)

			want := make([]int32, count)
			for i := range want {
				elements := make([]uint8, 0, dim)
				for _, pair := range codes[i*dim/2:][:dim/2] {
					elements = append(elements, pair%16, pair/16)
				}
				want[i] = dotIntegers(q, elements)
			}
			set.DotInt4(got, q, codes)
			require.Equal(t, want, append([]int32{}, got...))

			list := someRows(count, source)
			listed := make([]int32, len(list))
			set.DotInt4At(listed, q, codes, list)
			for i, row := range list {
				require.Equal(t, want[row], listed[i])
			}
		})
	})
}

// The largest sums, at the longest query there may be, fit in 32 bits.
func TestIntegerExtremes(t *testing.T) {
	const dim, count = 1 << 16, 5
	q, pairs := make([]int8, dim), make([]uint8, count*dim/2)
	fill := func(number int8) {
		for i := range q {
			q[i] = number
		}
	}
	for i := range pairs {
		pairs[i] = 0xff
	}
	forEachSet(t, func(t *testing.T, set simd.Set) {
		got := make([]int32, count)
		for _, number := range []int8{-128, 127} {
			fill(number)
			set.DotInt4(got, q, pairs)
			require.Equal(t, int32(number)*15*dim, got[0])
			require.Equal(t, got[0], got[count-1])
		}
	})
}

func TestScore(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		rapid.Check(t, func(t *rapid.T) {
			count, source := rapid.IntRange(0, 300).Draw(t, "count"), drawSource(t)
			counts, offsets, factors := skewed[uint32](t, count), skewed[float32](t, count), skewed[float32](t, count)
			for i := range counts {
				counts[i] = uint32(source.IntN(1 << 24))
			}
			fillFloats(offsets, source)
			fillFloats(factors, source)
			line := simd.Line{A: float32(source.NormFloat64()), B: float32(source.NormFloat64()), C: float32(source.NormFloat64())}

			want := make([]float32, count)
			for i := range want {
				sum := float32(line.A*float32(counts[i])) + float32(line.B*offsets[i])
				want[i] = float32(sum+line.C) * factors[i]
			}
			floor := float32(source.NormFloat64())
			if count > 0 && source.IntN(2) == 0 {
				floor = want[source.IntN(count)] // at least the floor is not above the floor
			}

			got, reached := skewed[float32](t, count), skewed[uint64](t, (count+63)/64)
			fillWords(reached, source) // what is there is overwritten
			set.Score(got, reached, counts, offsets, factors, line, floor)
			require.Equal(t, floatBits(want), floatBits(got))
			for i := range 64 * len(reached) {
				require.Equal(t, i < count && want[min(i, count-1)] >= floor, reached[i/64]>>(i%64)&1 == 1, i)
			}
		})
	})
}

// hadamardByDefinition is the stages that Set.Hadamard documents.
func hadamardByDefinition(x []float32) {
	for half := 1; half < len(x); half *= 2 {
		for i := range x {
			if i&half == 0 {
				x[i], x[i+half] = x[i]+x[i+half], x[i]-x[i+half]
			}
		}
	}
	for i := range x {
		x[i] *= float32(1 / math.Sqrt(float64(len(x))))
	}
}

func TestHadamard(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		rapid.Check(t, func(t *rapid.T) {
			dim := 1 << rapid.IntRange(0, 12).Draw(t, "log")
			got := skewed[float32](t, dim)
			fillFloats(got, drawSource(t))
			want := append([]float32{}, got...)
			hadamardByDefinition(want)
			set.Hadamard(got)
			require.Equal(t, floatBits(want), floatBits(got))
		})
	})
}

// The matrix is the one of Walsh and Hadamard: symmetric, orthogonal, of +-1.
func TestHadamardMatrix(t *testing.T) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		const dim = 64
		for i := range dim {
			x := make([]float32, dim)
			x[i] = 8
			set.Hadamard(x)
			for j := range dim {
				sign := float32(1)
				for shared := i & j; shared != 0; shared &= shared - 1 {
					sign = -sign
				}
				require.InDelta(t, sign, x[j], 0, "%d %d", i, j)
			}
		}
		set.Hadamard(nil)
	})
}

// A kernel knows no bounds, so the methods refuse what does not fit.
func TestMisuse(t *testing.T) {
	f, i8, u8, u32, u64 := make([]float32, 64), make([]int8, 64), make([]uint8, 64), make([]uint32, 4), make([]uint64, 8)
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for name, misuse := range map[string]func(){
			"vectors of two lengths":     func() { set.Dot(f[:3], f[:4]) },
			"a short vector with room":   func() { set.Dot(f[:4], f[:3]) },
			"too few rows":               func() { set.DotRows(f[:2], f[:8], f[:15]) },
			"planes of two lengths":      func() { set.ScanCodes(u32[:1], u64[:7], u64[:2], 2) },
			"three planes":               func() { set.ScanCodes(u32[:1], u64[:6], u64[:2], 2) },
			"too few codes":              func() { set.ScanCodes(u32[:4], u64[:8], u64[:7], 2) },
			"codes too long":             func() { set.ScanCodes(nil, make([]uint64, 2050), nil, 1025) },
			"too few int4":               func() { set.DotInt4(make([]int32, 4), i8, u8[:63]) },
			"an int4 row too far":        func() { set.DotInt4At(make([]int32, 1), i8, u8, []uint32{2}) },
			"an int4 list too long":      func() { set.DotInt4At(make([]int32, 1), i8, u8, []uint32{1, 0}) },
			"an int4 query of 63":        func() { set.DotInt4(nil, i8[:63], nil) },
			"an int4 query too long":     func() { set.DotInt4(nil, make([]int8, 1<<16+64), nil) },
			"scores without counts":      func() { set.Score(f[:2], u64[:1], u32[:1], f[:2], f[:2], simd.Line{}, 0) },
			"scores without offsets":     func() { set.Score(f[:2], u64[:1], u32[:2], f[:1], f[:2], simd.Line{}, 0) },
			"scores without factors":     func() { set.Score(f[:2], u64[:1], u32[:2], f[:2], f[:3], simd.Line{}, 0) },
			"scores without bits":        func() { set.Score(f[:2], nil, u32[:2], f[:2], f[:2], simd.Line{}, 0) },
			"a Hadamard transform of 12": func() { set.Hadamard(f[:12]) },
		} {
			require.Panics(t, misuse, name)
		}
	})
}

func TestAllocatesNothing(t *testing.T) {
	q, rows := make([]float32, 768), make([]float32, 4*768)
	planes, codes := make([]uint64, 48), make([]uint64, 48)
	forEachSet(t, func(t *testing.T, set simd.Set) {
		require.Zero(t, testing.AllocsPerRun(10, func() {
			var products [4]float32
			var counts [4]uint32
			set.DotRows(products[:], q, rows)
			set.Dot(q, rows[:768])
			set.ScanCodes(counts[:], planes, codes, 12)
			var reached [1]uint64
			set.Score(products[:], reached[:], counts[:], products[:], products[:], simd.Line{}, 0)
			set.Hadamard(q[:512])
		}))
	})
}
