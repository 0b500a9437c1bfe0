package engram

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Of more equal embeddings than are compared, the newest are: in the order of
// their seqs, whatever order the rows of an image have.
func TestRecallCutsWideTiesByAge(t *testing.T) {
	for _, n := range []int{exactReads + 8, scanDepth + 100} {
		s, _ := newTestSpace(t, Options{})
		var ms []Memory
		for i := range n {
			ms = append(ms, Memory{
				ID: fmt.Sprint(i), Content: "x", Time: time.Unix(int64(i*7919%n), 0), Embedding: []float32{1, 2, 3},
			})
		}
		want := []string{fmt.Sprint(n - 1), fmt.Sprint(n - 2), fmt.Sprint(n - 3)}
		cue := Cue{Embedding: []float32{3, 1, 1}, Limit: 3}
		remember(t, s, ms[:n/2]...)
		remember(t, s, ms[n/2:]...)
		require.Equal(t, want, recalledIDs(recall(t, s, cue)), "recent")
		require.NoError(t, s.Checkpoint(background))
		require.Equal(t, want, recalledIDs(recall(t, s, cue)), "imaged")
		remember(t, s, ms[n-1])
		require.Equal(t, want, recalledIDs(recall(t, s, cue)), "both")
	}
}

func TestScanDepthGrows(t *testing.T) {
	for vectors, want := range map[int64]int{0: 800, 10_000: 800, scanRows: 800, 100_000: 988, 4 * scanRows: 1600, 1_000_000: 3125} {
		require.Equal(t, want, scanDepthOf(vectors), "%d vectors", vectors)
	}
}

// vectorHistory is a space beside what it should hold.
type vectorHistory struct {
	t      *testing.T
	random *rand.Rand
	opts   Options
	disk   *memoryFS
	r      *Registry
	s      *Space
	dim    int
	known  map[string]Memory
}

func (h *vectorHistory) embedding() []float32 {
	v := make([]float32, h.dim)
	for i := range v {
		v[i] = float32(h.random.NormFloat64())
	}
	if h.dim == 1 {
		v[0] = float32(1 - 2*h.random.IntN(2)) // nothing but ties
	}
	return v
}

// write remembers, replaces and forgets n times.
func (h *vectorHistory) write(n int) {
	var ms []Memory
	for range n {
		m := Memory{
			ID: fmt.Sprint("m", h.random.IntN(150)), Time: time.Unix(int64(h.random.IntN(50)), 0),
			Content: "x", Embedding: h.embedding(), Attributes: map[string]string{"tenth": fmt.Sprint(h.random.IntN(10))},
		}
		switch h.random.IntN(8) {
		case 0:
			m.Embedding = nil
		case 1: // a tie
			if other, found := h.known[fmt.Sprint("m", h.random.IntN(150))]; found {
				m.Embedding = other.Embedding
			}
		}
		ms = append(ms, m)
		h.known[m.ID] = m
	}
	for i, receipt := range remember(h.t, h.s, ms...) {
		if m := h.known[ms[i].ID]; m.Seq < receipt.Seq {
			m = ms[i]
			m.Seq = receipt.Seq
			h.known[m.ID] = m
		}
	}
	for id := range h.known {
		if h.random.IntN(20) == 0 {
			forget(h.t, h.s, id)
			delete(h.known, id)
		}
	}
}

// exact returns the ids of the memories that are near to the cue, nearest first.
func (h *vectorHistory) exact(cue Cue) []string {
	var list []Memory
	scores := make(map[string]float64)
	for id, m := range h.known {
		if want, filtered := cue.Filter.Attributes["tenth"]; len(m.Embedding) == 0 || filtered && m.Attributes["tenth"] != want {
			continue
		}
		if scores[id] = unitProduct(cue.Embedding, m.Embedding); scores[id] > 0 {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b Memory) int {
		return cmp.Or(cmp.Compare(scores[b.ID], scores[a.ID]), cmp.Compare(b.Seq, a.Seq))
	})
	return idsOf(list[:min(cue.Limit, len(list))])
}

// unitProduct is the product of x and y, once both have length one.
func unitProduct(x, y []float32) (product float64) {
	var xx, yy float64
	for i := range x {
		xx, yy = xx+float64(x[i])*float64(x[i]), yy+float64(y[i])*float64(y[i])
	}
	for i := range x {
		product += float64(x[i]) / math.Sqrt(xx) * float64(y[i]) / math.Sqrt(yy)
	}
	return product
}

// check compares the paths that are exact, and counts what the one by codes finds.
func (h *vectorHistory) check(cues []Cue) (found, wanted int) {
	for _, cue := range cues {
		want, got := h.exact(cue), recalledIDs(recall(h.t, h.s, cue))
		require.Len(h.t, got, len(want), "never fewer than there are")
		if len(h.known) <= exactReads || len(cue.Filter.Attributes) > 0 {
			require.Equal(h.t, want, got, "all are compared exactly")
		}
		for _, id := range want {
			wanted++
			if slices.Contains(got, id) {
				found++
			}
		}
	}
	return found, wanted
}

func (h *vectorHistory) answers(cues []Cue) (all [][]Recollection) {
	for _, cue := range cues {
		all = append(all, recall(h.t, h.s, cue))
	}
	return all
}

// change puts the space into another state that holds the same.
func (h *vectorHistory) change() {
	switch h.random.IntN(4) {
	case 0:
		require.NoError(h.t, h.s.Checkpoint(background))
	case 1:
		asleep(h.t, h.s)
	case 2:
		require.NoError(h.t, h.r.Close())
		h.r = openMemory(h.t, h.disk, h.opts)
	case 3: // killed
		killed := h.disk.clone()
		require.NoError(h.t, h.r.Close())
		h.disk = killed
		h.r = openMemory(h.t, h.disk, h.opts)
		_, err := h.r.RecoverAll(background)
		require.NoError(h.t, err)
	}
	h.s = get(h.t, h.r, "alpha")
}

// Whatever the dimension, and however memories are divided between an image and
// what was stored since: exact where all are compared, nearly so elsewhere, and
// the same answer from the same state.
func TestRecallByEmbeddingEqualsOracle(t *testing.T) {
	t.Parallel()
	for _, dim := range []int{1, 8, 9, 100, 768, 1536, MaxDimension} {
		t.Run(fmt.Sprint(dim), func(t *testing.T) {
			h := &vectorHistory{
				t: t, random: rand.New(rand.NewPCG(uint64(dim), 1)), disk: newMemoryFS(), dim: dim,
				opts: Options{Durability: None}, known: make(map[string]Memory),
			}
			h.r = openMemory(t, h.disk, h.opts)
			h.s = create(t, h.r, "alpha")
			found, wanted := 0, 0
			for range 3 {
				h.write(60)
				cues := []Cue{{Limit: 100}, {Limit: 10}, {Limit: 3}, {Limit: 10, Filter: Filter{Attributes: map[string]string{"tenth": "3"}}}}
				for i := range cues {
					cues[i].Embedding = h.embedding()
				}
				hits, all := h.check(cues)
				found, wanted = found+hits, wanted+all
				before := h.answers(cues)
				for range 2 {
					h.change()
					require.Equal(t, before, h.answers(cues), "the same state gives the same answer")
				}
			}
			require.GreaterOrEqual(t, float64(found), 0.99*float64(wanted))
			require.NoError(t, h.r.Close())
		})
	}
}
