package engram

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const partitionDim = 32

// partitioned is a space whose vectors lie in clusters, beside what it should hold.
type partitioned struct {
	t       *testing.T
	random  *rand.Rand
	s       *Space
	opts    Options
	disk    *memoryFS
	centres [][]float32
	known   map[string]Memory
	next    int
	log     *store // what the operations make, without a checkpoint
}

func newPartitioned(t *testing.T, seed uint64) *partitioned {
	h := &partitioned{t: t, random: rand.New(rand.NewPCG(seed, 1)), disk: newMemoryFS(), known: make(map[string]Memory), log: newStore()}
	h.opts.seams.checkpointBytes, h.opts.seams.partitionRows = 1<<40, 1<<40 // when the test says
	h.s = create(t, openMemory(t, h.disk, h.opts), "alpha")
	t.Cleanup(func() { require.NoError(t, h.s.registry.Close()) })
	for range 24 {
		h.centres = append(h.centres, h.gaussian())
	}
	return h
}

func (h *partitioned) gaussian() []float32 {
	v := make([]float32, partitionDim)
	for i := range v {
		v[i] = float32(h.random.NormFloat64())
	}
	return v
}

func (h *partitioned) embedding() []float32 {
	v := h.gaussian()
	for i, x := range h.centres[h.random.IntN(len(h.centres))] {
		v[i] = 0.3*v[i] + x
	}
	return v
}

// write remembers n memories with an embedding, some of them in place of others.
func (h *partitioned) write(n int) {
	for n > 0 {
		var ms []Memory
		for ; n > 0 && len(ms) < 500; n-- {
			m := Memory{
				ID: fmt.Sprint("m", h.next), Time: time.Unix(int64(h.random.IntN(50)), 0), Content: "x",
				Embedding: h.embedding(), Attributes: map[string]string{"part": fmt.Sprint(h.random.IntN(200))},
			}
			if h.next++; h.random.IntN(10) == 0 {
				m.ID = fmt.Sprint("m", h.random.IntN(h.next))
			}
			ms = append(ms, m)
			h.known[m.ID] = m
		}
		remember(h.t, h.s, ms...)
		h.follow()
	}
}

// awake is the space's loaded state.
func (h *partitioned) awake() *awake {
	a, err := h.s.use(background)
	require.NoError(h.t, err)
	a.uses.Add(-1)
	return a
}

func (h *partitioned) partition() *partition {
	return h.awake().store.view().partition
}

// train partitions the space, and leaves its rows in the image as they stand.
func (h *partitioned) train() {
	_, err := h.awake().logPartition()
	require.NoError(h.t, err)
	h.follow()
}

func TestPartition(t *testing.T) {
	h := newPartitioned(t, 1)
	h.write(5000)
	require.NoError(t, h.awake().runCheckpoint(false))
	require.NoError(t, h.awake().partition())
	p := h.partition()
	require.True(t, p.pays())
	t.Log(p.leaves.Leaves(), p.probe, p.trained)
	require.True(t, h.awake().store.view().image.present.isBy(p))
	hits := 0
	for range 100 {
		cue := Cue{Embedding: h.embedding(), Limit: 10}
		found := make(map[string]bool)
		for _, id := range recalledIDs(recall(t, h.s, cue)) {
			found[id] = true
		}
		for _, m := range h.nearest(cue, 10) {
			if found[m.ID] {
				hits++
			}
		}
	}
	require.GreaterOrEqual(t, hits, 980)
}

// nearest returns the n memories nearest to the cue that satisfy its filter.
func (h *partitioned) nearest(cue Cue, n int) []Memory {
	var list []Memory
	for _, m := range h.known {
		if part, filtered := cue.Filter.Attributes["part"]; filtered && m.Attributes["part"] != part {
			continue
		}
		if cosine(cue.Embedding, m.Embedding) > 0 {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b Memory) int {
		return cmp.Compare(cosine(cue.Embedding, b.Embedding), cosine(cue.Embedding, a.Embedding))
	})
	return list[:min(n, len(list))]
}

// forget forgets one in so many.
func (h *partitioned) forget(one int) {
	for _, id := range slices.Sorted(maps.Keys(h.known)) {
		if h.random.IntN(one) == 0 {
			forget(h.t, h.s, id)
			delete(h.known, id)
		}
	}
	h.follow()
}

// reopen opens the registry again; the space is woken from its files.
func (h *partitioned) reopen() {
	require.NoError(h.t, h.s.registry.Close())
	h.s = get(h.t, openMemory(h.t, h.disk, h.opts), "alpha")
}

// follow applies what was committed since to the state that only operations make.
func (h *partitioned) follow() {
	a, rebuilt := h.awake(), h.log
	history := historyReader{space: h.s, next: rebuilt.seq + 1}
	for rebuilt.seq < a.store.seq {
		f, err := history.read(background)
		require.NoError(h.t, err)
		at := history.reader.offset - int64(encodedLen(len(f.payload))) + frameHeaderBytes
		for records := f.payload; len(records) > 0; {
			n, err := splitRecord(records)
			require.NoError(h.t, err)
			op, err := decodeOperation(records[:n], a.identity.key, rebuilt.seq+1)
			require.NoError(h.t, err)
			op.record = locator{segment: history.reader.at.number, offset: at, length: n}
			op.analysis = rebuilt.config.Analyzer.analyzeMemory(op.memory.Content)
			rebuilt.apply(&op)
			records, at = records[n:], at+int64(n)
		}
		history.next = rebuilt.seq + 1
	}
	rebuilt.publish()
}

// replayed is the space if its log alone were there. Its memories are where they were
// written: no segment that holds any has been rewritten.
func (h *partitioned) replayed() *awake {
	a := h.awake()
	return &awake{space: a.space, registry: a.registry, identity: a.identity, store: h.log, log: a.log, analyzer: a.analyzer}
}

// cues are some of each kind: without a filter, and with one that few satisfy.
func (h *partitioned) cues(n int) []Cue {
	var cues []Cue
	for i := range n {
		cue := Cue{Embedding: h.embedding(), Limit: 10}
		if i%2 == 1 {
			cue.Filter.Attributes = map[string]string{"part": fmt.Sprint(h.random.IntN(200))}
		}
		cues = append(cues, cue)
	}
	return cues
}

func (h *partitioned) answers(a *awake, cues []Cue) []Recall {
	var answers []Recall
	for _, cue := range cues {
		r := a.read()
		answer, err := r.recall(background, &cue, askedVector{})
		r.close()
		require.NoError(h.t, err)
		answers = append(answers, answer)
	}
	return answers
}

// Whatever became of a space between, the answers are the same to the last bit:
// replayed from its log alone, woken from a checkpoint, with what came since in
// memory, and where nothing came since.
func TestPartitionedAnswersShowTheStateAlone(t *testing.T) {
	for seed := range uint64(scaled(2)) {
		h := newPartitioned(t, seed)
		h.write(3000)
		require.NoError(t, h.awake().runCheckpoint(false))
		for step := range 8 {
			switch h.random.IntN(5) {
			case 0:
				h.train()
			case 1:
				require.NoError(t, h.awake().runCheckpoint(false))
			case 2:
				h.forget(10)
			case 3:
				asleep(t, h.s)
			case 4:
				h.reopen()
			}
			if step == 1 {
				h.train()
			}
			h.write(400)
			cues := h.cues(10)
			want, digest := h.answers(h.awake(), cues), h.awake().store.digested()
			rebuilt := h.replayed()
			x := rebuilt.store.digested()
			require.Equal(t, x.sum(), digest.sum(), "seed %d step %d", seed, step)
			require.Equal(t, want, h.answers(rebuilt, cues), "seed %d step %d: replayed", seed, step)
			asleep(t, h.s)
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: woken", seed, step)
			require.NoError(t, h.awake().runCheckpoint(false))
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: all in the image", seed, step)
			asleep(t, h.s)
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: woken from it", seed, step)
		}
		require.True(t, h.partition().pays())
	}
}
