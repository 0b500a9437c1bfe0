package engram

import (
	"math"
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
