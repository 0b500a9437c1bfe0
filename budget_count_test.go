package engram

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engramdb/engram/internal/crashfs"
)

// requireCounted holds what the registry takes its spaces for to what each that is awake
// takes, once nothing is under way. Nobody uses them.
func requireCounted(t tester, r *Registry) {
	t.Helper()
	r.work.Wait()
	all := int64(0)
	for _, a := range r.loaded() {
		require.Zero(t, a.uses.Load(), "of %s", a.space.ID())
		require.Equal(t, awakeBytes+a.kept.Load()+a.store.footprint(), a.bytes.Load(), "of %s", a.space.ID())
		all += a.bytes.Load()
	}
	require.Equal(t, all, r.Stats().AwakeBytes)
	if len(r.loaded()) > 1 {
		require.LessOrEqual(t, all, r.options.MemoryBudget)
	}
}

// budgetModel does to spaces what changes what they take.
type budgetModel struct {
	r      *Registry
	fs     *crashfs.FS
	spaces []SpaceID // those that are there
	stored int
}

func (m *budgetModel) any(t *rapid.T) *Space {
	if len(m.spaces) == 0 {
		t.Skip("there is no space")
	}
	return get(t, m.r, rapid.SampledFrom(m.spaces).Draw(t, "space"))
}

// free draws an id that no space has.
func (m *budgetModel) free(t *rapid.T) SpaceID {
	return rapid.Custom(func(t *rapid.T) SpaceID {
		return SpaceID(fmt.Sprint("space-", rapid.IntRange(0, 30).Draw(t, "number")))
	}).Filter(func(id SpaceID) bool { return !slices.Contains(m.spaces, id) }).Draw(t, "id")
}

func (m *budgetModel) leave(id SpaceID) {
	m.spaces = slices.DeleteFunc(m.spaces, func(other SpaceID) bool { return other == id })
}

func (m *budgetModel) create(t *rapid.T) {
	id := m.free(t)
	create(t, m.r, id)
	m.spaces = append(m.spaces, id)
}

func (m *budgetModel) remember(t *rapid.T) {
	s := m.any(t)
	batch := make([]Memory, rapid.IntRange(1, 20).Draw(t, "memories"))
	for i := range batch {
		m.stored++
		batch[i] = Memory{
			ID:         fmt.Sprint("m", m.stored%50),
			Content:    strings.Repeat(fmt.Sprint("word ", m.stored%70, " "), rapid.IntRange(1, 10).Draw(t, "words")),
			Episode:    fmt.Sprint("episode ", m.stored%7),
			Attributes: map[string]string{"key": fmt.Sprint("value ", m.stored%11)},
			Embedding:  []float32{1, float32(m.stored % 5), 2},
		}
	}
	_, err := s.RememberBatch(background, batch, RequestID(fmt.Sprint("request ", m.stored)))
	require.NoError(t, err)
}

func (m *budgetModel) forget(t *rapid.T) {
	s, first := m.any(t), rapid.IntRange(0, 45).Draw(t, "first")
	for i := range 5 {
		forget(t, s, fmt.Sprint("m", first+i))
	}
}

func (m *budgetModel) recall(t *rapid.T) {
	recall(t, m.any(t), Cue{Text: fmt.Sprint("word ", m.stored%70)})
}

func (m *budgetModel) checkpoint(t *rapid.T) { require.NoError(t, m.any(t).Checkpoint(background)) }

func (m *budgetModel) sleep(t *rapid.T) { m.any(t).sleep() }

func (m *budgetModel) settle(t *rapid.T) { require.NoError(t, m.r.Settle(background)) }

func (m *budgetModel) delete(t *rapid.T) {
	id := m.any(t).ID()
	require.NoError(t, m.r.Delete(background, id))
	m.leave(id)
}

func (m *budgetModel) rename(t *rapid.T) {
	from, to := m.any(t).ID(), m.free(t)
	require.NoError(t, m.r.Rename(background, from, to))
	m.leave(from)
	m.spaces = append(m.spaces, to)
}

// copy exports a space and imports it as another, which may find no room for its name.
func (m *budgetModel) copy(t *rapid.T) {
	var exported bytes.Buffer
	_, err := m.any(t).Export(background, &exported)
	require.NoError(t, err)
	id := m.free(t)
	fails := rapid.Bool().Draw(t, "fails")
	if fails {
		m.fs.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpRename && strings.HasPrefix(c.Name, tmpDir+"/") && !strings.Contains(c.Name, checkpointTemporary) {
				return syscall.ENOSPC
			}
			return nil
		})
	}
	_, err = m.r.Import(background, id, &exported)
	m.fs.SetHook(nil)
	if fails {
		require.ErrorIs(t, err, ErrDiskFull)
		return
	}
	require.NoError(t, err)
	m.spaces = append(m.spaces, id)
}

// Whatever becomes of spaces, what those that are awake take is counted, nothing else is,
// and it is no more than it may be unless one space alone takes it.
func TestMemoryIsCounted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &budgetModel{fs: crashfs.New()}
		opts := Options{Durability: None, MemoryBudget: rapid.SampledFrom([]int64{1, 30 << 10, 1 << 30}).Draw(t, "budget")}
		opts.seams.checkpointBytes = 1 << 10
		m.r = openMemory(t, m.fs, opts)
		m.create(t)
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "remember": m.remember, "forget": m.forget, "recall": m.recall,
			"checkpoint": m.checkpoint, "sleep": m.sleep, "settle": m.settle,
			"delete": m.delete, "rename": m.rename, "copy": m.copy,
			"": func(t *rapid.T) { requireCounted(t, m.r) },
		})
		for _, id := range m.spaces {
			asleep(t, get(t, m.r, id))
		}
		require.Zero(t, m.r.Stats().AwakeBytes)
		require.NoError(t, m.r.Close())
	})
}

// Before a space that is made is counted nobody puts it to sleep.
func TestCreatedSpaceIsCounted(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{})
	counts, tried := make(chan *awake), make(chan struct{})
	go func() {
		defer close(tried)
		a := <-counts
		defer a.store.mu.Unlock()
		for a.space.awake.Load() == nil { // until everybody may know it
			runtime.Gosched()
		}
		a.space.sleep()
	}()
	s, _, err := r.createWith(background, "alpha", func(s *Space) error {
		return r.build(s, SpaceConfig{}, func(a *awake) error {
			a.store.mu.Lock() // counting it waits
			counts <- a
			return nil
		})
	})
	require.NoError(t, err)
	<-tried
	requireCounted(t, r)
	asleep(t, s)
	require.Zero(t, r.Stats().AwakeBytes)
}
