package engram

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// An embedding is found by its direction, however long it is, and no length
// makes a checkpoint that does not decode: that would stop all writes.
func TestEmbeddingsOfAnyLength(t *testing.T) {
	long := func(x, y float32) [][]float32 {
		return [][]float32{{x, y, 0}, {x / 2, y, 0}, {-x, y, y}}
	}
	for _, embeddings := range [][][]float32{
		long(1, 0.5), long(math.MaxFloat32, math.MaxFloat32/2), long(1e20, 5e19), long(1e-20, 5e-21),
		long(1e38, 1e37), long(64*math.SmallestNonzeroFloat32, 32*math.SmallestNonzeroFloat32),
	} {
		s, _ := newTestSpace(t, Options{})
		ids := []string{"a", "b", "c"}
		for i, e := range embeddings {
			remember(t, s, Memory{ID: ids[i], Content: "x", Embedding: e})
		}
		nearest := func() {
			t.Helper()
			for i, e := range embeddings {
				found := recall(t, s, Cue{Embedding: e, Limit: 1})
				require.Equal(t, []string{ids[i]}, recalledIDs(found), "%v", e)
				require.InDelta(t, 1, found[0].Why.Vector, 1e-6)
			}
		}
		nearest()
		require.NoError(t, s.Checkpoint(background))
		nearest()
	}
}

// A cosine is that of the exact sums, whatever the lengths are of which it is one.
func TestCosine(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 1))
	for _, dim := range []int{1, 7, 8, 100, 768} {
		for _, length := range []float32{1e-38, 1e-20, 1e-10, 1, 1e10, 1e15, 1e20, 1e36} {
			a, b := make([]float32, dim), make([]float32, dim)
			for i := range a {
				a[i] = float32(random.NormFloat64())
				b[i] = length * (a[i] + float32(random.NormFloat64()))
			}
			require.InDelta(t, unitProduct(a, b), cosine(a, b), 1e-5, "dim %d, length %g", dim, length)
			require.InDelta(t, 1, cosine(b, b), 1e-6, "dim %d, length %g", dim, length)
			require.LessOrEqual(t, cosine(b, b), 1.0)
		}
	}
}
