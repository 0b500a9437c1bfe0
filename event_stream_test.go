package engram

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// eventWriter writes to a space and knows what events that makes.
type eventWriter struct {
	space  *Space
	random *rand.Rand
	tag    string // begins every content
	living map[string]bool
	want   []Event           // by seq - 1, without times and memories
	words  map[uint64]string // contents by seq

	together int // frames of several associations
}

func newEventWriter(s *Space, random *rand.Rand) *eventWriter {
	return &eventWriter{
		space: s, random: random, tag: "tag of " + string(s.ID()), living: make(map[string]bool), words: make(map[uint64]string),
		want: []Event{{Seq: 1, Kind: Configured, Config: &SpaceConfig{}, FrameLast: true}},
	}
}

func (w *eventWriter) expect(e Event) {
	e.Seq = uint64(len(w.want) + 1)
	w.want = append(w.want, e)
}

// write does one random write; w.want says then what comes of it, also where
// its outcome is not known.
func (w *eventWriter) write() error {
	id := func() string { return fmt.Sprint("m", w.random.IntN(20)) }
	switch n := w.random.IntN(20); {
	case n == 0:
		cfg := SpaceConfig{MaxMemories: int64(100 + w.random.IntN(9))}
		w.expect(Event{Kind: Configured, Config: &cfg, FrameLast: true})
		_, err := w.space.Configure(background, cfg)
		return err
	case n < 5:
		ids := []string{id(), id()}
		if w.living[ids[0]] || w.living[ids[1]] {
			w.expect(Event{Kind: Forgotten, IDs: ids, FrameLast: true})
		}
		delete(w.living, ids[0])
		delete(w.living, ids[1])
		_, err := w.space.Forget(background, ids)
		return err
	case n < 8:
		return w.associate(id(), id())
	}
	batch := make([]Memory, 1+max(w.random.IntN(8)-3, 0))
	for i := range batch {
		key, kind := id(), Remembered
		if w.living[key] {
			kind = Replaced
		}
		w.living[key] = true
		w.expect(Event{Kind: kind, IDs: []string{key}, FrameLast: i == len(batch)-1})
		word := fmt.Sprintf("%s, %d", w.tag, len(w.want))
		w.words[uint64(len(w.want))] = word
		batch[i] = Memory{ID: key, Content: word}
	}
	_, err := w.space.RememberBatch(background, batch)
	return err
}

// associate associates two memories, if it can.
func (w *eventWriter) associate(from, to string) error {
	a := Association{From: from, To: to, Kind: w.tag, Weight: 1 - w.random.Float64()}
	if from == to || !w.living[from] || !w.living[to] {
		return nil
	}
	w.expect(Event{Kind: Associated, Association: &a, FrameLast: true})
	_, err := w.space.Associate(background, a)
	return err
}

// associateTogether associates two memories several times at once, in one frame.
func (w *eventWriter) associateTogether(t *testing.T) {
	const together = 4
	var ends []string
	for _, id := range slices.Sorted(maps.Keys(w.living)) {
		if w.living[id] {
			ends = append(ends, id)
		}
	}
	if len(ends) < 2 {
		return
	}
	a, err := w.space.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	commits := w.space.registry.commits
	require.NoError(t, commits.hold(background, a.queue))
	base := uint64(len(w.want))
	w.want = append(w.want, make([]Event, together)...)
	var calls sync.WaitGroup
	for i := range together {
		a := Association{From: ends[0], To: ends[1], Kind: w.tag, Weight: float64(i+1) / together}
		calls.Go(func() {
			receipt, err := w.space.Associate(background, a)
			require.NoError(t, err)
			w.want[receipt.Seq-1] = Event{Seq: receipt.Seq, Kind: Associated, Association: &a, FrameLast: receipt.Seq == base+together}
		})
	}
	waitQueued(t, w.space, together)
	commits.release(a.queue)
	calls.Wait()
	w.together++
}

// lost forgets what is behind seq: a crash has taken it.
func (w *eventWriter) lost(seq uint64) {
	w.want = w.want[:seq]
	clear(w.living)
	for _, e := range w.want {
		for _, id := range e.IDs {
			w.living[id] = e.Kind != Forgotten
		}
	}
}

// requireEvents compares what was read with what was written.
func (w *eventWriter) requireEvents(t *testing.T, got []Event) {
	t.Helper()
	for _, e := range got {
		if e.Memory != nil {
			require.Equal(t, w.words[e.Seq], e.Memory.Content)
			require.Equal(t, w.space.ID(), e.Memory.Space)
			require.Equal(t, e.Seq, e.Memory.Seq)
		}
		e.Memory, e.Time = nil, time.Time{}
		require.Equal(t, w.want[e.Seq-1], e)
	}
}

// visit reads again and again, a random number of events at a time, as fast as
// it likes, until ctx ends or it is at seq. Where history is trimmed it goes on
// at the floor, and counts.
func (u *subscriber) visit(ctx context.Context, random *rand.Rand, seq uint64) (trimmed int, err error) {
	for ctx.Err() == nil && u.after < seq {
		left := random.IntN(100)
		err := u.read(ctx, func(e Event) bool {
			if random.IntN(100) == 0 {
				time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
			}
			left--
			return left < 0 || e.Seq >= seq
		})
		var floor *TrimmedError
		switch {
		case errors.As(err, &floor):
			if floor.Floor <= u.after {
				return trimmed, fmt.Errorf("trimmed at %d, behind which all is kept: %d", floor.Floor, u.after)
			}
			u.after = floor.Floor
			trimmed++
		case err != nil && ctx.Err() == nil:
			return trimmed, err
		}
	}
	return trimmed, nil
}

// Subscribers that disconnect at random, over restarts, kills, sleep, and
// checkpoints with rewritten segments, see the committed operations of their
// space, all of them, in order, and nothing else; of what is trimmed they are told.
func TestSubscribersSeeTheCommittedSequence(t *testing.T) {
	t.Parallel()
	for _, trims := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpoints ", trims), func(t *testing.T) {
			opts := Options{JournalBytes: minJournalBytes}
			opts.seams.segmentBytes, opts.seams.checkpointBytes = 16_000, 40_000
			if !trims {
				opts.seams.checkpointBytes = 1 << 40
			}
			m := newMemoryFS()
			r := openMemory(t, m, opts)
			sequence := &committedSequence{trims: trims, writes: max(scaled(520), 520)}
			for i, id := range modelSpaces {
				sequence.writers = append(sequence.writers, newEventWriter(create(t, r, id), rand.New(rand.NewPCG(7, uint64(i)))))
				sequence.readers = append(sequence.readers, [2]*subscriber{{}, {}})
			}
			for round := range 4 {
				sequence.round(t, r)
				left := m.clone()
				require.NoError(t, r.Close())
				if round%2 == 0 {
					m = left // it was killed
				}
				r = openMemory(t, m, opts)
			}
			require.NoError(t, r.Close())
			operations, together := 0, 0
			for _, w := range sequence.writers {
				operations += len(w.want)
				together += w.together
			}
			t.Logf("%d operations, of which subscribers were told %d times that some are trimmed; %d frames of several associations",
				operations, sequence.trimmed, together)
			require.GreaterOrEqual(t, operations, 10_000)
			require.Greater(t, together, 50)
			require.Equal(t, trims, sequence.trimmed > 0)
		})
	}
}

type committedSequence struct {
	writers []*eventWriter
	readers [][2]*subscriber
	writes  int // of each writer in a round
	trims   bool
	trimmed int
}

// round has all write and read at once, and then the readers catch up.
func (c *committedSequence) round(t *testing.T, r *Registry) {
	var writing, reading sync.WaitGroup
	ctx, written := context.WithCancel(background)
	defer written()
	var mu sync.Mutex
	visit := func(ctx context.Context, u *subscriber, random *rand.Rand, seq uint64) {
		trimmed, err := u.visit(ctx, random, seq)
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		c.trimmed += trimmed
	}
	for i, w := range c.writers {
		w.space = get(t, r, w.space.ID())
		writing.Go(func() { c.write(t, w) })
		for n, u := range c.readers[i] {
			u.space, u.got = w.space, nil
			random := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			reading.Go(func() { visit(ctx, u, random, 1<<40) })
		}
	}
	writing.Wait()
	written()
	reading.Wait()
	for i, w := range c.writers {
		for n, u := range c.readers[i] {
			visit(background, u, rand.New(rand.NewPCG(uint64(i), uint64(n))), uint64(len(w.want)))
			w.requireEvents(t, u.got)
		}
	}
}

func (c *committedSequence) write(t *testing.T, w *eventWriter) {
	for range c.writes {
		require.NoError(t, w.write())
		if w.random.IntN(50) == 0 {
			w.associateTogether(t)
		}
		switch n := w.random.IntN(100); {
		case n == 0 && c.trims:
			require.NoError(t, w.space.Checkpoint(background))
		case n < 2:
			w.space.sleep()
		case n < 5:
			time.Sleep(time.Millisecond) // the readers catch up
		}
	}
}

// Under a durability that does not wait, an event does.
func TestEventsWaitForDurability(t *testing.T) {
	for name, flush := range map[string]func(r *Registry, s *Space) error{
		"settle":     func(r *Registry, _ *Space) error { return r.Settle(background) },
		"checkpoint": func(_ *Registry, s *Space) error { return s.Checkpoint(background) },
		"sleep":      func(_ *Registry, s *Space) error { s.sleep(); return nil },
		"rename":     func(r *Registry, _ *Space) error { return r.Rename(background, "alpha", "beta") },
		"the journal's flush": func(r *Registry, _ *Space) error {
			r.journal.mu.Lock()
			defer r.journal.mu.Unlock()
			return r.journal.flushLocked()
		},
	} {
		for _, durability := range []Durability{Interval(time.Hour), None} {
			t.Run(fmt.Sprint(name, durability), func(t *testing.T) {
				r := openMemory(t, newMemoryFS(), Options{Durability: durability})
				s := create(t, r, "alpha")
				remember(t, s, Memory{ID: "a", Content: "x"})
				readable, _, err := s.feed.look(2)
				require.NoError(t, err)
				require.False(t, readable)
				got := make(chan error, 1)
				u := subscriber{space: s}
				go func() { got <- u.read(background, upTo(2)) }()
				require.NoError(t, flush(r, s))
				require.NoError(t, <-got)
				require.Equal(t, "x", u.got[1].Memory.Content)
				require.NoError(t, r.Close())
			})
		}
	}
}

// A mark that is written on the way to something else makes durable what it covers.
func TestEventsUpToTheMark(t *testing.T) {
	for name, marks := range map[string]func(disk *crashfs.FS, r *Registry, s *Space){
		"writes beside a checkpoint": func(disk *crashfs.FS, _ *Registry, s *Space) {
			disk.SetHook(func(c crashfs.Call) error {
				if c.Op == crashfs.OpCreate && strings.HasSuffix(c.Name, checkpointTemporary) {
					remember(t, s, Memory{ID: "a", Content: "x"})
				}
				return nil
			})
			require.NoError(t, s.Checkpoint(background))
		},
		"a rename that fails": func(disk *crashfs.FS, r *Registry, s *Space) {
			remember(t, s, Memory{ID: "a", Content: "x"})
			disk.SetHook(func(c crashfs.Call) error {
				if c.Op == crashfs.OpRename {
					return syscall.ENOSPC
				}
				return nil
			})
			require.ErrorIs(t, r.Rename(background, "alpha", "beta"), ErrDiskFull)
		},
	} {
		disk := crashfs.New()
		r := openMemory(t, disk, Options{Durability: None})
		s := create(t, r, "alpha")
		marks(disk, r, s)
		require.Equal(t, uint64(2), s.Stats().Operator.MarkSeq, name)
		readable, _, err := s.feed.look(2)
		require.NoError(t, err)
		require.True(t, readable, name)
		require.NoError(t, r.Close())
	}
}

// What took a memory's place hides it only when that is durable: otherwise a
// crash could bring back what the subscriber was not shown.
func TestEventsWaitForWhatHidesThem(t *testing.T) {
	r := openMemory(t, newMemoryFS(), Options{Durability: None})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "a", Content: "x"})
	require.NoError(t, r.Settle(background))
	forget(t, s, "a")
	u := subscriber{space: s}
	got := make(chan error, 1)
	go func() { got <- u.read(background, upTo(3)) }()
	for waits := false; !waits; runtime.Gosched() {
		s.feed.mu.Lock()
		if waits = s.feed.changed != nil; waits {
			require.Equal(t, uint64(1), u.after)
		}
		s.feed.mu.Unlock()
	}
	require.NoError(t, r.Settle(background))
	require.NoError(t, <-got)
	require.Nil(t, u.got[1].Memory)
	require.NoError(t, r.Close())
}

// A flush that failed ends the waiting for it.
func TestEventsOfAFailedJournal(t *testing.T) {
	disk := crashfs.New()
	r := openMemory(t, disk, Options{Durability: Interval(time.Hour)})
	s := create(t, r, "alpha")
	remember(t, s, Memory{ID: "a", Content: "x"})
	got := make(chan error, 1)
	u := subscriber{space: s}
	go func() { got <- u.read(background, upTo(2)) }()
	disk.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpSync {
			return errors.New("the device has failed")
		}
		return nil
	})
	r.journal.mu.Lock()
	require.Error(t, r.journal.flushLocked())
	r.journal.mu.Unlock()
	require.ErrorIs(t, <-got, ErrStopped)
	require.Equal(t, uint64(1), u.after)
	disk.SetHook(nil)
	require.Error(t, r.Close())
}

// So does the end of the registry's writes, whoever waits, for whatever: who waits
// already, who comes later, and also where the space has slept since.
func TestEventsOfStoppedWrites(t *testing.T) {
	for _, durability := range []Durability{Sync, Interval(time.Hour), None} {
		synctest.Test(t, func(t *testing.T) {
			disk := crashfs.New()
			r := openMemory(t, disk, Options{Durability: durability})
			s, idle := create(t, r, "alpha"), create(t, r, "beta")
			remember(t, s, Memory{ID: "a", Content: "x"})
			require.NoError(t, r.Settle(background))
			got := make(chan error, 2)
			u := subscriber{space: s}
			go func() { got <- u.read(background, upTo(3)) }()
			go func() { got <- (&subscriber{space: idle}).read(background, upTo(2)) }()
			synctest.Wait()
			disk.SetHook(func(c crashfs.Call) error {
				if c.Op == crashfs.OpWrite {
					return errors.New("the device has failed")
				}
				return nil
			})
			_, err := s.Remember(background, Memory{ID: "b", Content: "y"})
			require.ErrorIs(t, err, ErrUnknownOutcome)
			disk.SetHook(nil)
			require.ErrorIs(t, <-got, ErrStopped)
			require.ErrorIs(t, <-got, ErrStopped)
			require.Equal(t, uint64(2), u.after)
			for range 2 {
				again := subscriber{space: s}
				require.ErrorIs(t, again.read(background, upTo(3)), ErrStopped)
				require.Equal(t, uint64(2), again.after)
				asleep(t, s)
			}
			require.Error(t, r.Close())
		})
	}
}

// What was durable when the registry's writes ended comes first, also where it was
// not applied yet.
func TestEventsBeforeStoppedWrites(t *testing.T) {
	r := openMemory(t, newMemoryFS(), Options{})
	s := create(t, r, "alpha")
	a, err := s.use(background)
	require.NoError(t, err)
	a.commits.Lock()
	wrote := make(chan error)
	go func() {
		_, err := s.Remember(background, Memory{ID: "a", Content: "x"})
		wrote <- err
	}()
	for flushed := false; !flushed; runtime.Gosched() {
		r.journal.mu.Lock()
		flushed = r.journal.groups > 0 && r.journal.current.flushed == r.journal.current.end
		r.journal.mu.Unlock()
	}
	r.journal.mu.Lock()
	_ = r.journal.failLocked(errors.New("the device has failed"))
	r.journal.mu.Unlock()
	got := make(chan error)
	u := subscriber{space: s}
	go func() { got <- u.read(background, upTo(3)) }()
	for waits := false; !waits; runtime.Gosched() {
		r.commits.mu.Lock()
		waits = a.queue.idle != nil
		r.commits.mu.Unlock()
	}
	a.commits.Unlock()
	require.NoError(t, <-wrote)
	require.ErrorIs(t, <-got, ErrStopped)
	require.Equal(t, uint64(2), u.after)
	a.uses.Add(-1)
	require.Error(t, r.Close())
}

// After a power cut or a kill at any call, under every durability, every event
// that was yielded is part of the history that is found, and whoever goes on
// behind it sees the rest.
func TestCrashEvents(t *testing.T) {
	row := faultRow{"lives of a registry with subscribers, each cut or killed", "registries", 1_000}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.options()
		writers := make(map[SpaceID]*eventWriter)
		readers := make(map[SpaceID]*subscriber)
		for life := range 4 {
			x.cut(x.random.IntN([]int{30, 200, 600}[x.random.IntN(3)]))
			if life == 3 {
				x.cut(-1)
			}
			if err := x.begin(); err == nil {
				x.eventLife(writers, readers)
			}
			if life == 3 {
				break
			}
			x.log("life %d ends", life)
			x.end(x.random.IntN(3) > 0)
		}
		require.NoError(x.t, x.r.Settle(background), reproduceFault(x.t, x.seed))
		for id, w := range writers {
			u := readers[id]
			_, err := u.visit(background, x.random, uint64(len(w.want)))
			require.NoError(x.t, err, reproduceFault(x.t, x.seed))
			w.requireEvents(x.t, u.got)
		}
		require.NoError(x.t, x.r.Close())
		x.r = nil
		x.end(false)
		x.row.count(1)
	})
}

// eventLife checks what the subscribers have seen against what is found, and
// then writes to the spaces, with a subscriber of each, until the process ends.
func (x *crashRun) eventLife(writers map[SpaceID]*eventWriter, readers map[SpaceID]*subscriber) {
	x.t.Helper()
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for _, id := range crashNames {
		s, err := x.r.GetOrCreate(background, id, SpaceConfig{})
		if err != nil {
			return
		}
		if writers[id] == nil {
			writers[id], readers[id] = newEventWriter(s, x.random), &subscriber{}
		}
		w, u := writers[id], readers[id]
		w.space, u.space = s, s
		a, err := s.use(background)
		if err != nil {
			return
		}
		seq := a.info().Seq
		a.uses.Add(-1)
		if u.after > seq {
			x.fatal("space %q is at seq %d, an event of seq %d was yielded", id, seq, u.after)
		}
		w.lost(seq)
		w.requireEvents(x.t, u.got)
		random := rand.New(rand.NewPCG(x.seed, x.random.Uint64()))
		reading.Go(func() {
			if _, err := u.visit(ctx, random, 1<<40); err != nil && x.alive(err) {
				x.t.Errorf("%v\nreproduce with: %s", err, reproduceFault(x.t, x.seed))
			}
		})
	}
	for range 60 {
		id := crashNames[x.random.IntN(len(crashNames))]
		err := writers[id].write()
		switch x.random.IntN(30) {
		case 0:
			err = errors.Join(err, writers[id].space.Checkpoint(background))
		case 1:
			writers[id].space.sleep()
		case 2:
			err = errors.Join(err, x.r.Settle(background))
		}
		if err != nil {
			if x.alive(err) {
				x.fatal("%v", err)
			}
			return
		}
	}
}

// What a subscriber takes for an event is no more where the log has many segments: who
// stands in one does not look at the others.
func TestEventsDoNotCountSegments(t *testing.T) {
	const segments, events = 500, 400
	opts := Options{Durability: None}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = segmentHeaderBytes, 1<<40
	s, _ := newTestSpace(t, opts)
	for range segments {
		remember(t, s, Memory{ID: "m", Content: "in a segment of its own"})
	}
	l := s.awake.Load().log
	l.segmentBytes = 1 << 20 // nobody writes
	before := infoOf(t, s).Seq
	for range events {
		remember(t, s, Memory{ID: "m", Content: "beside others"})
	}
	files, _ := l.size()
	require.Greater(t, files, segments)
	require.NoError(t, s.registry.Settle(background))
	next, stop := iter.Pull2(s.Subscribe(background, before))
	defer stop()
	var began, ended runtime.MemStats
	for i := range events {
		if i == 1 {
			runtime.ReadMemStats(&began) // it stands in the segment
		}
		_, err, ok := next()
		require.NoError(t, err)
		require.True(t, ok)
	}
	runtime.ReadMemStats(&ended)
	require.Less(t, ended.TotalAlloc-began.TotalAlloc, uint64(events*segments*8))
}
