package engram

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

func TestRememberKeepsEveryField(t *testing.T) {
	clock := newStepClock()
	s, _ := newTestSpace(t, Options{Clock: clock})
	zone := time.FixedZone("east", 3600)
	full := Memory{
		ID: "full", Content: "Zażółć 🦊\x00\n", Time: time.Date(1999, 12, 31, 23, 0, 0, 1, zone), Episode: "an episode",
		Attributes: map[string]string{"colour": "red", "empty": ""}, Embedding: []float32{0.5, -1e-30, 3},
		Confidence: 0.25, Kind: Semantic, Space: "alpha",
		Seq: 99, StoredAt: time.Now(), // of a memory that was read before: the library sets them anew
	}
	given := full
	receipt, err := s.Remember(background, full)
	require.NoError(t, err)
	require.Equal(t, Receipt{ID: "full", Seq: 2}, receipt)
	require.Equal(t, given, full, "the argument is not changed")

	stored, err := s.Lookup(background, "full")
	require.NoError(t, err)
	want := full
	want.Time, want.Seq, want.StoredAt = full.Time.UTC(), 2, stored.StoredAt
	require.Equal(t, want, stored)
	require.Equal(t, time.Date(2026, 1, 2, 3, 4, 7, 6, time.UTC), stored.StoredAt)

	remember(t, s, Memory{ID: "bare", Content: "x"})
	stored, err = s.Lookup(background, "bare")
	require.NoError(t, err)
	require.Equal(t, Memory{
		ID: "bare", Content: "x", Time: stored.StoredAt, Confidence: 1, Kind: Episodic,
		Space: "alpha", Seq: 3, StoredAt: stored.StoredAt,
	}, stored)

	remember(t, s, Memory{ID: "vector", Embedding: []float32{1, 0, 0}})
	stored, err = s.Lookup(background, "vector")
	require.NoError(t, err)
	require.Empty(t, stored.Content)
	require.Equal(t, 3, s.Info().Dimension)
	// What is returned may be remembered again.
	require.Equal(t, "vector", remember(t, s, stored)[0].ID)
}

// What a caller does with its arguments and results later changes nothing.
func TestRememberSharesNothing(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	given := Memory{ID: "x", Content: "x", Embedding: []float32{1, 2}, Attributes: map[string]string{"k": "v"}}
	remember(t, s, given)
	want, err := s.Lookup(background, "x")
	require.NoError(t, err)
	given.Embedding[0] = 9
	given.Attributes["k"] = "changed"
	got, err := s.Lookup(background, "x")
	require.NoError(t, err)
	got.Embedding[1] = 9
	got.Attributes["other"] = "added"
	again, err := s.Lookup(background, "x")
	require.NoError(t, err)
	require.Equal(t, want, again)
	require.Equal(t, []string{"x"}, idsOf(list(t, s, Filter{Attributes: map[string]string{"k": "v"}})))
}

func TestRememberReplaces(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	remember(t, s, Memory{ID: "x", Content: "old words", Time: day, Episode: "first", Attributes: map[string]string{"v": "1"}})
	remember(t, s, Memory{ID: "y", Content: "between", Time: day.Add(time.Hour), Episode: "first"})
	receipts := remember(t, s, Memory{ID: "x", Content: "new text", Time: day.Add(2 * time.Hour), Episode: "second"})
	require.Equal(t, []Receipt{{ID: "x", Seq: 4}}, receipts)
	require.Equal(t, []string{"y", "x"}, idsOf(list(t, s, Filter{})))
	require.Equal(t, []string{"y"}, idsOf(list(t, s, Filter{Episode: "first"})))
	require.Empty(t, list(t, s, Filter{Attributes: map[string]string{"v": "1"}}))
	require.Empty(t, recall(t, s, Cue{Text: "old words"}))
	require.Equal(t, []string{"x"}, recalledIDs(recall(t, s, Cue{Text: "new text"})))
	require.Equal(t, int64(2), s.Info().Memories)
	require.Equal(t, ContentStats{Memories: 2, Bytes: s.Info().Bytes, Episodes: 2, Seq: 4}, s.Stats().Content)

	// Of several in one batch the last one stays.
	receipts = remember(t, s, Memory{ID: "z", Content: "one"}, Memory{ID: "x", Content: "two"}, Memory{ID: "z", Content: "three"})
	require.Equal(t, []Receipt{{ID: "z", Seq: 5}, {ID: "x", Seq: 6}, {ID: "z", Seq: 7}}, receipts)
	m, err := s.Lookup(background, "z")
	require.NoError(t, err)
	require.Equal(t, "three", m.Content)
	require.Equal(t, uint64(7), m.Seq)
	require.Equal(t, int64(3), s.Info().Memories)
}

func TestGeneratedIDs(t *testing.T) {
	clock := newStepClock()
	s, m := newTestSpace(t, Options{Clock: clock})
	var ids []string
	batch := make([]Memory, 40)
	for i := range batch {
		batch[i].Content = fmt.Sprint("number ", i)
	}
	for range 3 {
		for _, receipt := range remember(t, s, batch...) {
			ids = append(ids, receipt.ID)
		}
		ids = append(ids, remember(t, s, Memory{Content: "alone"})[0].ID)
	}
	require.True(t, slices.IsSorted(ids), "they are ordered by time and seq")
	require.Len(t, slices.Compact(slices.Clone(ids)), 123)
	for _, id := range ids {
		require.Len(t, id, generatedIDBytes)
		require.NoError(t, validateName("id", id))
		m, err := s.Lookup(background, id)
		require.NoError(t, err)
		require.Equal(t, id, m.ID)
	}
	clock.set(time.Unix(0, 0).Add(-time.Hour)) // before what an id can tell
	ids = append(ids, remember(t, s, Memory{Content: "long ago"})[0].ID)
	require.NoError(t, s.Checkpoint(background))
	killed := openMemory(t, m.clone(), Options{})
	require.ElementsMatch(t, ids, idsOf(list(t, get(t, killed, "alpha"), Filter{})))
	require.NoError(t, killed.Close())
}

// A filter is satisfied by what has all of its pairs, whatever lies between them.
func TestFilterBySeveralAttributes(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	attributes := func(n int) map[string]string { // none, 1 or 2 of each key
		m := make(map[string]string)
		for _, key := range []string{"a", "b", "c", "d"} {
			if n%3 > 0 {
				m[key] = fmt.Sprint(n % 3)
			}
			n /= 3
		}
		return m
	}
	const combinations = 81
	var all []Memory
	for n := range combinations {
		all = append(all, Memory{ID: fmt.Sprint("m", n), Content: "tea", Time: unixTime(int64(n)), Attributes: attributes(n * 7 % combinations)})
	}
	remember(t, s, all[:combinations/2]...)
	require.NoError(t, s.Checkpoint(background))
	remember(t, s, all[combinations/2:]...)
	for n := range combinations {
		wanted := attributes(n)
		want := slices.DeleteFunc(slices.Clone(all), func(m Memory) bool {
			for key, value := range wanted {
				if m.Attributes[key] != value {
					return true
				}
			}
			return false
		})
		require.Equal(t, idsOf(want), idsOf(list(t, s, Filter{Attributes: wanted})), "%v", wanted)
	}
}

// A caller may have chosen the id that a memory would be given: it is given another.
func TestGeneratedIDsReplaceNothing(t *testing.T) {
	for _, now := range []time.Time{newStepClock().now, time.Unix(0, 0).Add(-time.Hour), latestTime} {
		s, m := newTestSpace(t, Options{Clock: fixedClock(now)})
		id := func(seq uint64) string { return generatedID(now.UnixNano(), seq) }
		remember(t, s, Memory{ID: id(3), Content: "chosen before"})
		ids := []string{id(3), remember(t, s, Memory{Content: "alone"})[0].ID}
		batch := []Memory{{ID: id(5), Content: "chosen"}, {Content: "given"}, {Content: "given"}, {ID: id(6), Content: "chosen"}}
		receipts, err := s.RememberBatch(background, batch, RequestID("batch"))
		require.NoError(t, err)
		for _, r := range receipts {
			ids = append(ids, r.ID)
		}
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), 6)
		require.ElementsMatch(t, ids, idsOf(list(t, s, Filter{})))
		for _, got := range list(t, s, Filter{}) {
			require.True(t, got.Time.Equal(now))
			require.False(t, got.StoredAt.After(latestTime))
		}
		killed := openMemory(t, m.clone(), Options{Clock: fixedClock(now)})
		again, err := get(t, killed, "alpha").RememberBatch(background, batch, RequestID("batch"))
		require.NoError(t, err)
		require.Equal(t, receipts, again)
		require.ElementsMatch(t, ids, idsOf(list(t, get(t, killed, "alpha"), Filter{})))
		require.NoError(t, killed.Close())
	}
}

// Who has chosen all ids that a memory could be given for a while holds up nobody:
// the next one that is free is found in few steps.
func TestChosenIDsHoldUpNobody(t *testing.T) {
	now := newStepClock().now
	s, _ := newTestSpace(t, Options{Clock: fixedClock(now)})
	const chosen, given = 1000, 500
	batch := make([]Memory, chosen)
	for i := range batch {
		at := now.Add(time.Duration(i) * time.Millisecond)
		batch[i] = Memory{ID: generatedID(at.UnixNano(), chosen+2), Content: "chosen"}
	}
	remember(t, s, batch...)
	batch = make([]Memory, given)
	for i := range batch {
		batch[i].Content = strings.Repeat(" ", 1<<10)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	remember(t, s, batch...)
	runtime.ReadMemStats(&after)
	require.Equal(t, int64(chosen+given), s.Info().Memories)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(chosen*given<<10)/4)
}

// A name may be a part of a caller's large text, which must not stay for its sake.
func TestNamesKeepNoTexts(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	part := func(name string) string { return (name + strings.Repeat(" ", 4<<20))[:len(name)] }
	before := heapAndStacks()
	s, err := r.Create(background, SpaceID(part("alpha")), SpaceConfig{})
	require.NoError(t, err)
	remember(t, s, Memory{ID: part("a"), Content: part("x"), Episode: part("e")}, Memory{ID: "b", Content: "y"})
	_, err = s.Associate(background, Association{From: part("a"), To: part("b"), Kind: part("k"), Weight: 1}, RequestID(part("r")))
	require.NoError(t, err)
	require.NoError(t, r.Rename(background, SpaceID(part("alpha")), SpaceID(part("beta"))))
	require.Less(t, heapAndStacks(), before+2<<20)
	require.Equal(t, SpaceID("beta"), s.ID())
}

func TestLargeFramesAreNotKept(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	for _, size := range []int{100, MaxContentBytes, 100} {
		_, err := s.Remember(t.Context(), Memory{Content: strings.Repeat("x", size)})
		require.NoError(t, err)
		a := s.awake.Load()
		a.commits.Lock()
		require.LessOrEqual(t, cap(a.buf), maxKeptFrameBytes)
		a.commits.Unlock()
	}
}

func TestBatchesAreAtomic(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "kept", Content: "kept", Embedding: []float32{1, 1}})
	before, stats := m.files("."), s.Stats()
	good := Memory{Content: "good"}
	for name, bad := range map[string]Memory{
		"invalid":           {Content: ""},
		"foreign":           {Content: "x", Space: "beta"},
		"another dimension": {Content: "x", Embedding: []float32{1, 2, 3}},
		"limit":             {Content: strings.Repeat("x", MaxContentBytes+1)},
	} {
		for place := range 3 {
			_, err := s.RememberBatch(background, slices.Insert([]Memory{good, good}, place, bad))
			require.Error(t, err, name)
		}
	}
	requireUnchanged(t, before, m)
	require.Equal(t, stats, s.Stats())

	// A frame that is not whole in the journal is not there at all.
	groups := s.registry.Stats().JournalBytes
	remember(t, s, good, good, good)
	killed := m.clone()
	journal := slices.Clone(killed.files(journalDir)["00000001"])
	clear(journal[s.registry.Stats().JournalBytes-8:])
	require.Less(t, groups, s.registry.Stats().JournalBytes)
	killed.put(journalDir+"/00000001", journal)
	killed.put("alpha/wal/00000001.wal", before["alpha/wal/00000001.wal"])
	r := openMemory(t, killed, Options{})
	require.Equal(t, []string{"kept"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
	require.NoError(t, r.Close())
}

// TestValidateBatch: what it refuses an empty space refuses with the same error, and
// what it lets pass an empty space stores.
func TestValidateBatch(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	large := Memory{Content: strings.Repeat("x", MaxContentBytes)}
	for i, c := range []struct {
		memories []Memory
		options  []WriteOption
		valid    bool
	}{
		{nil, nil, false},
		{make([]Memory, MaxBatch+1), nil, false},
		{[]Memory{{Content: "x"}}, nil, true},
		{[]Memory{{Content: "x", Space: "other"}}, nil, false},
		{[]Memory{{Content: "x"}, {Content: "\xff"}}, nil, false},
		{[]Memory{{Embedding: vector(8)}, {Content: "x"}, {Embedding: vector(8)}}, nil, true},
		{[]Memory{{Embedding: vector(8)}, {Content: "x"}, {Embedding: vector(16)}}, nil, false},
		{[]Memory{large, large, large}, []WriteOption{RequestID("x")}, true},
		{[]Memory{large, large, large, large}, nil, false},
		{[]Memory{{Content: "x"}}, []WriteOption{RequestID("")}, false},
		{[]Memory{{Content: "x"}}, []WriteOption{RequestID(strings.Repeat("x", MaxRequestIDBytes+1))}, false},
	} {
		s := create(t, r, SpaceID(fmt.Sprint("space-", i)))
		said := ValidateBatch(s.ID(), c.memories, c.options...)
		_, err := s.RememberBatch(background, c.memories, c.options...)
		require.Equal(t, err, said, "case %d", i)
		require.Equal(t, c.valid, said == nil, "case %d", i)
	}
	require.ErrorIs(t, ValidateBatch("no space", []Memory{{Content: "x"}}), ErrInvalidSpaceID)
}

func TestWrongSpace(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	alpha, beta := create(t, r, "alpha"), create(t, r, "beta")
	remember(t, alpha, Memory{ID: "x", Content: "of alpha"})
	m, err := alpha.Lookup(background, "x")
	require.NoError(t, err)
	_, err = beta.Remember(background, m)
	require.Equal(t, ErrWrongSpace, err, "it names no other space, nor a place in a batch")
	_, err = beta.RememberBatch(background, []Memory{{Content: "x", Space: "beta"}, m})
	require.ErrorIs(t, err, ErrWrongSpace)
	_, err = beta.Remember(background, Memory{Content: "x", Space: "nowhere"})
	require.ErrorIs(t, err, ErrWrongSpace)
	require.Equal(t, uint64(1), beta.Info().Seq)
	m.Space = ""
	remember(t, beta, m)
	for _, s := range []*Space{alpha, beta} {
		require.Equal(t, s.ID(), list(t, s, Filter{})[0].Space)
		require.Equal(t, s.ID(), recall(t, s, Cue{IDs: []string{"x"}})[0].Memory.Space)
	}
}

func TestLookupAndForget(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "a", Content: "same text", Episode: "e"}, Memory{ID: "b", Content: "same text", Episode: "e"},
		Memory{ID: "c", Content: "same text"})
	require.Equal(t, ForgetReceipt{Seq: 5, Forgotten: 2}, forget(t, s, "a", "c", "a", "unknown"))
	for _, id := range []string{"a", "c", "unknown"} {
		_, err := s.Lookup(background, id)
		require.ErrorIs(t, err, ErrMemoryNotFound)
	}
	require.Equal(t, []string{"b"}, idsOf(list(t, s, Filter{})))
	require.Equal(t, []string{"b"}, recalledIDs(recall(t, s, Cue{Text: "same text"})))
	require.Equal(t, []string{"b"}, recalledIDs(recall(t, s, Cue{})))
	require.Empty(t, recall(t, s, Cue{IDs: []string{"a"}}), "a forgotten memory brings nothing to mind")
	require.Equal(t, int64(1), s.Info().Memories)

	require.Equal(t, ForgetReceipt{Seq: 5}, forget(t, s, "a"), "nothing was there, no operation was written")
	require.Equal(t, uint64(5), s.Info().Seq)
	remember(t, s, Memory{ID: "a", Content: "again"})
	require.Equal(t, ForgetReceipt{Seq: 7, Forgotten: 1}, forget(t, s, "a"))

	_, err := s.Lookup(background, "")
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Forget(background, nil)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Forget(background, []string{"a", ""})
	require.ErrorIs(t, err, ErrInvalid)
}

func TestForgetWhere(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 100 {
		m := Memory{ID: fmt.Sprintf("m%02d", i), Content: "x", Time: day.Add(time.Duration(i) * time.Hour)}
		if i%2 == 0 {
			m.Episode, m.Attributes = "even", map[string]string{"third": fmt.Sprint(i%3 == 0)}
		}
		if i%10 == 9 {
			m.Kind = Semantic
		}
		remember(t, s, m)
	}
	left := 100
	for _, step := range []struct {
		filter    Filter
		forgotten int
	}{
		{Filter{After: day.Add(98 * time.Hour)}, 2},
		{Filter{Before: day}, 0},
		{Filter{After: day, Before: day.Add(2 * time.Hour)}, 2},
		{Filter{Kind: Semantic}, 9},
		{Filter{Episode: "even", Attributes: map[string]string{"third": "true"}}, 16},
		{Filter{Episode: "none"}, 0},
		{Filter{Episode: "even"}, 32},
		{Filter{Kind: Episodic}, 39},
	} {
		seq := s.Info().Seq
		matching := len(list(t, s, step.filter))
		receipt, err := s.ForgetWhere(background, step.filter)
		require.NoError(t, err)
		require.Equal(t, step.forgotten, receipt.Forgotten, "%+v", step.filter)
		require.Equal(t, matching, receipt.Forgotten)
		require.Empty(t, list(t, s, step.filter))
		left -= step.forgotten
		require.Len(t, list(t, s, Filter{}), left)
		if step.forgotten > 0 {
			seq++ // one operation, however many they are
		}
		require.Equal(t, seq, receipt.Seq)
		require.Equal(t, seq, s.Info().Seq)
	}
	require.Zero(t, left)
	_, err := s.ForgetWhere(background, Filter{})
	require.ErrorIs(t, err, ErrInvalid)
}

func TestMemoriesInTimeOrder(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, hour := range []int{5, 1, 3, 1, 4} {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "x", Time: day.Add(time.Duration(hour) * time.Hour)})
	}
	require.Equal(t, []string{"m1", "m3", "m2", "m4", "m0"}, idsOf(list(t, s, Filter{})), "equal times in the order stored")
	require.Equal(t, []string{"m1", "m3", "m2"}, idsOf(list(t, s, Filter{Before: day.Add(4 * time.Hour)})))
	require.Equal(t, []string{"m2", "m4", "m0"}, idsOf(list(t, s, Filter{After: day.Add(3 * time.Hour)})))
	require.Equal(t, []string{"m4"}, idsOf(list(t, s, Filter{After: day.Add(4 * time.Hour), Before: day.Add(4*time.Hour + 1)})))

	ctx, cancel := context.WithCancel(background)
	defer cancel()
	var last error
	met := 0
	for m, err := range s.Memories(ctx, Filter{}) {
		if err != nil {
			require.Equal(t, Memory{}, m)
			last = err
			continue
		}
		if met++; met == 2 {
			cancel()
		}
	}
	require.ErrorIs(t, last, context.Canceled)
	require.Equal(t, 2, met)
}

// A page reads what it gives, also where all memories are of one time, in a checkpoint
// and behind it.
func TestMemoriesBehind(t *testing.T) {
	var reads atomic.Int64
	f := crashfs.New()
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpRead && strings.HasSuffix(c.Name, walSuffix) {
			reads.Add(1)
		}
		return nil
	})
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	moment := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	batch := make([]Memory, 60)
	for i := range batch {
		batch[i] = Memory{Content: "x", Time: moment, Episode: fmt.Sprint("episode", i%2)}
	}
	batch[0].Time, batch[59].Time = moment.Add(-1), moment.Add(1)
	remember(t, s, batch[:30]...)
	require.NoError(t, s.Checkpoint(background))
	remember(t, s, batch[30:]...)
	for _, filter := range []Filter{{}, {Episode: "episode0"}, {After: moment, Before: moment.Add(1)}} {
		want := list(t, s, filter)
		require.Greater(t, len(want), 25)
		var got []Memory
		var at time.Time
		var seq uint64
		reads.Store(0)
		for range want {
			for m, err := range s.MemoriesBehind(background, filter, at, seq) {
				require.NoError(t, err)
				at, seq = m.Time, m.Seq
				got = append(got, m)
				break
			}
		}
		require.Equal(t, want, got)
		require.EqualValues(t, len(want), reads.Load())
		for m, err := range s.MemoriesBehind(background, filter, at, seq) {
			t.Fatal("there is something behind the last one", m, err)
		}
	}
	yielded := 0
	for m, err := range s.MemoriesBehind(background, Filter{}, moment, math.MaxUint64) {
		require.NoError(t, err)
		require.Equal(t, moment.Add(1), m.Time)
		yielded++
	}
	require.Equal(t, 1, yielded)
	for _, err := range s.MemoriesBehind(background, Filter{}, latestTime.Add(1), 0) {
		require.ErrorIs(t, err, ErrInvalid)
		yielded++
	}
	require.Equal(t, 2, yielded)
	require.NoError(t, r.Close())
}

func TestCancelledBeforeTheCall(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "x", Content: "x"})
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, err := s.Remember(ctx, Memory{Content: "y"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Forget(ctx, []string{"x"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.ForgetWhere(ctx, Filter{Kind: Episodic})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Configure(ctx, SpaceConfig{MaxMemories: 1})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Lookup(ctx, "x")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Recall(ctx, Cue{Text: "x"})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.Checkpoint(ctx), context.Canceled)
	r := s.registry
	_, err = r.Get(ctx, "alpha")
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Create(ctx, "beta", SpaceConfig{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, r.Delete(ctx, "alpha"), context.Canceled)
	require.ErrorIs(t, r.Rename(ctx, "alpha", "beta"), context.Canceled)
	require.Equal(t, []SpaceID{"alpha"}, spaceIDs(r, ""))
	require.Equal(t, uint64(2), s.Info().Seq)
}

// holdJournal makes every flush wait until the returned function is called: what
// is written meanwhile stays in the queues.
func holdJournal(r *Registry) (release func()) {
	r.journal.mu.Lock()
	return sync.OnceFunc(r.journal.mu.Unlock)
}

// waitQueued waits until the space's queue holds n writes that no group has taken.
func waitQueued(t *testing.T, s *Space, n int) {
	t.Helper()
	c := s.registry.commits
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(s.awake.Load().queue.writes) == n
	}, time.Minute, 50*time.Microsecond)
}

// waitBusy waits until a group has taken a write of the space.
func waitBusy(t *testing.T, s *Space) {
	t.Helper()
	c := s.registry.commits
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return s.awake.Load().queue.busy
	}, time.Minute, 50*time.Microsecond)
}

// A write that no group has taken can be withdrawn; one that was taken is done,
// and its caller hears of it.
func TestCancelledWhileQueued(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	release := holdJournal(s.registry)
	defer release()
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	taken, queued, stays := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	write := func(ctx context.Context, id string, result chan error) {
		_, err := s.Remember(ctx, Memory{ID: id, Content: "x"})
		result <- err
	}
	go write(ctx, "taken", taken)
	waitBusy(t, s)
	go write(ctx, "queued", queued)
	waitQueued(t, s, 1)
	go write(background, "stays", stays)
	waitQueued(t, s, 2)
	cancel()
	require.ErrorIs(t, <-queued, context.Canceled)
	release()
	require.NoError(t, <-taken)
	require.NoError(t, <-stays)
	require.Equal(t, []string{"taken", "stays"}, idsOf(list(t, s, Filter{})))
	require.Equal(t, uint64(3), s.Info().Seq)
}

func TestFailFastWhereTheQueueIsFull(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	release := holdJournal(s.registry)
	defer release()
	big := Memory{Content: strings.Repeat("x", MaxContentBytes-1000)}
	var work sync.WaitGroup
	const writers = maxQueueBytes/(MaxContentBytes-1000) + 1 // one is taken, the others fill the queue
	for range writers {
		work.Go(func() {
			_, err := s.Remember(background, big)
			require.NoError(t, err)
		})
	}
	waitQueued(t, s, writers-1)
	_, err := s.Remember(background, big, FailFast())
	require.ErrorIs(t, err, ErrBusy)
	ctx, cancel := context.WithTimeout(background, 5*time.Millisecond)
	defer cancel()
	_, err = s.Remember(ctx, big)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	release()
	work.Wait()
	require.Equal(t, int64(writers), s.Info().Memories)
	_, err = s.Remember(background, big, FailFast())
	require.NoError(t, err)
}
