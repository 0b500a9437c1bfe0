package engram

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/clouds"
	"github.com/engramdb/engram/internal/rabitq"
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
	log     *store // what the operations make, without a checkpoint; nil: nobody asks
}

func newPartitioned(t *testing.T, seed uint64) *partitioned {
	h := &partitioned{t: t, random: rand.New(rand.NewPCG(seed, 1)), disk: newMemoryFS(), known: make(map[string]Memory)}
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

// divide partitions the space whether it pays or not, and leaves its rows in the image
// as they stand. The fewer leaves are probed, the more of what is beside them shows.
func (h *partitioned) divide(slack float64) {
	a := h.awake()
	v := a.store.view()
	p := &partition{trained: v.vectors, slack: slack, scanned: 1600, depth: 40}
	p.leaves = rabitq.Train(a.store.rotations.of(v.dimension), v.image.present.vectors.codes.Fine, 60, a.going)
	require.NoError(h.t, h.s.divide(v, p))
	h.follow()
}

// scatter has further vectors lie anywhere.
func (h *partitioned) scatter() {
	for _, centre := range h.centres {
		clear(centre)
	}
}

func TestPartition(t *testing.T) {
	t.Parallel()
	h := newPartitioned(t, 1)
	h.write(5000)
	require.NoError(t, h.awake().runCheckpoint(background, false))
	require.NoError(t, h.awake().partition())
	p := h.partition()
	require.True(t, p.pays())
	t.Log(p.leaves.Leaves(), p.slack, p.scanned, p.depth, p.trained)
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

// The depth grows as that of a scan of all rows does, with how many are wanted, and with
// the square of the share of the rows that are scanned.
func TestPartitionDepth(t *testing.T) {
	p := &partition{trained: 1 << 18, scanned: 10_000, depth: 500}
	for _, c := range []struct {
		vectors       int64
		rows, n, want int
	}{
		{p.trained, 10_000, exactReads, 500},
		{p.trained, 20_000, exactReads, 2000},
		{p.trained, 2500, exactReads, 500},
		{4 * p.trained, 40_000, exactReads, 1000},
		{p.trained / 4, 2500, exactReads, 250},
		{p.trained, 10_000, 3 * exactReads, 1500},
		{p.trained, 100_000, exactReads, deepestOf(p.trained)},
	} {
		require.Equal(t, c.want, p.depthFor(c.vectors, c.rows, c.n), c)
	}
	hostile := &partition{trained: 1 << 62, scanned: 1, depth: 1}
	require.Equal(t, deepestOf(10_000), hostile.depthFor(10_000, 5000, exactReads+1))
}

// nearest returns the n memories nearest to the cue that satisfy its filter.
func (h *partitioned) nearest(cue Cue, n int) []Memory {
	var list []Memory
	for _, m := range h.known {
		if part, filtered := cue.Filter.Attributes["part"]; filtered && m.Attributes["part"] != part {
			continue
		}
		if unitProduct(cue.Embedding, m.Embedding) > 0 {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b Memory) int {
		return cmp.Compare(unitProduct(cue.Embedding, b.Embedding), unitProduct(cue.Embedding, a.Embedding))
	})
	return list[:min(n, len(list))]
}

// awaitTraining returns when no partition of the space is being made.
func awaitTraining(a *awake) {
	for a.maintenance.partitioning.Load() {
		time.Sleep(time.Millisecond)
	}
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
	if h.log == nil {
		return
	}
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
	t.Parallel()
	for seed := range uint64(scaled(2)) {
		h := newPartitioned(t, seed)
		h.log = newStore()
		h.scatter()
		h.write(3000)
		require.NoError(t, h.awake().runCheckpoint(background, false))
		for step := range 8 {
			switch h.random.IntN(5) {
			case 0:
				h.divide(0)
			case 1:
				require.NoError(t, h.awake().runCheckpoint(background, false))
			case 2:
				h.forget(10)
			case 3:
				asleep(t, h.s)
			case 4:
				h.reopen()
			}
			if step == 1 {
				h.divide(0)
			}
			h.write(400)
			cues := h.cues(10)
			for i := range cues {
				cues[i].Limit = 10 + 12*i // few enough that not all leaves are probed for it
			}
			want, digest := h.answers(h.awake(), cues), h.awake().store.digested()
			rebuilt := h.replayed()
			x := rebuilt.store.digested()
			require.Equal(t, x.sum(), digest.sum(), "seed %d step %d", seed, step)
			require.Equal(t, want, h.answers(rebuilt, cues), "seed %d step %d: replayed", seed, step)
			asleep(t, h.s)
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: woken", seed, step)
			require.NoError(t, h.awake().runCheckpoint(background, false))
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: all in the image", seed, step)
			asleep(t, h.s)
			require.Equal(t, want, h.answers(h.awake(), cues), "seed %d step %d: woken from it", seed, step)
		}
		require.True(t, h.partition().pays())
	}
}

// A filter leaves a recall as many memories as satisfy it, and where those are few,
// the very nearest: it is probed on until enough of them have been compared.
func TestPartitionedRecallsFilter(t *testing.T) {
	t.Parallel()
	h := newPartitioned(t, 3)
	h.write(5000)
	require.NoError(t, h.awake().runCheckpoint(background, false))
	require.NoError(t, h.awake().partition())
	h.write(500)
	h.forget(10)
	require.True(t, h.partition().pays())
	for i := range 200 {
		cue := Cue{Embedding: h.embedding(), Limit: 10, Filter: Filter{Attributes: map[string]string{"part": fmt.Sprint(i)}}}
		require.Equal(t, idsOf(h.nearest(cue, 10)), recalledIDs(recall(t, h.s, cue)), "part %d", i)
	}
}

// Where vectors lie anywhere, so do the nearest that a filter leaves, however many of
// others match in the leaves that are probed anyway.
func TestPartitionedRecallsFilterAnywhere(t *testing.T) {
	t.Parallel()
	h := newPartitioned(t, 6)
	h.scatter()
	var ms []Memory
	for i := range 4500 {
		m := Memory{ID: fmt.Sprint("m", i), Embedding: h.embedding(), Attributes: map[string]string{"part": fmt.Sprint(i % 3)}}
		h.known[m.ID] = m
		ms = append(ms, m)
	}
	for some := range slices.Chunk(ms, 500) {
		remember(t, h.s, some...)
	}
	require.NoError(t, h.awake().runCheckpoint(background, false))
	h.divide(0.1)
	require.NoError(t, h.awake().runCheckpoint(background, false))
	for range 10 {
		cue := Cue{Embedding: h.embedding(), Limit: 10, Filter: Filter{Attributes: map[string]string{"part": "1"}}}
		require.Equal(t, idsOf(h.nearest(cue, 10)), recalledIDs(recall(t, h.s, cue)))
	}
}

// Where most of what satisfies a filter points away from the cue, there is enough of it
// near by that does not match: a recall goes on to what does, wherever that stands.
func TestPartitionedRecallsFindWhatMatches(t *testing.T) {
	t.Parallel()
	h := newPartitioned(t, 5)
	h.scatter()
	cue := Cue{Embedding: h.gaussian(), Limit: 10, Filter: Filter{Attributes: map[string]string{"part": "odd"}}}
	var ms []Memory
	for matching := 0; len(ms) < 16_000; {
		m := Memory{ID: fmt.Sprint("m", len(ms)), Embedding: h.embedding(), Attributes: map[string]string{"part": "even"}}
		cosine := unitProduct(cue.Embedding, m.Embedding)
		if matches := cosine > 0.2 && matching < cue.Limit; matches || cosine < -0.05 {
			m.Attributes["part"] = "odd"
			if matches {
				matching++
			}
		}
		h.known[m.ID] = m
		ms = append(ms, m)
	}
	for some := range slices.Chunk(ms, 500) {
		remember(t, h.s, some...)
	}
	want := idsOf(h.nearest(cue, cue.Limit))
	require.Len(t, want, cue.Limit)
	require.NoError(t, h.awake().runCheckpoint(background, false))
	require.Equal(t, want, recalledIDs(recall(t, h.s, cue)), "scanned whole")
	h.divide(0)
	require.Equal(t, want, recalledIDs(recall(t, h.s, cue)))
	require.NoError(t, h.awake().runCheckpoint(background, false))
	require.Equal(t, want, recalledIDs(recall(t, h.s, cue)), "with the rows by leaves")
}

// A cue is no memory, and may lie between them, or be less like them than they are like
// each other: what is nearest to it is found all the same.
func TestPartitionHoldsWhatIsNearToCues(t *testing.T) {
	t.Parallel()
	const dim = 256
	for name, c := range map[string]struct {
		cloud, rows int
		vectors     int64
		least       float64
	}{
		"clusters": {1, 10_000, 10_000, fewRecall},
		"spectrum": {3, 33_000, scanRows + 1, 0.98},
	} {
		cloud := clouds.Of(dim, rand.New(rand.NewPCG(5, 5)))[c.cloud]
		between, noisy := drawBetween(cloud, dim), drawNoisy(cloud, dim)
		v, truths := drawImage(cloud, dim, c.rows, append(between, noisy...))
		v.vectors = c.vectors // as if the others had come since
		a := &awake{store: newStore()}
		v.partition = v.train(a.store.rotations.of(dim), func() bool { return true })
		require.True(t, v.partition.pays(), name)
		v.image = sortedByLeaf(v.image, v.partition)
		q := &recalling{reader: &reader{awake: a, view: v}, scratch: new(scratch), matcher: v.matcher(new(Filter))}
		ofBetween, scanned := searched(q, truths[:100], between)
		ofNoisy, noisyScanned := searched(q, truths[100:], noisy)
		t.Log(name, ofBetween, scanned, ofNoisy, noisyScanned)
		require.InEpsilon(t, scanned/float64(c.rows), float64(v.partition.scanned)/float64(c.vectors), 0.2, name)
		require.GreaterOrEqual(t, ofBetween, c.least, name)
		require.GreaterOrEqual(t, ofNoisy, 0.97, name)
	}
}

// Where all vectors are as far from each other as they can be, no part of them holds
// what is near: they are scanned whole, as before, and it is not tried again.
func TestPartitionThatDoesNotPay(t *testing.T) {
	t.Parallel()
	h := newPartitioned(t, 4)
	h.scatter()
	h.write(3000)
	require.NoError(t, h.awake().runCheckpoint(background, false))
	cues := h.cues(20)
	want := h.answers(h.awake(), cues)
	require.True(t, h.awake().store.partitionDue(2000))
	require.NoError(t, h.awake().partition())
	p := h.partition()
	require.NotNil(t, p)
	require.False(t, p.pays())
	require.False(t, h.awake().store.partitionDue(2000))
	for i, answer := range h.answers(h.awake(), cues) {
		require.Equal(t, want[i].Recollections, answer.Recollections)
	}
	require.NoError(t, h.awake().runCheckpoint(background, false))
	asleep(t, h.s)
	require.Equal(t, p, h.partition())
	require.False(t, h.awake().store.partitionDue(2000))
	_, err := h.s.Verify(background)
	require.NoError(t, err)
	h.write(3 * 3000 * 2)
	require.True(t, h.awake().store.partitionDue(2000), "it has grown")
}

// A checkpoint of a large space has it partitioned beside reads and writes.
func TestCheckpointPartitions(t *testing.T) {
	h := newPartitioned(t, 5)
	h.opts.seams.partitionRows = 2000
	h.reopen()
	h.write(3000)
	before := h.awake().store.seq
	require.NoError(t, h.s.Checkpoint(background))
	h.write(100)
	awaitTraining(h.awake())
	v := h.awake().store.view()
	require.True(t, v.image.present.isBy(v.partition))
	require.Greater(t, v.image.seq, before)
	_, err := h.s.Verify(background)
	require.NoError(t, err)
	kinds := make(map[EventKind]int)
	for e, err := range h.s.Subscribe(background, before) {
		require.NoError(t, err)
		kinds[e.Kind]++
		if e.Seq == v.seq {
			break
		}
	}
	require.Equal(t, map[EventKind]int{Remembered: 100 - kinds[Replaced], Replaced: kinds[Replaced], Partitioned: 1}, kinds)
	require.NoError(t, h.s.Checkpoint(background))
	require.False(t, h.awake().maintenance.partitioning.Load(), "it is partitioned")
}

// Spaces are partitioned one after the other. One that waits may fall asleep, and is
// due again then.
func TestTrainingTakesTurns(t *testing.T) {
	h := newPartitioned(t, 8)
	h.opts.seams.partitionRows = 2000
	h.reopen()
	h.write(3000)
	due := h.awake()
	training := &h.s.registry.training
	training.Lock()
	require.NoError(t, h.s.Checkpoint(background))
	require.True(t, due.maintenance.partitioning.Load())
	asleep(t, h.s)
	require.Nil(t, h.partition())
	training.Unlock()
	awaitTraining(due)
	require.Nil(t, h.partition(), "the one that waited was of a space that slept")
	require.NoError(t, h.s.Checkpoint(background))
	awaitTraining(h.awake())
	require.True(t, h.partition().pays())
}

// Closing ends a training that is under way, and leaves the space as it was.
func TestCloseEndsTraining(t *testing.T) {
	h := newPartitioned(t, 6)
	h.opts.seams.partitionRows = 2000
	h.reopen()
	h.write(3000)
	require.NoError(t, h.s.Checkpoint(background))
	h.reopen()
	if p := h.partition(); p != nil {
		t.Skip("it was faster")
	}
	cue := Cue{Embedding: h.embedding(), Limit: 10}
	require.Len(t, recall(t, h.s, cue), 10)
}

// What another space holds shows in nothing that a partition is.
func TestPartitionIsOfItsSpaceAlone(t *testing.T) {
	t.Parallel()
	var digests []string
	for _, others := range []int{0, 3000} {
		h := newPartitioned(t, 7)
		if others > 0 {
			other := &partitioned{t: t, random: rand.New(rand.NewPCG(8, 1)), known: make(map[string]Memory)}
			other.centres = append(other.centres, other.gaussian(), other.gaussian())
			other.s = create(t, h.s.registry, "beta")
			other.write(others)
			require.NoError(t, other.awake().runCheckpoint(background, false))
			require.NoError(t, other.awake().partition())
		}
		h.write(3000)
		require.NoError(t, h.awake().runCheckpoint(background, false))
		require.NoError(t, h.awake().partition())
		require.True(t, h.partition().pays())
		digests = append(digests, fmt.Sprintf("%x", sha256.Sum256(h.partition().leaves.Append(nil))))
	}
	require.Equal(t, digests[0], digests[1])
}

// A partition is of the generation of vectors that it names, and goes with it.
func TestApplyPartition(t *testing.T) {
	s := newStore()
	apply := applier(s)
	divide := func(generation uint64, dimension int) operation {
		p := *examplePartition()
		return operation{kind: opPartition, generation: generation, dimension: dimension, partition: p}
	}
	apply(divide(0, 2))
	require.Nil(t, s.partition, "there are no vectors")
	apply(operation{kind: opRemember, memory: Memory{ID: "a"}}) // 2
	apply(operation{kind: opEmbedder, generation: 1, embedder: "x", dimension: 2})
	apply(divide(0, 2))
	apply(divide(1, 3))
	apply(divide(2, 2))
	require.Nil(t, s.partition)
	apply(divide(1, 2))
	require.Equal(t, s.seq, s.partition.number)
	dead := s.use(1).dead
	apply(divide(1, 2))
	require.Equal(t, s.seq, s.partition.number)
	require.Equal(t, dead+10, s.use(1).dead, "a checkpoint holds what the record says")
	apply(operation{kind: opReembed, embedder: "y", dimension: 2})
	next := s.seq
	require.NotNil(t, s.partition)
	require.False(t, s.partitionDue(0), "its vectors will soon be dropped")
	apply(operation{kind: opSwitch, generation: next})
	require.Nil(t, s.partition)
	apply(divide(1, 2))
	require.Nil(t, s.partition)
	apply(divide(next, 2))
	require.NotNil(t, s.partition)
}
