package rabitq_test

import (
	"encoding/binary"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/clouds"
	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

func always() bool { return true }

// trained returns codes of clusters, and a partition of them.
func trained(t testing.TB, dim, rows int) (*rabitq.Rotation, *rabitq.Codes, *rabitq.Partition) {
	t.Helper()
	r := rabitq.NewRotation(dim, 5)
	cloud := clouds.Of(dim, rand.New(rand.NewPCG(1, uint64(dim))))[1]
	codes := encodeAll(r, drawVectors(cloud.Draw, rows, dim))
	p := rabitq.Train(r, codes.Fine, 60, always)
	require.NotNil(t, p)
	return r, codes, p
}

// The leaves that a query ranks first are those that hold the rows nearest to it, and
// a row's own leaf is among the first for it.
func TestPartitionFindsWhatIsNear(t *testing.T) {
	for _, dim := range []int{24, 100, 768} {
		r, codes, p := trained(t, dim, 3000)
		require.Greater(t, p.Leaves(), 30)
		require.LessOrEqual(t, p.Leaves(), 60)
		leaves := p.AppendLeaves(nil, codes.Fine)
		require.Len(t, leaves, 3000)
		query := rabitq.NewQuery(r, rabitq.TwoBits)
		places := 0
		for row := 0; row < 3000; row += 10 {
			query.SetCode(codes.Fine[row*r.FineBytes():][:r.FineBytes()])
			order := slices.Collect(leavesOf(p.Nearest(query, 0.1)))
			require.Len(t, order, p.Leaves())
			places += slices.Index(order, leaves[row])
			sorted := slices.Sorted(slices.Values(order))
			require.Equal(t, sorted, slices.Compact(slices.Clone(sorted)), "each leaf once")
		}
		require.Less(t, float64(places)/300, 1.0, "dimension %d", dim)
	}
}

// Nearest is the same whatever gap is expected to be asked for: the gaps ascend from
// none.
func TestPartitionOrdersLeaves(t *testing.T) {
	r, codes, p := trained(t, 100, 2000)
	query := rabitq.NewQuery(r, rabitq.TwoBits)
	query.SetCode(codes.Fine[:r.FineBytes()])
	want := slices.Collect(leavesOf(p.Nearest(query, 2)))
	for _, expected := range []float32{-1, 0, 0.1, 0.3, 5} {
		last := float32(0)
		for leaf, gap := range p.Nearest(query, expected) {
			if leaf == want[0] {
				require.Zero(t, gap)
			}
			require.GreaterOrEqual(t, gap, last)
			last = gap
		}
		require.Positive(t, last)
		require.Equal(t, want, slices.Collect(leavesOf(p.Nearest(query, expected))))
	}
}

func leavesOf(nearest iter.Seq2[uint16, float32]) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for leaf := range nearest {
			if !yield(leaf) {
				return
			}
		}
	}
}

// A partition and the leaves of rows are the same on every machine, and whether the
// partition was trained or decoded.
func TestPartitionIsOfItsSampleAlone(t *testing.T) {
	r, codes, p := trained(t, 100, 2000)
	want, leaves := p.Append(nil), p.AppendLeaves(nil, codes.Fine)
	decoded, ok := rabitq.DecodePartition(100, want)
	require.True(t, ok)
	require.Equal(t, want, decoded.Append(nil))
	require.Equal(t, leaves, decoded.AppendLeaves(nil, codes.Fine))
	for _, set := range simd.Available() {
		again := rabitq.Train(r.WithSet(set), codes.Fine, 60, always)
		require.Equal(t, want, again.Append(nil), set.String())
		require.Equal(t, leaves, again.AppendLeaves(nil, codes.Fine), set.String())
	}
	for row := range leaves {
		one := codes.Fine[row*r.FineBytes():][:r.FineBytes()]
		require.Equal(t, leaves[row:row+1], p.AppendLeaves(nil, one), "one at a time")
	}
}

// Leaves that a vector is alone in would be copies of it, which outlive it.
func TestPartitionHasNoLeafOfOneRow(t *testing.T) {
	r := rabitq.NewRotation(64, 5)
	cloud := clouds.Of(64, rand.New(rand.NewPCG(2, 1)))[1]
	few := encodeAll(r, drawVectors(cloud.Draw, 7, 64))
	require.Nil(t, rabitq.Train(r, few.Fine, 60, always))
	lone := encodeAll(r, drawVectors(cloud.Draw, 1, 64))
	sample := slices.Concat(lone.Fine, slices.Repeat(few.Fine[:r.FineBytes()], 100))
	p := rabitq.Train(r, sample, 20, always)
	require.NotNil(t, p)
	require.NotContains(t, string(p.Append(nil)), string(lone.Fine))
}

// Where groups are very unequal, the small ones have a leaf each, and there are no more
// leaves than were asked for.
func TestPartitionHasNoMoreLeavesThanAsked(t *testing.T) {
	const leaves, dim = 16, 64 // in four groups, of which the last has nearly all rows
	r := rabitq.NewRotation(dim, 5)
	source := rand.New(rand.NewPCG(7, 7))
	centers := gaussianVectors(4+14, dim, 3)
	var sample []float32
	large := 0
	for row := range 1000 {
		group, offset := 3, 4+large*14/907 // the large one has as many parts as its share of leaves
		if row < 750 && row%250 < 31 {
			group, offset = row/250, 4
		} else {
			large++
		}
		for i := range dim {
			sample = append(sample, centers[group*dim+i]+0.4*centers[offset*dim+i]+0.1*float32(source.NormFloat64()))
		}
	}
	p := rabitq.Train(r, encodeAll(r, sample).Fine, leaves, always)
	require.NotNil(t, p)
	require.Equal(t, leaves, p.Leaves())
}

func TestTrainingEnds(t *testing.T) {
	r, codes, _ := trained(t, 64, 2000)
	asked := 0
	require.Nil(t, rabitq.Train(r, codes.Fine, 60, func() bool {
		asked++
		return asked < 5
	}))
	require.Less(t, asked, 200)
}

// What is no partition is refused.
func TestDecodePartition(t *testing.T) {
	_, _, p := trained(t, 100, 2000)
	b := p.Append(nil)
	for n := range len(b) {
		_, ok := rabitq.DecodePartition(100, b[:n])
		require.False(t, ok, "%d bytes", n)
	}
	_, ok := rabitq.DecodePartition(100, append(slices.Clone(b), 0))
	require.False(t, ok)
	_, ok = rabitq.DecodePartition(128, b)
	require.True(t, ok, "of 128 elements, as rotated")
	_, ok = rabitq.DecodePartition(129, b)
	require.False(t, ok)

	groups := binary.LittleEndian.Uint32(b)
	for name, change := range map[string]func(b []byte){
		"no group":               func(b []byte) { binary.LittleEndian.PutUint32(b, 0) },
		"a group without a leaf": func(b []byte) { copy(b[12:16], b[8:12]) },
		"ends that fall":         func(b []byte) { binary.LittleEndian.PutUint32(b[8:], math.MaxUint32) },
		"an end too early":       func(b []byte) { b[4+4*groups]-- },
		"a scale that is none":   func(b []byte) { copy(b[len(b)-4:], []byte{0, 0, 0xc0, 0x7f}) },
		"a scale without end":    func(b []byte) { copy(b[len(b)-4:], []byte{0, 0, 0x80, 0x7f}) },
		"a scale below zero":     func(b []byte) { copy(b[len(b)-4:], []byte{0, 0, 0x80, 0xbf}) },
	} {
		changed := slices.Clone(b)
		change(changed)
		_, ok := rabitq.DecodePartition(100, changed)
		require.False(t, ok, name)
	}
}

// FuzzDecodePartition decodes the input as it is, and behind numbers of groups and
// leaves that fit its length. What is decoded has the same bytes again, and a leaf for
// every row and query.
func FuzzDecodePartition(f *testing.F) {
	_, _, p := trained(f, 24, 400)
	b := p.Append(nil)
	f.Add(uint16(24), b)
	f.Add(uint16(24), b[:len(b)-1])
	f.Add(uint16(24), b[:8])
	f.Add(uint16(64), b)
	f.Add(uint16(65), b)
	f.Add(uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, dim uint16, b []byte) {
		d := 1 + int(dim-1)%rabitq.MaxDim
		requirePartition(t, d, b)
		const ends, centroid = 4, 4 // bytes of the end of a group, and of a scale
		fine := (d + 63) / 64 * 64 / 2
		if n := len(b); n > 8 {
			leaves := min((n-8-ends-centroid-fine)/(centroid+fine), rabitq.MaxLeaves)
			if leaves < 1 {
				return
			}
			one := slices.Clone(b[:8+ends+(1+leaves)*(centroid+fine)])
			binary.LittleEndian.PutUint32(one, 1)
			binary.LittleEndian.PutUint32(one[4:], uint32(leaves))
			binary.LittleEndian.PutUint32(one[8:], uint32(leaves))
			requirePartition(t, d, one)
		}
	})
}

// requirePartition requires of b, if it is a partition, that it is sound.
func requirePartition(t *testing.T, dim int, b []byte) {
	t.Helper()
	p, ok := rabitq.DecodePartition(dim, b)
	if !ok {
		return
	}
	require.Equal(t, b, p.Append(nil))
	r := rabitq.NewRotation(dim, 1)
	codes := encodeAll(r, gaussianVectors(3, dim, 4))
	for _, leaf := range p.AppendLeaves(nil, codes.Fine) {
		require.Less(t, int(leaf), p.Leaves())
	}
	query := rabitq.NewQuery(r, rabitq.TwoBits)
	query.SetCode(codes.Fine[:r.FineBytes()])
	seen := make([]bool, p.Leaves())
	for leaf := range p.Nearest(query, 0.5) {
		require.False(t, seen[leaf])
		seen[leaf] = true
	}
	require.NotContains(t, seen, false)
}
