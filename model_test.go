package engram

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// registryModel drives a registry and a map that does the same, and compares.
type registryModel struct {
	fs     *memoryFS
	r      *Registry
	spaces map[SpaceID]*modelSpace
	stale  []*Space // of deleted spaces
}

// modelSpace is a space as it must be.
type modelSpace struct {
	handle      *Space
	incarnation string
	seq         uint64
	memories    map[string]Memory // ID, Content, Episode
	vectors     crashState        // content, and whose vectors of it there are
	last        *modelRequest
}

// modelRequest is a write with a request id, and what it returned.
type modelRequest struct {
	id       string
	batch    []Memory
	receipts []Receipt
}

var ( // what the machine draws from; few, so that operations meet
	modelSpaces   = []SpaceID{"aaa", "aaab", "aaa-b"}
	modelIDs      = []string{"m1", "m2", "m3", "m4"}
	modelWords    = []string{"green", "tea", "river", "stone", "winter"}
	modelEpisodes = []string{"", "morning", "evening"}
)

func modelOptions(t *rapid.T) Options {
	opts := Options{
		JournalBytes: minJournalBytes,
		Durability:   rapid.SampledFrom([]Durability{Sync, Interval(1e6), None}).Draw(t, "durability"),
	}
	opts.seams.segmentBytes = rapid.SampledFrom([]int64{600, 4000, 1 << 20}).Draw(t, "segment bytes")
	opts.seams.checkpointBytes = rapid.SampledFrom([]int64{1500, 8000, 1 << 20}).Draw(t, "checkpoint bytes")
	return opts
}

func (m *registryModel) open(t *rapid.T) {
	opts := modelOptions(t)
	opts.seams.fs, opts.seams.settleHang = m.fs, patient
	r, err := Open("", opts)
	require.NoError(t, err)
	m.r = r
	if rapid.Bool().Draw(t, "tiny journal") {
		tinyJournal(r)
	}
	for id, s := range m.spaces {
		s.handle = get(t, r, id)
	}
}

// any draws a space that exists.
func (m *registryModel) any(t *rapid.T) (SpaceID, *modelSpace) {
	if len(m.spaces) == 0 {
		t.Skip("no space exists yet")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.spaces))).Draw(t, "space")
	return id, m.spaces[id]
}

func (m *registryModel) create(t *rapid.T) {
	id := rapid.SampledFrom(modelSpaces).Draw(t, "new space")
	s, err := m.r.Create(background, id, SpaceConfig{})
	if m.spaces[id] != nil {
		require.ErrorIs(t, err, ErrSpaceExists)
		s, err = m.r.GetOrCreate(background, id, SpaceConfig{})
		require.NoError(t, err)
		require.Same(t, m.spaces[id].handle, s)
		return
	}
	require.NoError(t, err)
	m.spaces[id] = &modelSpace{handle: s, incarnation: infoOf(t, s).Incarnation, seq: 1, memories: map[string]Memory{}, vectors: crashState{}}
}

func (m *registryModel) delete(t *rapid.T) {
	id, s := m.any(t)
	require.NoError(t, m.r.Delete(background, id))
	delete(m.spaces, id)
	m.stale = append(m.stale, s.handle)
}

func (m *registryModel) rename(t *rapid.T) {
	id, s := m.any(t)
	to := rapid.SampledFrom(modelSpaces).Draw(t, "to")
	err := m.r.Rename(background, id, to)
	if to != id && m.spaces[to] != nil {
		require.ErrorIs(t, err, ErrSpaceExists)
		return
	}
	require.NoError(t, err)
	delete(m.spaces, id)
	m.spaces[to] = s
	require.Equal(t, to, s.handle.ID())
}

func (m *registryModel) remember(t *rapid.T) {
	id, s := m.any(t)
	batch := make([]Memory, rapid.IntRange(1, 4).Draw(t, "batch"))
	for i := range batch {
		words := rapid.SliceOfN(rapid.SampledFrom(modelWords), 1, 4).Draw(t, "words")
		batch[i] = Memory{
			ID:      rapid.SampledFrom(modelIDs).Draw(t, "id"),
			Content: fmt.Sprintf("%s %v", s.incarnation, words),
			Episode: rapid.SampledFrom(modelEpisodes).Draw(t, "episode"),
		}
	}
	_, err := s.handle.RememberBatch(background, batch, ExpectSeq(s.seq+1))
	require.ErrorIs(t, err, ErrConflict)
	var opts []WriteOption
	if rapid.Bool().Draw(t, "with a request id") {
		s.last = &modelRequest{id: fmt.Sprint("r-", s.seq), batch: batch}
		opts = append(opts, RequestID(s.last.id), ExpectSeq(s.seq))
	}
	receipts, err := s.handle.RememberBatch(background, batch, opts...)
	require.NoError(t, err)
	if opts != nil {
		s.last.receipts = receipts
	}
	for i, r := range receipts {
		require.Equal(t, Receipt{ID: batch[i].ID, Seq: s.seq + uint64(i) + 1}, r)
		s.vectors[r.ID] = crashMemory{content: batch[i].Content}
		s.memories[r.ID] = Memory{ID: r.ID, Content: batch[i].Content, Episode: batch[i].Episode, Seq: r.Seq, Space: id}
	}
	s.seq += uint64(len(batch))
}

// retry repeats the last request, which must change nothing, whatever happened
// to its memories and to the registry since.
func (m *registryModel) retry(t *rapid.T) {
	_, s := m.any(t)
	if s.last == nil {
		t.Skip("there was no request")
	}
	receipts, err := s.handle.RememberBatch(background, s.last.batch, RequestID(s.last.id))
	require.NoError(t, err)
	require.Equal(t, s.last.receipts, receipts)
	_, err = s.handle.Remember(background, Memory{Content: "another payload"}, RequestID(s.last.id))
	require.ErrorIs(t, err, ErrRequestReused)
}

func (m *registryModel) lookup(t *rapid.T) {
	id, s := m.any(t)
	key := rapid.SampledFrom(modelIDs).Draw(t, "id")
	found, err := s.handle.Lookup(background, key)
	want, exists := s.memories[key]
	if !exists {
		require.ErrorIs(t, err, ErrMemoryNotFound)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want.Content, found.Content)
	require.Equal(t, want.Seq, found.Seq)
	require.Equal(t, id, found.Space)
}

func (m *registryModel) forget(t *rapid.T) {
	_, s := m.any(t)
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(modelIDs), 1, 3, rapid.ID[string]).Draw(t, "ids")
	n := 0
	for _, id := range ids {
		if _, found := s.memories[id]; found {
			n++
			delete(s.memories, id)
			delete(s.vectors, id)
		}
	}
	receipt, err := s.handle.Forget(background, ids)
	m.forgotten(t, s, n, receipt, err)
}

func (m *registryModel) forgetWhere(t *rapid.T) {
	_, s := m.any(t)
	episode := rapid.SampledFrom(modelEpisodes[1:]).Draw(t, "episode")
	n := 0
	for id, memory := range s.memories {
		if memory.Episode == episode {
			n++
			delete(s.memories, id)
			delete(s.vectors, id)
		}
	}
	receipt, err := s.handle.ForgetWhere(background, Filter{Episode: episode})
	m.forgotten(t, s, n, receipt, err)
}

func (m *registryModel) forgotten(t *rapid.T, s *modelSpace, n int, receipt ForgetReceipt, err error) {
	require.NoError(t, err)
	if n > 0 {
		s.seq++
	}
	require.Equal(t, ForgetReceipt{Seq: s.seq, Forgotten: n}, receipt)
}

// recall asks as the oracle of the recall tests does; check has compared the
// memories that the oracle scores.
func (m *registryModel) recall(t *rapid.T) {
	id, s := m.any(t)
	cue := Cue{
		Text:   rapid.SampledFrom(modelWords).Draw(t, "word"),
		Limit:  rapid.IntRange(1, 5).Draw(t, "limit"),
		Filter: Filter{Episode: rapid.SampledFrom(modelEpisodes).Draw(t, "episode")},
	}
	requireOracle(t, s.handle, cue)
	for _, r := range recall(t, s.handle, cue) {
		require.Equal(t, id, r.Memory.Space)
		require.Equal(t, s.memories[r.Memory.ID].Content, r.Memory.Content)
	}
}

// embed goes some steps on the way to vectors, or from one embedder's to another's.
func (m *registryModel) embed(t *rapid.T) {
	_, s := m.any(t)
	for range rapid.IntRange(1, 4).Draw(t, "steps") {
		step, err := nextVectorStep(s.handle, s.vectors, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "vectors") })
		require.NoError(t, err)
		if step.do == nil {
			continue
		}
		require.NoError(t, step.do())
		s.seq += uint64(step.operations)
		s.vectors = step.after
	}
}

func (m *registryModel) checkpoint(t *rapid.T) {
	_, s := m.any(t)
	require.NoError(t, s.handle.Checkpoint(background))
	if a := s.handle.awake.Load(); a != nil {
		require.LessOrEqual(t, a.store.view().leastCheckpointBytes(), a.maintenance.size.Load())
	}
}

func (m *registryModel) sleep(t *rapid.T) {
	_, s := m.any(t)
	s.handle.sleep()
}

func (m *registryModel) settle(t *rapid.T) { require.NoError(t, m.r.Settle(background)) }

func (m *registryModel) reopen(t *rapid.T) {
	require.NoError(t, m.r.Close())
	m.stale = nil
	m.open(t)
}

// kill goes on with what a killed process leaves: the operating system has all
// that was written.
func (m *registryModel) kill(t *rapid.T) {
	left := m.fs.clone()
	require.NoError(t, m.r.Close())
	m.fs, m.stale = left, nil
	m.open(t)
}

// check compares everything that can be seen.
func (m *registryModel) check(t *rapid.T) {
	require.Equal(t, slices.Sorted(maps.Keys(m.spaces)), append([]SpaceID(nil), spaceIDs(m.r, "")...))
	for _, s := range m.stale {
		_, err := s.Lookup(background, "m1")
		require.ErrorIs(t, err, ErrSpaceDeleted)
	}
	for id, s := range m.spaces {
		require.Same(t, s.handle, get(t, m.r, id))
		listed := make(map[string]Memory)
		all := list(t, s.handle, Filter{})
		require.True(t, slices.IsSortedFunc(all, compareMemories))
		for _, memory := range all {
			listed[memory.ID] = Memory{
				ID: memory.ID, Content: memory.Content, Episode: memory.Episode, Seq: memory.Seq, Space: memory.Space,
			}
		}
		for key, memory := range s.memories {
			memory.Space = id // it may have been renamed since
			s.memories[key] = memory
		}
		require.Equal(t, s.memories, listed)
		held := s.vectors.changed(func(m *crashMemory) { m.vector, m.next = "", "" })
		require.NoError(t, readVectors(s.handle, held))
		require.Equal(t, s.vectors, held)
		info := infoOf(t, s.handle)
		require.Equal(t, s.incarnation, info.Incarnation)
		require.Equal(t, s.seq, info.Seq)
		require.Equal(t, int64(len(s.memories)), info.Memories)
	}
}

func TestRegistryAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &registryModel{fs: newMemoryFS(), spaces: make(map[SpaceID]*modelSpace)}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"":            m.check,
			"create":      m.create,
			"delete":      m.delete,
			"rename":      m.rename,
			"remember":    m.remember,
			"retry":       m.retry,
			"lookup":      m.lookup,
			"forget":      m.forget,
			"forgetWhere": m.forgetWhere,
			"recall":      m.recall,
			"embed":       m.embed,
			"checkpoint":  m.checkpoint,
			"sleep":       m.sleep,
			"settle":      m.settle,
			"reopen":      m.reopen,
			"kill":        m.kill,
		})
		require.NoError(t, m.r.Close())
	})
}

// TestRegistryUnderStress has many goroutines create, write, rename, delete, put
// to sleep and check points of few spaces. Every content names the incarnation
// that it was written to: each accepted write must be found there, in order, and
// nowhere else.
func TestRegistryUnderStress(t *testing.T) {
	for name, budget := range map[string]int64{"room for all": 1 << 30, "room for two": 30 << 10, "no room": 1} {
		t.Run(name, func(t *testing.T) {
			opts := Options{JournalBytes: minJournalBytes, MemoryBudget: budget}
			opts.seams.segmentBytes, opts.seams.checkpointBytes = 4000, 16000
			m := newMemoryFS()
			r := openMemory(t, m, opts)
			accepted := newAcceptedWrites()
			var work sync.WaitGroup
			for worker := range 8 {
				work.Go(func() {
					random := rand.New(rand.NewPCG(1, uint64(worker)))
					for i := range scaled(400) {
						stressOnce(t, r, random, accepted, fmt.Sprintf("w%d-%d", worker, i))
					}
				})
			}
			work.Wait()
			accepted.requireIn(t, r)
			require.NoError(t, r.Close())
			r = openMemory(t, m, opts)
			accepted.requireIn(t, r)
			require.NoError(t, r.Close())
		})
	}
}

// acceptedWrites is what was acknowledged, by incarnation.
type acceptedWrites struct {
	mu     sync.Mutex
	writes map[string]map[string]string // incarnation -> id -> content
}

func newAcceptedWrites() *acceptedWrites {
	return &acceptedWrites{writes: make(map[string]map[string]string)}
}

func (a *acceptedWrites) add(incarnation, id, content string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writes[incarnation] == nil {
		a.writes[incarnation] = make(map[string]string)
	}
	a.writes[incarnation][id] = content
}

// requireIn requires that each space holds what was accepted for it, and nothing else.
func (a *acceptedWrites) requireIn(t *testing.T, r *Registry) {
	t.Helper()
	for id := range r.Spaces("") {
		s := get(t, r, id)
		held := make(map[string]string)
		for _, memory := range list(t, s, Filter{}) {
			require.Equal(t, id, memory.Space)
			held[memory.ID] = memory.Content
		}
		expected := a.writes[infoOf(t, s).Incarnation]
		if expected == nil {
			expected = map[string]string{}
		}
		require.Equal(t, expected, held)
	}
}

// stressOnce does one random thing. Which errors may come of the others' doing
// is all that it knows of them.
func stressOnce(t *testing.T, r *Registry, random *rand.Rand, accepted *acceptedWrites, name string) {
	t.Helper()
	id := modelSpaces[random.IntN(len(modelSpaces))]
	allow := func(err error, allowed ...error) {
		for _, a := range allowed {
			if errors.Is(err, a) {
				return
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	switch n := random.IntN(40); n {
	case 0:
		allow(r.Delete(background, id), ErrSpaceNotFound)
	case 1:
		allow(r.Rename(background, id, modelSpaces[random.IntN(len(modelSpaces))]), ErrSpaceNotFound, ErrSpaceExists, ErrSpaceDeleted)
	case 2:
		allow(r.Settle(background))
	default:
		s, err := r.GetOrCreate(background, id, SpaceConfig{})
		if err != nil {
			allow(err)
			return
		}
		stressSpace(s, n, name, accepted, allow)
	}
}

func stressSpace(s *Space, n int, name string, accepted *acceptedWrites, allow func(error, ...error)) {
	switch n {
	case 3:
		allow(s.Checkpoint(background), ErrSpaceDeleted)
	case 4:
		s.sleep()
	case 5, 6:
		for memory, err := range s.Memories(background, Filter{}) {
			allow(err, ErrSpaceDeleted)
			if err == nil && memory.ID == "" {
				allow(errors.New("a memory without an id was listed"))
			}
		}
	case 9:
		_, err := s.Verify(background)
		allow(err, ErrSpaceDeleted)
		_, err = s.Export(background, io.Discard)
		allow(err, ErrSpaceDeleted)
	case 10:
		for _, err := range s.Subscribe(background, 0) {
			allow(err, ErrSpaceDeleted, ErrTrimmed)
			break
		}
	case 7, 8:
		_, err := s.Recall(background, Cue{Text: "stress"})
		allow(err, ErrSpaceDeleted)
	default:
		// The memory is bound to the incarnation that is awake when it is told so.
		a, err := s.use(context.Background())
		if err != nil {
			allow(err, ErrSpaceDeleted)
			return
		}
		incarnation := a.identity.incarnation.String()
		a.uses.Add(-1)
		content := "stress " + incarnation
		_, err = s.Remember(background, Memory{ID: name, Content: content})
		allow(err, ErrSpaceDeleted)
		if err == nil {
			accepted.add(incarnation, name, content)
		}
	}
}
