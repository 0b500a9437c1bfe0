package rabitq_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/clouds"
	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

var dims = []int{1, 2, 8, 63, 64, 65, 100, 128, 384, 768, 1000, 1536, 4096}

func gaussianVectors(count, dim int, seed uint64) []float32 {
	source := rand.New(rand.NewPCG(seed, 9))
	return drawVectors(func(v []float32) {
		for i := range v {
			v[i] = float32(source.NormFloat64())
		}
	}, count, dim)
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestRotationKeepsLengthsAndAngles(t *testing.T) {
	for _, dim := range dims {
		rotation := rabitq.NewRotation(dim, 1)
		vectors := gaussianVectors(2, dim, 1)
		v, w := vectors[:dim], vectors[dim:]
		x, y := rotation.Rotated(v), rotation.Rotated(w)
		require.InEpsilon(t, dot(v, v), dot(x, x), 1e-5, dim)
		require.InDelta(t, dot(v, w), dot(x, y), 1e-5*math.Sqrt(dot(v, v)*dot(w, w)), dim)
		require.NotEqual(t, x, rabitq.NewRotation(dim, 2).Rotated(v), dim)
	}
}

// Of a vector that is nothing but one element, every element of the rotated one
// gets its share: that is what makes one step of the quantiser serve all.
func TestRotationSpreads(t *testing.T) {
	for _, dim := range []int{100, 768, 1000, 1024} {
		rotation := rabitq.NewRotation(dim, 1)
		for _, i := range []int{0, 1, dim / 2, dim - 1} {
			v := make([]float32, dim)
			v[i] = 1
			x := rotation.Rotated(v)
			var fourth float64
			for _, f := range x {
				fourth += math.Pow(float64(f), 4)
			}
			kurtosis := fourth * float64(len(x)) // 3 is Gaussian
			require.InDelta(t, 3, kurtosis, 1.6, "%d %d", dim, i)
		}
	}
}

// Codes are kept on disk, so they are the same for good and on every machine.
func TestCodesStayTheSame(t *testing.T) {
	for dim, want := range map[int]uint32{8: 0xcf587e98, 100: 0x15b9cc9c, 768: 0xc718cfca, 1024: 0xedcc4c5b} {
		vectors := evenVectors(9, dim)
		for _, set := range simd.Available() {
			rotation := rabitq.NewRotation(dim, 42).WithSet(set)
			require.Equal(t, want, checksum(t, encodeAll(rotation, vectors)), "%d %v", dim, set)
		}
	}
}

// And so are the answers.
func TestAnswersStayTheSame(t *testing.T) {
	const rows, dim = 2000, 384
	vectors := evenVectors(rows+1, dim)
	rotation := rabitq.NewRotation(dim, 42)
	codes := encodeAll(rotation, vectors[dim:])
	for precision, want := range map[rabitq.Precision]uint32{rabitq.TwoBits: 0x1804b521, rabitq.FourBits: 0xfe875a85} {
		for _, set := range simd.Available() {
			query := rabitq.NewQuery(rotation.WithSet(set), precision)
			query.Set(vectors[:dim])
			var search rabitq.Search
			all, err := binary.Append(nil, binary.LittleEndian, search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 100, 30))
			require.NoError(t, err)
			require.Equal(t, want, crc32.ChecksumIEEE(all), "%d %v", precision, set)
		}
	}
}

// evenVectors are spread evenly over a cube: drawing a normal variable takes a
// logarithm, which is not the same number on every machine.
func evenVectors(count, dim int) []float32 {
	source := rand.New(rand.NewPCG(5, 5))
	return drawVectors(func(v []float32) {
		for i := range v {
			v[i] = float32(int32(source.Uint32()))
		}
	}, count, dim)
}

func checksum(t *testing.T, codes *rabitq.Codes) uint32 {
	t.Helper()
	var all []byte
	var err error
	for _, array := range []any{codes.Binary, codes.Ones, codes.BinaryScales, codes.Fine, codes.FineScales} {
		all, err = binary.Append(all, binary.LittleEndian, array)
		require.NoError(t, err)
	}
	return crc32.ChecksumIEEE(all)
}

func TestCodesKnowDirectionsOnly(t *testing.T) {
	const dim = 100
	vectors := gaussianVectors(20, dim, 6)
	rotation := rabitq.NewRotation(dim, 1)
	codes := encodeAll(rotation, vectors)
	require.Equal(t, 20, codes.Rows())
	for i := range vectors {
		vectors[i] *= 1 << 20
	}
	require.Equal(t, codes, encodeAll(rotation, vectors))
}

func TestReplaceIsAppendInPlace(t *testing.T) {
	const dim = 100
	vectors := gaussianVectors(5, dim, 7)
	rotation := rabitq.NewRotation(dim, 1)
	want, got := encodeAll(rotation, vectors), encodeAll(rotation, make([]float32, 5*dim))
	for _, row := range []int{3, 0, 4, 1, 2} {
		rabitq.NewEncoder(rotation).Replace(got, row, vectors[row*dim:][:dim])
	}
	require.Equal(t, want, got)
}

// The estimates have no bias, and the errors that theory and bits allow.
func TestEstimates(t *testing.T) {
	const rows, dim = 2000, 768
	vectors := gaussianVectors(rows, dim, 8)
	codes := encodeAll(rabitq.NewRotation(dim, 1), vectors)
	query := rabitq.NewQuery(rabitq.NewRotation(dim, 1), rabitq.TwoBits)
	var search rabitq.Search
	for _, q := range [][]float32{gaussianVectors(1, dim, 10), vectors[:dim]} {
		query.Set(q)
		var errors, squares float64
		for _, candidate := range search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, rows, rows) {
			v := vectors[int(candidate.Row)*dim:][:dim]
			cosine := dot(v, q) / math.Sqrt(dot(v, v)*dot(q, q))
			errors += float64(candidate.Score) - cosine
			squares += math.Pow(float64(candidate.Score)-cosine, 2)
		}
		require.InDelta(t, 0, errors/rows, 0.0004)
		require.Less(t, math.Sqrt(squares/rows), 0.006)
	}
}

// The deviation that is stated is that of the errors, whatever the angle, and three
// of it hold all but a few of them.
func TestFineDeviation(t *testing.T) {
	const rows = 2000
	for _, dim := range []int{8, 64, 100, 768} {
		for _, share := range []float64{0, 0.5, 2} { // of the query in each vector
			q, vectors := gaussianVectors(1, dim, 20), gaussianVectors(rows, dim, 21)
			for i := range vectors {
				vectors[i] += float32(share * float64(q[i%dim]))
			}
			codes := encodeAll(rabitq.NewRotation(dim, 1), vectors)
			query := rabitq.NewQuery(rabitq.NewRotation(dim, 1), rabitq.TwoBits)
			query.Set(q)
			var search rabitq.Search
			squares, beyond := 0.0, 0
			for _, candidate := range search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, rows, rows) {
				v := vectors[int(candidate.Row)*dim:][:dim]
				cosine := dot(v, q) / math.Sqrt(dot(v, v)*dot(q, q))
				off := (float64(candidate.Score) - cosine) / rabitq.FineDeviation(dim, cosine)
				squares += off * off
				if math.Abs(off) > 3 {
					beyond++
				}
			}
			if deviation := math.Sqrt(squares / rows); dim < 64 { // padded: less
				require.Less(t, deviation, 1.0, "dim %d, share %g", dim, share)
			} else {
				require.InDelta(t, 1, deviation, 0.2, "dim %d, share %g", dim, share)
			}
			require.LessOrEqual(t, beyond, rows/100, "dim %d, share %g", dim, share)
		}
	}
}

// What the scan makes of the codes of one and of few bits is good enough that the
// nearest are among a few more.
func TestRecall(t *testing.T) {
	const rows, dim = 5000, 256
	for _, test := range []struct {
		precision rabitq.Precision
		depth     int
		least     float64
	}{
		{rabitq.TwoBits, 100, 0.85},
		{rabitq.FourBits, 100, 0.88},
		{rabitq.TwoBits, 800, 0.99},
		{rabitq.FourBits, 800, 0.99},
	} {
		source := rand.New(rand.NewPCG(1, 1))
		for _, cloud := range clouds.Of(dim, source)[1:] {
			vectors := drawVectors(cloud.Draw, rows, dim)
			queries := drawVectors(cloud.Draw, 50, dim)
			rotation := rabitq.NewRotation(dim, 3)
			codes, query := encodeAll(rotation, vectors), rabitq.NewQuery(rotation, test.precision)
			var search rabitq.Search
			sum := 0.0
			for i := range 50 {
				q := queries[i*dim:][:dim]
				query.Set(q)
				found := search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, test.depth, 30)
				sum += recall(nearest(vectors, q, 10), ranked(found, vectors, q, 10))
			}
			t.Logf("%s %+v: %.3f", cloud.Name, test, sum/50)
			require.GreaterOrEqual(t, sum/50, test.least, "%s %+v", cloud.Name, test)
		}
	}
}

// One answer, whatever the machine.
func TestSearchesAgree(t *testing.T) {
	source := rand.New(rand.NewPCG(4, 4))
	for _, dim := range []int{8, 100, 768} {
		for _, rows := range []int{0, 1, 63, 64, 1000, 1024, 2500} {
			vectors := gaussianVectors(rows, dim, uint64(rows))
			codes := encodeAll(rabitq.NewRotation(dim, 2), vectors)
			q := gaussianVectors(1, dim, 77)
			live, living := make([]uint64, (rows+63)/64), 0
			for row := range rows {
				if source.IntN(3) > 0 {
					live[row/64] |= 1 << (row % 64)
					living++
				}
			}

			for _, precision := range []rabitq.Precision{rabitq.TwoBits, rabitq.FourBits} {
				for _, depth := range []int{1, 40, 500, 3000} {
					var want []rabitq.Candidate
					for i, set := range simd.Available() {
						query := rabitq.NewQuery(rabitq.NewRotation(dim, 2).WithSet(set), precision)
						query.Set(q)
						var search rabitq.Search
						got := search.All(nil, []rabitq.Part{rabitq.WholePart(codes, live)}, query, depth, 20)
						if i == 0 {
							want = got
						}
						name := fmt.Sprintf("%d %d %d %d %v", dim, rows, precision, depth, set)
						require.Equal(t, want, got, name)
						require.Len(t, want, min(20, depth, living))
						for _, candidate := range got {
							require.NotZero(t, live[candidate.Row/64]>>(candidate.Row%64)&1)
						}
					}
				}
			}
		}
	}
}

func TestSearchAppends(t *testing.T) {
	const dim = 64
	rotation := rabitq.NewRotation(dim, 1)
	codes, query := encodeAll(rotation, gaussianVectors(9, dim, 1)), rabitq.NewQuery(rotation, rabitq.TwoBits)
	query.Set(gaussianVectors(1, dim, 2))
	var search rabitq.Search
	got := search.All([]rabitq.Candidate{{Row: 99}}, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 9, 2)
	require.Len(t, got, 3)
	require.Equal(t, uint32(99), got[0].Row)
	require.Greater(t, got[1].Score, got[2].Score)
	require.Empty(t, search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 9, 0))
	require.Empty(t, search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 0, 9))
}

// Equal vectors have equal scores, and none of them is left out.
func TestTiesAreWhole(t *testing.T) {
	const rows, dim = 3000, 64
	rotation := rabitq.NewRotation(dim, 1)
	v := gaussianVectors(1, dim, 1)
	vectors := make([]float32, 0, rows*dim)
	for range rows {
		vectors = append(vectors, v...)
	}
	codes, query := encodeAll(rotation, vectors), rabitq.NewQuery(rotation, rabitq.TwoBits)
	query.Set(v)
	var search rabitq.Search
	for _, depth := range []int{20, 50, rows - 1, rows} {
		found := search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, depth, 20)
		require.Len(t, found, rows)
		for i, candidate := range found {
			require.Equal(t, uint32(i), candidate.Row)
			require.InDelta(t, 1, candidate.Score, 0.03)
		}
	}
}

// Zeros have no direction: neither is anything near to them nor they to anything.
func TestZeroVectors(t *testing.T) {
	const dim = 64
	rotation := rabitq.NewRotation(dim, 1)
	vectors := append(make([]float32, dim), gaussianVectors(3, dim, 1)...)
	codes, query := encodeAll(rotation, vectors), rabitq.NewQuery(rotation, rabitq.TwoBits)
	var search rabitq.Search
	for _, precision := range []int{0, 1} {
		query.Set(vectors[precision*dim:][:dim])
		for _, candidate := range search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 4, 4) {
			if precision == 0 || candidate.Row == 0 {
				require.Zero(t, candidate.Score)
			} else {
				require.NotZero(t, candidate.Score)
			}
		}
	}
}

func TestSearchAllocatesNothing(t *testing.T) {
	const rows, dim = 3000, 768
	rotation := rabitq.NewRotation(dim, 1)
	vectors := gaussianVectors(rows, dim, 1)
	codes, query, encoder := encodeAll(rotation, vectors), rabitq.NewQuery(rotation, rabitq.TwoBits), rabitq.NewEncoder(rotation)
	var search rabitq.Search
	found := make([]rabitq.Candidate, 0, 30)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		query.Set(vectors[:dim])
		found = search.All(found[:0], []rabitq.Part{rabitq.WholePart(codes, nil)}, query, 800, 30)
		encoder.Replace(codes, 1, vectors[:dim])
	}))
}

func TestMisuse(t *testing.T) {
	rotation := rabitq.NewRotation(64, 1)
	codes, query := encodeAll(rotation, gaussianVectors(65, 64, 1)), rabitq.NewQuery(rotation, rabitq.TwoBits)
	wide := rabitq.NewQuery(rabitq.NewRotation(65, 1), rabitq.TwoBits)
	var search rabitq.Search
	for name, misuse := range map[string]func(){
		"no dimension":              func() { rabitq.NewRotation(0, 1) },
		"too many dimensions":       func() { rabitq.NewRotation(rabitq.MaxDim+1, 1) },
		"a vector too short":        func() { query.Set(make([]float32, 63)) },
		"a vector too long":         func() { rabitq.NewEncoder(rotation).Append(new(rabitq.Codes), make([]float32, 65)) },
		"a query of three bits":     func() { rabitq.NewQuery(rotation, 3) },
		"codes of other dimensions": func() { search.All(nil, []rabitq.Part{rabitq.WholePart(codes, nil)}, wide, 1, 1) },
		"a bitmap too short":        func() { search.All(nil, []rabitq.Part{rabitq.WholePart(codes, make([]uint64, 1))}, query, 1, 1) },
	} {
		require.Panics(t, misuse, name)
	}
}

// thirds is the bitmap of those of the rows from..to-1 that three divides.
func thirds(from, to int) []uint64 {
	bits := make([]uint64, (to-from+63)/64)
	for row := from; row < to; row++ {
		if row%3 == 0 {
			bits[(row-from)/64] |= 1 << ((row - from) % 64)
		}
	}
	return bits
}

// How rows are divided into parts does not show.
func TestPartsAreOne(t *testing.T) {
	rotation := rabitq.NewRotation(96, 5)
	random := rand.New(rand.NewPCG(3, 4))
	draw := func() []float32 {
		v := make([]float32, 96)
		for i := range v {
			v[i] = float32(random.NormFloat64())
		}
		return v
	}
	var whole, first, second rabitq.Codes
	encoder := rabitq.NewEncoder(rotation)
	for i := range 3000 {
		v := draw()
		encoder.Append(&whole, v)
		if i < 1700 {
			encoder.Append(&first, v)
		} else {
			encoder.Append(&second, v)
		}
	}
	query := rabitq.NewQuery(rotation, rabitq.TwoBits)
	var search rabitq.Search
	for range 20 {
		query.Set(draw())
		want := search.All(nil, []rabitq.Part{rabitq.WholePart(&whole, nil)}, query, 100, 30)
		require.Equal(t, want, search.All(nil, []rabitq.Part{rabitq.WholePart(&first, nil), rabitq.WholePart(&second, nil)}, query, 100, 30))
		require.Equal(t, want, search.All(nil, []rabitq.Part{rabitq.WholePart(&whole, nil), rabitq.WholePart(&rabitq.Codes{}, nil)}, query, 100, 30))
		require.Equal(t, want, search.All(nil, []rabitq.Part{
			{Codes: &whole, End: 1703},
			{Codes: &whole, First: 1703, End: 1703}, // none
			{Codes: &whole, First: 1703, End: 3000},
		}, query, 100, 30))

		// Every third row lives, and the later rows come first.
		want = search.All(nil, []rabitq.Part{rabitq.WholePart(&whole, thirds(0, 3000))}, query, 100, 30)
		turned := search.All(nil, []rabitq.Part{
			{Codes: &whole, First: 1703, End: 3000, Live: thirds(1703, 3000)},
			{Codes: &whole, End: 1703, Live: thirds(0, 1703)},
		}, query, 100, 30)
		for i := range turned {
			turned[i].Row = (turned[i].Row + 1703) % 3000
		}
		require.Equal(t, want, turned)
	}
}

// Vectors of any length that has a direction have its codes.
func TestLengthDoesNotMatter(t *testing.T) {
	for _, dim := range dims {
		rotation := rabitq.NewRotation(dim, 1)
		encoder := rabitq.NewEncoder(rotation)
		v := make([]float32, dim)
		for i := range v {
			v[i] = float32(1+i%7) / 8 // short enough to be exact as a subnormal
			if i%3 == 0 {
				v[i] = -v[i]
			}
		}
		for _, exponent := range []int{-143, -100, -60, -20, 20, 40, 64, 100, 127} {
			var codes rabitq.Codes
			encoder.Append(&codes, v)
			long := make([]float32, dim)
			for i, f := range v {
				long[i] = float32(math.Ldexp(float64(f), exponent))
			}
			encoder.Append(&codes, long)
			for _, column := range [][]float32{codes.Ones, codes.BinaryScales, codes.FineScales} {
				require.Equal(t, column[:1], column[1:])
			}
			require.Equal(t, codes.Fine[:rotation.FineBytes()], codes.Fine[rotation.FineBytes():])
		}
	}
}

// What is ahead of a row is what a search of less depth finds before it.
func TestAhead(t *testing.T) {
	const rows, dim, depth = 3000, 100, 700
	rotation := rabitq.NewRotation(dim, 1)
	codes, query := encodeAll(rotation, gaussianVectors(rows, dim, 1)), rabitq.NewQuery(rotation, rabitq.TwoBits)
	query.Set(gaussianVectors(1, dim, 2))
	var search, less rabitq.Search
	parts := []rabitq.Part{rabitq.WholePart(codes, nil)}
	found := search.All(nil, parts, query, depth, rows)
	require.GreaterOrEqual(t, len(found), depth)
	ranked := make([]bool, rows)
	for _, candidate := range found {
		ranked[candidate.Row] = true
		ahead := search.Ahead(candidate.Row)
		require.Less(t, ahead, len(found))
		has := func(depth int) bool {
			return slices.ContainsFunc(less.All(nil, parts, query, depth, rows), func(c rabitq.Candidate) bool { return c.Row == candidate.Row })
		}
		require.True(t, has(ahead+1))
		require.False(t, has(ahead))
	}
	for row := range rows {
		if !ranked[row] {
			require.Equal(t, depth, search.Ahead(uint32(row)))
		}
	}
}
