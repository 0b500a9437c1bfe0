package engram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// subscriber reads events and keeps where it stands, as a consumer does.
type subscriber struct {
	space *Space
	after uint64
	got   []Event
}

// read subscribes and takes events until enough says so, or an error ends it.
func (u *subscriber) read(ctx context.Context, enough func(Event) bool) error {
	for e, err := range u.space.Subscribe(ctx, u.after) {
		if err != nil {
			return err
		}
		if e.Seq != u.after+1 {
			return fmt.Errorf("event %d follows %d", e.Seq, u.after)
		}
		u.got, u.after = append(u.got, e), e.Seq
		if enough(e) {
			return nil
		}
	}
	return errors.New("the subscription ended without an error")
}

// upTo is enough when the event of that seq was read.
func upTo(seq uint64) func(Event) bool { return func(e Event) bool { return e.Seq >= seq } }

// events returns those of the space behind after, up to its present seq.
func events(t tester, s *Space, after uint64) []Event {
	t.Helper()
	u := subscriber{space: s, after: after}
	if seq := infoOf(t, s).Seq; seq > after {
		require.NoError(t, u.read(background, upTo(seq)))
	}
	return u.got
}

// bare is what of an event never changes: all but the memory.
func bare(list []Event) []Event {
	list = slices.Clone(list)
	for i := range list {
		list[i].Memory = nil
	}
	return list
}

func TestEventsSayWhatHappened(t *testing.T) {
	clock := newStepClock()
	s, m := newTestSpace(t, Options{Clock: clock})
	filter := Filter{Episode: "e", Attributes: map[string]string{"k": "v"}, Before: time.Unix(5, 0).UTC()}
	remember(t, s, Memory{ID: "a", Content: "one"})
	remember(t, s, Memory{ID: "b", Content: "two"}, Memory{ID: "a", Content: "three"}, Memory{ID: "b", Content: "four"})
	forget(t, s, "a", "unknown")
	remember(t, s, Memory{ID: "a", Content: "five", Episode: "e", Attributes: filter.Attributes, Time: time.Unix(1, 0)})
	_, err := s.ForgetWhere(background, filter)
	require.NoError(t, err)
	generated := remember(t, s, Memory{Content: "six", Embedding: []float32{1, 2}})[0].ID
	_, err = s.Configure(background, SpaceConfig{MaxMemories: 9})
	require.NoError(t, err)

	got := events(t, s, 0)
	for i, e := range got {
		require.Equal(t, uint64(i+1), e.Seq)
		require.True(t, i == 0 || !e.Time.Before(got[i-1].Time))
	}
	type brief struct {
		kind      EventKind
		ids       []string
		content   string
		frameLast bool
	}
	var all []brief
	for _, e := range got {
		b := brief{kind: e.Kind, ids: e.IDs, frameLast: e.FrameLast}
		if e.Memory != nil {
			b.content = e.Memory.Content
		}
		all = append(all, b)
	}
	require.Equal(t, []brief{
		{Configured, nil, "", true},
		{Remembered, []string{"a"}, "", true}, // replaced since, as are others
		{Remembered, []string{"b"}, "", false},
		{Replaced, []string{"a"}, "", false},
		{Replaced, []string{"b"}, "four", true},
		{Forgotten, []string{"a", "unknown"}, "", true},
		{Remembered, []string{"a"}, "", true},
		{Forgotten, nil, "", true},
		{Remembered, []string{generated}, "six", true},
		{Configured, nil, "", true},
	}, all)
	require.Equal(t, &filter, got[7].Filter)
	require.Equal(t, &SpaceConfig{MaxMemories: 9}, got[9].Config)
	looked, err := s.Lookup(background, generated)
	require.NoError(t, err)
	require.Equal(t, &looked, got[8].Memory)
	require.Equal(t, looked.StoredAt, got[8].Time)

	for after := range uint64(len(got)) {
		require.Equal(t, got[after:], events(t, s, after), "within a frame, too")
	}
	killed := m.clone()
	asleep(t, s)
	require.Equal(t, got, events(t, s, 0))
	r := openMemory(t, killed, Options{Clock: clock})
	require.Equal(t, got, events(t, get(t, r, "alpha"), 0))
	require.NoError(t, r.Close())
}

// What is associated, dissociated and configured is said whole, in order, live and
// from the log; what a Forget or a Dissociate finds nothing of is no operation.
func TestEventsOfAssociations(t *testing.T) {
	clock := newStepClock()
	s, m := newTestSpace(t, Options{Clock: clock})
	batch := []Memory{{ID: "a", Content: "green tea"}, {ID: "b", Content: "black tea"}, {ID: "c", Content: "black tea, hot"}}
	remember(t, s, batch[0], batch[1])
	live := subscriber{space: s}
	first, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- live.read(background, func(e Event) bool {
			if e.Seq == 3 {
				close(first) // what follows is read as it is committed
			}
			return e.Seq == 12
		})
	}()
	<-first
	cfg := SpaceConfig{MaxMemories: 9, AutoAssociate: 2}
	associate(t, s, "a", "b", "", 0.5)
	associate(t, s, "a", "b", "", 0.25)
	associate(t, s, "b", "a", "causes", 1)
	dissociate := func(a Association) {
		_, err := s.Dissociate(background, a)
		require.NoError(t, err)
	}
	dissociate(Association{From: "b", To: "a", Kind: "causes", Weight: 0.5})
	dissociate(Association{From: "b", To: "a", Kind: "causes"}) // is gone
	dissociate(Association{From: "b", To: "a"})                 // never was
	dissociate(Association{From: "a", To: "unknown"})
	_, err := s.Associate(background, Association{From: "a", To: "unknown", Weight: 1})
	require.ErrorIs(t, err, ErrMemoryNotFound)
	_, err = s.Configure(background, cfg)
	require.NoError(t, err)
	remember(t, s, batch[2])
	require.NotEmpty(t, associationsOf(t, s, "c"), "made by likeness, which the memory's event stands for")
	associate(t, s, "c", "a", "", 1)
	forget(t, s, "a")
	cfg.AutoAssociate = 0
	_, err = s.Configure(background, cfg)
	require.NoError(t, err)
	require.NoError(t, <-done)

	type brief struct {
		kind        EventKind
		ids         []string
		association *Association
		config      *SpaceConfig
	}
	var all []brief
	got := events(t, s, 3)
	for i, e := range got {
		require.EqualValues(t, i+4, e.Seq)
		require.True(t, e.FrameLast)
		require.True(t, i == 0 || !e.Time.Before(got[i-1].Time))
		require.Equal(t, e.Kind == Remembered, e.Memory != nil)
		require.Nil(t, e.Filter)
		all = append(all, brief{e.Kind, e.IDs, e.Association, e.Config})
	}
	require.Equal(t, []brief{
		{Associated, nil, &Association{"a", "b", AssociationRelated, 0.5}, nil},
		{Associated, nil, &Association{"a", "b", AssociationRelated, 0.25}, nil},
		{Associated, nil, &Association{"b", "a", "causes", 1}, nil},
		{Dissociated, nil, &Association{"b", "a", "causes", 0}, nil},
		{Configured, nil, nil, &SpaceConfig{MaxMemories: 9, AutoAssociate: 2}},
		{Remembered, []string{"c"}, nil, nil},
		{Associated, nil, &Association{"c", "a", AssociationRelated, 1}, nil},
		{Forgotten, []string{"a"}, nil, nil}, // and with it its associations
		{Configured, nil, nil, &SpaceConfig{MaxMemories: 9}},
	}, all)
	require.Equal(t, bare(got), bare(live.got[3:]), "live as from the log")

	requireEventsAgain(t, s, m, clock, got, 3)
}

// requireEventsAgain asks for the events behind the seq again: asleep, after a
// kill, and from each of them on.
func requireEventsAgain(t *testing.T, s *Space, m *memoryFS, clock Clock, want []Event, from uint64) {
	t.Helper()
	killed := m.clone()
	asleep(t, s)
	require.Equal(t, want, events(t, s, from))
	r := openMemory(t, killed, Options{Clock: clock})
	for i := range want {
		require.Equal(t, want[i:], events(t, get(t, r, "alpha"), from+uint64(i)))
	}
	require.NoError(t, r.Close())
}

// A memory is shown while nothing has taken its place, and no longer.
func TestEventsShowNothingForgotten(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "a", Content: "canary"}, Memory{ID: "b", Content: "canary"}, Memory{ID: "c", Content: "stays"})
	next, stop := iter.Pull2(s.Subscribe(background, 1))
	defer stop()
	e, err, _ := next()
	require.NoError(t, err)
	require.Equal(t, "canary", e.Memory.Content)
	forget(t, s, "b")
	e, err, _ = next() // of a frame that was read before
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, e.IDs)
	require.Nil(t, e.Memory)
	e, err, _ = next()
	require.NoError(t, err)
	require.Equal(t, "stays", e.Memory.Content)
}

// A waiting subscriber is the caller's goroutine and little else: the space
// falls asleep under it, with nothing open, and an operation wakes both.
func TestSubscribersLetTheSpaceSleep(t *testing.T) {
	const subscribers = 100
	disk := crashfs.New()
	r := openMemory(t, disk, Options{})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "a", Content: "x"})
	before := heapAndStacks()
	var caughtUp, done sync.WaitGroup
	caughtUp.Add(subscribers)
	for range subscribers {
		done.Go(func() {
			for e, err := range s.Subscribe(background, 0) {
				require.NoError(t, err)
				if e.Seq == 2 {
					caughtUp.Done()
				}
				if e.Seq == 3 {
					return
				}
			}
		})
	}
	caughtUp.Wait()
	asleep(t, s)
	require.Less(t, int64(heapAndStacks()-before), int64(subscribers*32<<10))
	requireNothingOpen(t, disk, "alpha")
	require.Nil(t, s.awake.Load(), "they let it sleep")
	remember(t, s, Memory{ID: "b", Content: "y"})
	done.Wait()
	require.NoError(t, r.Close())
}

// requireNothingOpen requires that no file of the space is open.
func requireNothingOpen(t *testing.T, disk *crashfs.FS, id SpaceID) {
	t.Helper()
	for _, name := range disk.Handles() {
		require.NotContains(t, name, string(id))
	}
}

// heapAndStacks are the bytes of heap and stacks after a collection.
func heapAndStacks() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// Nothing runs while a subscriber waits: in a bubble, time would pass.
func TestSubscribersDoNotPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openMemory(t, newMemoryFS(), Options{})
		s := create(t, r, "alpha")
		ctx, cancel := context.WithCancel(background)
		ended := make(chan error)
		go func() { ended <- (&subscriber{space: s, after: 1}).read(ctx, upTo(2)) }()
		began := time.Now()
		synctest.Wait() // all are blocked for good
		require.Equal(t, began, time.Now())
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, r.Close())
	})
}

// A subscriber whose body never returns holds no write up, and loses nothing.
func TestSlowSubscriber(t *testing.T) {
	disk := crashfs.New()
	r := openMemory(t, disk, Options{seams: seams{segmentBytes: 4000}})
	s := create(t, r, "alpha")
	for e, err := range s.Subscribe(background, 0) {
		require.NoError(t, err)
		if e.Seq == 1 {
			for i := range 500 {
				remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "while it is busy"})
			}
			asleep(t, s)
			requireNothingOpen(t, disk, "alpha")
			continue
		}
		require.Equal(t, []string{fmt.Sprint("m", e.Seq-2)}, e.IDs)
		if e.Seq == 501 {
			break
		}
	}
	require.NoError(t, r.Close())
}

func TestTrimmedHistory(t *testing.T) {
	opts := Options{}
	opts.seams.segmentBytes = 1000
	s, m := newTestSpace(t, opts)
	for i := range 20 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "text text text text text text"})
	}
	slow, stop := iter.Pull2(s.Subscribe(background, 0))
	defer stop()
	_, err, _ := slow()
	require.NoError(t, err)
	want := events(t, s, 0)
	forget(t, s, "m7")
	require.NoError(t, s.Checkpoint(background))

	var floor uint64
	requireTrimmed := func(err error) {
		t.Helper()
		var trimmed *TrimmedError
		require.ErrorIs(t, err, ErrTrimmed)
		require.ErrorAs(t, err, &trimmed)
		floor = trimmed.Floor
		require.Equal(t, SpaceID("alpha"), trimmed.Space)
	}
	check := func(s *Space) {
		t.Helper()
		seq := infoOf(t, s).Seq
		for after := range seq {
			u := subscriber{space: s, after: after}
			err := u.read(background, upTo(seq))
			if after < floor {
				requireTrimmed(err)
				require.Empty(t, u.got, "what it could yield would end in a gap")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, bare(want[after:]), bare(u.got[:len(want)-int(after)]))
		}
	}
	requireTrimmed((&subscriber{space: s}).read(background, upTo(100)))
	require.Greater(t, floor, uint64(7))
	check(s)
	for err == nil { // the segment in which it stands is still there
		_, err, _ = slow()
	}
	requireTrimmed(err)

	killed := m.clone()
	require.NoError(t, s.Checkpoint(background))
	r := openMemory(t, killed, opts)
	check(get(t, r, "alpha"))
	require.NoError(t, r.Close())
}

// A segment that was empty when it was removed leaves no gap.
func TestHistoryOverEmptySegments(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "a", Content: "x"}, Memory{ID: "b", Content: "y"})
	want := events(t, s, 0)
	a, err := s.use(background)
	require.NoError(t, err)
	for range 3 { // each begins a segment, and drops the empty one before it
		job, err := a.beginCheckpoint(false)
		require.NoError(t, err)
		require.NoError(t, a.finishCheckpoint(job))
	}
	a.uses.Add(-1)
	require.Equal(t, want, events(t, s, 0))
	remember(t, s, Memory{ID: "c", Content: "z"})
	want = events(t, s, 0)
	require.Len(t, want, 4)
	killed := m.clone()
	r := openMemory(t, killed, Options{})
	require.Equal(t, want, events(t, get(t, r, "alpha"), 0))
	require.NoError(t, r.Close())
}

func TestSubscribeRefusesAPositionThatIsNotReached(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	receipt := remember(t, s, Memory{Content: "x"})[0]
	for _, after := range []uint64{receipt.Seq + 1, 1 << 40, 1<<64 - 1} {
		require.ErrorIs(t, (&subscriber{space: s, after: after}).read(background, upTo(0)), ErrInvalid)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	require.ErrorIs(t, (&subscriber{space: s, after: receipt.Seq}).read(ctx, upTo(0)), context.Canceled)
}

// What ends the space, the registry or the subscription ends the waiting.
func TestSubscriptionEnds(t *testing.T) {
	for name, ending := range map[string]struct {
		end  func(r *Registry, cancel func()) error
		want error
	}{
		"delete": {func(r *Registry, _ func()) error { return r.Delete(background, "alpha") }, ErrSpaceDeleted},
		"close":  {func(r *Registry, _ func()) error { return r.Close() }, ErrClosed},
		"cancel": {func(_ *Registry, cancel func()) error { cancel(); return nil }, context.Canceled},
	} {
		for _, sleeps := range []bool{false, true} {
			t.Run(fmt.Sprint(name, sleeps), func(t *testing.T) {
				r := openMemory(t, newMemoryFS(), Options{})
				s := create(t, r, "alpha")
				ctx, cancel := context.WithCancel(background)
				defer cancel()
				ended, waiting := make(chan error), make(chan struct{})
				go func() {
					ended <- (&subscriber{space: s}).read(ctx, func(Event) bool { close(waiting); return false })
				}()
				<-waiting
				if sleeps {
					asleep(t, s)
				}
				require.NoError(t, ending.end(r, cancel))
				require.ErrorIs(t, <-ended, ending.want)
				require.NoError(t, r.Close())
			})
		}
	}
}

// The journal may be about to settle a space while that is deleted. It finds its
// files closed or gone then, which is no failure of the device.
func TestSettlingADeletedSpaceIsNoFailure(t *testing.T) {
	r := openMemory(t, newMemoryFS(), Options{})
	s := create(t, r, "alpha")
	receipts := remember(t, s, Memory{Content: "to settle"})
	next, stop := iter.Pull2(s.Subscribe(background, receipts[0].Seq-1))
	defer stop()
	_, err, _ := next() // it waits for what follows now
	require.NoError(t, err)
	loaded := s.awake.Load()
	require.NoError(t, r.Delete(background, "alpha"))
	_, err = loaded.settle()
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err, _ = next()
	require.ErrorIs(t, err, ErrSpaceDeleted)
	require.NoError(t, r.Close())
}

// A space that takes the id of a deleted one has other subscribers.
func TestSubscriptionDoesNotFollowASuccessor(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	s := create(t, r, "alpha")
	next, stop := iter.Pull2(s.Subscribe(background, 0))
	defer stop()
	created, err, _ := next()
	require.NoError(t, err)
	require.NoError(t, r.Delete(background, "alpha"))
	successor := create(t, r, "alpha")
	for range created.Seq + 1 {
		remember(t, successor, Memory{Content: "of the successor"})
	}
	e, err, _ := next()
	require.ErrorIs(t, err, ErrSpaceDeleted)
	require.Zero(t, e)
}

// flipOpen changes a bit of the file under whoever has it open.
func (m *memoryFS) flipOpen(name string, at int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root.at(name)
	n.content, n.shared = bytes.Clone(n.content), false
	n.content[at] ^= 1
}

// The events that precede damage are yielded, then the damage.
func TestEventsOfAQuarantinedSpace(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	s := create(t, r, "alpha")
	for i := range 5 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "x"})
	}
	want := events(t, s, 0)
	require.NoError(t, r.Close())
	name := "alpha/wal/00000001.wal"
	m.flipOpen(name, len(m.files(".")[name])-1)
	r = openMemory(t, m, Options{})
	u := subscriber{space: get(t, r, "alpha")}
	for range 2 { // also when it goes on
		require.ErrorIs(t, u.read(background, upTo(100)), ErrCorrupt)
		require.Equal(t, want[:5], u.got)
	}
	require.NoError(t, r.Close())
}

// Damage that a subscriber finds quarantines the space, as that of a failed read.
func TestSubscriberFindsDamage(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "a", Content: "x"})
	remember(t, s, Memory{ID: "b", Content: "y"})
	name := "alpha/wal/00000001.wal"
	m.flipOpen(name, len(m.files(".")[name])-40)
	u := subscriber{space: s}
	var damage *CorruptionError
	require.ErrorAs(t, u.read(background, upTo(3)), &damage)
	require.Equal(t, SpaceID("alpha"), damage.Space)
	require.Equal(t, "wal/00000001.wal", damage.File)
	require.Equal(t, uint64(2), u.after)
	require.Equal(t, Quarantined, s.Stats().Operator.State)
	_, err := s.Remember(background, Memory{Content: "z"})
	require.ErrorIs(t, err, ErrCorrupt)
}
