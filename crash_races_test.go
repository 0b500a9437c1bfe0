package engram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// Whatever is under way when the registry is closed has ended when Close
// returns, or touches no file any more: the directory may be another process's.
func TestCrashCloseMeanwhile(t *testing.T) {
	t.Parallel()
	row := faultRow{"Close meanwhile", "registries", 1_500}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.options()
		require.NoError(t, x.begin())
		for _, id := range crashNames {
			x.create(id)
			x.remember(id, x.spaces[id], 5)
		}
		var work sync.WaitGroup
		failures := make(chan error, 100)
		for n, busy := range []func(*rand.Rand, int) error{
			x.busyWriting, x.busyWriting, x.busyCheckpointing, x.busyCheckpointing, x.busyCreating, x.busyRenaming, x.busyReading, x.busySettling,
			x.busySubscribing, x.busyVerifying, x.busyImporting,
		} {
			random := rand.New(rand.NewPCG(x.seed, uint64(n)))
			work.Go(func() {
				for i := 0; ; i++ {
					err := busy(random, i)
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil && !errors.Is(err, ErrSpaceNotFound) && !errors.Is(err, ErrSpaceExists) && !errors.Is(err, ErrSpaceDeleted) {
						failures <- fmt.Errorf("number %d: %w", n, err)
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(x.random.IntN(3000)) * time.Microsecond)
		err := x.r.Close()
		var late atomic.Pointer[crashfs.Call]
		x.fs.SetHook(func(c crashfs.Call) error {
			if c.Op.Mutates() {
				late.Store(&c)
			}
			return nil
		})
		work.Wait()
		close(failures)
		for err := range failures {
			x.fatal("a caller got neither its answer nor ErrClosed: %v", err)
		}
		if c := late.Load(); c != nil {
			x.fatal("after Close returned: %s %s", c.Op, c.Name)
		}
		if err != nil {
			x.fatal("close: %v", err)
		}
		if left := x.fs.Handles(); len(left) > 0 {
			x.fatal("closed with open handles %q", left)
		}
		x.row.count(1)
	})
}

func (x *crashRun) busyWriting(random *rand.Rand, _ int) error {
	return x.busyIn(random, func(s *Space) error {
		_, err := s.Remember(background, Memory{ID: fmt.Sprint(random.IntN(20)), Content: strings.Repeat("amet ", random.IntN(100)) + "."})
		return err
	})
}

func (x *crashRun) busyReading(random *rand.Rand, _ int) error {
	return x.busyIn(random, func(s *Space) error {
		_, err := s.Recall(background, Cue{Text: "amet lorem"})
		return err
	})
}

func (x *crashRun) busyCheckpointing(random *rand.Rand, _ int) error {
	return x.busyIn(random, func(s *Space) error { return s.Checkpoint(background) })
}

// busySubscribing reads some events, and in the end waits.
func (x *crashRun) busySubscribing(random *rand.Rand, i int) error {
	return x.busyIn(random, func(s *Space) error {
		for e, err := range s.Subscribe(background, 0) {
			if errors.Is(err, ErrTrimmed) {
				return nil
			}
			if err != nil || i < 20 && e.Seq > uint64(random.IntN(30)) {
				return err
			}
		}
		return nil
	})
}

func (x *crashRun) busyVerifying(random *rand.Rand, _ int) error {
	return x.busyIn(random, func(s *Space) error {
		_, err := s.Verify(background)
		return err
	})
}

func (x *crashRun) busyImporting(random *rand.Rand, _ int) error {
	var export bytes.Buffer
	err := x.busyIn(random, func(s *Space) error {
		_, err := s.Export(background, &export)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := x.r.Import(background, "imported", &export); err != nil {
		return err
	}
	return x.r.Delete(background, "imported")
}

func (x *crashRun) busyIn(random *rand.Rand, do func(*Space) error) error {
	s, err := x.r.Get(background, crashNames[random.IntN(len(crashNames))])
	if err != nil {
		return err
	}
	return do(s)
}

func (x *crashRun) busyCreating(_ *rand.Rand, i int) error {
	id := SpaceID(fmt.Sprint("new", i%3))
	if _, err := x.r.Create(background, id, SpaceConfig{}); err != nil {
		return err
	}
	return x.r.Delete(background, id)
}

func (x *crashRun) busyRenaming(_ *rand.Rand, i int) error {
	if i%2 == 0 {
		return x.r.Rename(background, crashNames[0], "renamed")
	}
	return x.r.Rename(background, "renamed", crashNames[0])
}

func (x *crashRun) busySettling(*rand.Rand, int) error { return x.r.Settle(background) }

// Writers of several spaces, checkpoints, sleeping, creating and deleting at the
// same time, cut at any moment.
func TestCrashConcurrent(t *testing.T) {
	row := faultRow{"concurrent writers cut at any moment", "registries", 1_500}
	forCrashSeeds(t, row, func(x *crashRun) {
		x.options()
		require.NoError(t, x.begin())
		var writers []*crashWriter
		for _, id := range crashNames {
			x.create(id)
			for n := range 1 + x.random.IntN(3) {
				writers = append(writers, &crashWriter{
					x: x, id: id, number: n, random: rand.New(rand.NewPCG(x.seed, uint64(len(writers)))), states: []crashState{{}}, seqs: []uint64{0},
				})
			}
		}
		x.cut(x.random.IntN(300))
		done := make(chan struct{})
		var work, others sync.WaitGroup
		for _, w := range writers {
			work.Go(w.run)
		}
		churn := &crashChurn{x: x}
		others.Go(func() { churn.run(done) })
		others.Go(func() { x.maintain(done, rand.New(rand.NewPCG(x.seed, 99))) })
		work.Wait()
		close(done)
		others.Wait()
		power := x.random.IntN(3) > 0
		x.end(power)

		require.NoError(t, x.begin())
		churn.check()
		for _, id := range crashNames {
			seq, state, err := x.read(id)
			if err != nil {
				x.fatal("space %q cannot be read: %v", id, err)
			}
			for _, w := range writers {
				if w.id == id {
					w.check(seq, state, power)
				}
			}
			x.spaces[id] = &history{tag: string(id), writes: []crashWrite{{seq: seq, state: state}}}
		}
		x.end(x.durable())
		x.conclude()
		x.row.count(1)
	})
}

// crashWriter writes memories of its own to a space that others write to, too.
type crashWriter struct {
	x      *crashRun
	id     SpaceID
	number int
	random *rand.Rand
	states []crashState // of its own memories, after each of its writes
	seqs   []uint64     // of its writes; 0: not acknowledged
	failed error
}

func (w *crashWriter) run() {
	s, err := w.x.r.Get(background, w.id)
	for n := 0; err == nil && n < 60; n++ {
		state := w.states[len(w.states)-1]
		var ms []Memory
		for i := range 1 + w.random.IntN(3) {
			m := crashMemory{content: fmt.Sprintf("%s writer %d memory %d %s", w.id, w.number, n, strings.Repeat("dolor ", w.random.IntN(100)))}
			ms = append(ms, Memory{ID: fmt.Sprintf("w%d-%d-%d", w.number, n, i), Content: m.content})
		}
		var seq uint64
		if gone := slices.Sorted(maps.Keys(state)); w.random.IntN(4) == 0 && len(gone) > 0 {
			id := gone[w.random.IntN(len(gone))]
			next, _ := state.without(func(other string, _ crashMemory) bool { return other == id })
			w.states = append(w.states, next)
			var receipt ForgetReceipt
			receipt, err = s.Forget(background, []string{id})
			seq = receipt.Seq
		} else {
			for _, m := range ms {
				state = state.with(m.ID, crashMemory{content: m.Content})
			}
			w.states = append(w.states, state)
			var receipts []Receipt
			if receipts, err = s.RememberBatch(background, ms); err == nil {
				seq = receipts[len(receipts)-1].Seq
			}
		}
		w.seqs = append(w.seqs, seq)
	}
	w.failed = err
}

// check judges what became of the writer's own memories in a space that has
// recovered to seq.
func (w *crashWriter) check(seq uint64, found crashState, power bool) {
	if w.failed != nil && !errors.Is(w.failed, crashfs.ErrCut) && !errors.Is(w.failed, ErrStopped) {
		w.x.fatal("a writer failed: %v", w.failed)
	}
	least := 0
	for i, s := range w.seqs {
		if s != 0 && (s <= seq || !power || w.x.durable()) {
			least = i
		}
	}
	mine, _ := found.without(func(id string, _ crashMemory) bool { return !strings.HasPrefix(id, fmt.Sprintf("w%d-", w.number)) })
	diff := w.states[least].differs(mine)
	if diff != "" && least+1 < len(w.states) && w.seqs[least+1] == 0 && w.states[least+1].differs(mine) == "" {
		diff = ""
	}
	if diff != "" {
		w.x.fatal("writer %d of space %q, at seq %d of %d: %s", w.number, w.id, seq, w.seqs, diff)
	}
}

// crashChurn creates and deletes one space again and again.
type crashChurn struct {
	x       *crashRun
	there   bool
	unknown bool // whether there is
	rounds  int
	wrote   bool // the space has the memory that is written after its creation
	failed  error
}

const churned = SpaceID("churn")

func (c *crashChurn) run(done chan struct{}) {
	for ; c.failed == nil; c.rounds++ {
		select {
		case <-done:
			return
		default:
		}
		c.unknown = true
		s, err := c.x.r.Create(background, churned, SpaceConfig{})
		if err == nil {
			c.there, c.wrote, c.unknown = true, false, false
			if _, err = s.Remember(background, Memory{ID: "m", Content: fmt.Sprint("round ", c.rounds)}); err == nil {
				c.wrote = c.x.durable()
				c.unknown = true
				if err = c.x.r.Delete(background, churned); err == nil {
					c.there, c.unknown = false, false
				}
			}
		}
		c.failed = err
	}
}

// check judges whether the space is there, and that it is the last one created.
func (c *crashChurn) check() {
	s, err := c.x.r.Get(background, churned)
	if !c.unknown && c.there != (err == nil) {
		c.x.fatal("the space is there: %v, but %v", c.there, err)
	}
	if err == nil {
		m, err := s.Lookup(background, "m")
		switch {
		case err == nil && m.Content != fmt.Sprint("round ", c.rounds-1):
			c.x.fatal("the space has %q of an earlier one, not of round %d", m.Content, c.rounds-1)
		case err != nil && (c.wrote && c.there || !errors.Is(err, ErrMemoryNotFound)):
			c.x.fatal("the space has lost its memory: %v", err)
		}
		c.x.tolerate(c.x.r.Delete(background, churned))
	}
}

// maintain checkpoints, sleeps and settles at random.
func (x *crashRun) maintain(done chan struct{}, random *rand.Rand) {
	for !x.fs.Ended() {
		select {
		case <-done:
			return
		default:
		}
		s, err := x.r.Get(background, crashNames[random.IntN(len(crashNames))])
		if err != nil {
			return
		}
		switch random.IntN(4) {
		case 0:
			err = s.Checkpoint(background)
		case 1:
			s.sleep()
		case 2:
			err = x.r.Settle(background)
		case 3:
			_, err = s.Recall(background, Cue{Text: "writer", Limit: 3})
		}
		if err != nil {
			return
		}
	}
}

// A log that hangs neither stops other spaces, whose journal goes on though it
// is full again and again, nor Close, which names it.
func TestCrashHangingLog(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{seams: seams{settleHang: 10 * time.Millisecond}})
	r.journal.mu.Lock()
	r.journal.fileBytes = 16 << 10
	r.journal.mu.Unlock()
	sick, well := create(t, r, "sick"), create(t, r, "well")
	remember(t, sick, Memory{ID: "m", Content: "before the disk hangs"})
	sickDirectory := madeIn(sick)
	_, release := hangAt(f, func(c crashfs.Call) bool {
		return c.Op == crashfs.OpSync && strings.Contains(c.Name, sickDirectory)
	})
	for i := range 40 {
		remember(t, well, Memory{ID: fmt.Sprint(i), Content: strings.Repeat("well ", 500)})
	}
	require.Len(t, list(t, sick, Filter{}), 1)
	closeHanging(t, r, f, release, "sick")
	r = openMemory(t, f.Crash(1), Options{})
	require.Len(t, list(t, get(t, r, "sick"), Filter{}), 1)
	require.Len(t, list(t, get(t, r, "well"), Filter{}), 40)
	require.NoError(t, r.Close())
}

// What hung and has ended while Close waits is settled: a disk was busy.
func TestCloseWaitsForABusyLog(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	r := openMemory(t, f, Options{seams: seams{settleHang: 10 * time.Millisecond, closeHang: patient}})
	s := create(t, r, "busy")
	remember(t, s, Memory{ID: "m", Content: "content"})
	directory := madeIn(s)
	hanging, release := hangAt(f, func(c crashfs.Call) bool {
		return c.Op == crashfs.OpSync && strings.Contains(c.Name, directory)
	})
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	<-hanging
	require.Eventually(t, func() bool {
		r.journal.mu.Lock()
		defer r.journal.mu.Unlock()
		return len(r.journal.carried) > 0
	}, time.Minute, time.Millisecond, "it is given up")
	release()
	require.NoError(t, <-closed)
	require.Empty(t, f.Handles())
	r = openMemory(t, f.Crash(1), Options{})
	require.Len(t, list(t, get(t, r, "busy"), Filter{}), 1)
	require.NoError(t, r.Close())
}

// Nor does a log that hangs as it is written what it had no room for: the others' group
// commit waits neither for that nor for who does it.
func TestCrashHangingLogBesideAFullDisk(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	sick, well := create(t, r, "sick"), create(t, r, "well")
	sickDirectory := madeIn(sick)
	toLog := func(c crashfs.Call) bool {
		return c.Op == crashfs.OpWrite && strings.Contains(c.Name, sickDirectory) && strings.HasSuffix(c.Name, walSuffix)
	}
	f.SetHook((&crashfs.Fault{Applies: toLog, First: 1, Err: syscall.ENOSPC}).Hook)
	remember(t, sick, Memory{ID: "m", Content: "waits in memory"})
	_, err := sick.Remember(background, Memory{ID: "n", Content: "is refused"})
	require.ErrorIs(t, err, ErrDiskFull)
	hanging, release := hangAt(f, toLog)
	later, stored := make(chan error, 3), make(chan error, 1)
	for i := range cap(later) {
		go func() {
			_, err := sick.Remember(background, Memory{ID: fmt.Sprint("later", i), Content: "is stored when there is room"})
			later <- err
		}()
	}
	<-hanging
	go func() {
		_, err := well.Remember(background, Memory{ID: "m", Content: "content"})
		stored <- err
	}()
	select {
	case err = <-stored:
		release()
	case <-time.After(time.Minute):
		release()
		err = errors.Join(<-stored, errors.New("a space waits for another's log"))
	}
	for range cap(later) {
		err = errors.Join(err, <-later)
	}
	require.NoError(t, err)
	require.Len(t, list(t, sick, Filter{}), 4)
	require.NoError(t, r.Close())
}

// Who deletes a space waits for who writes what waits for room in its log. Who waits for
// that, to write more or to delete, leaves when its context ends, and others go on.
func TestDeleteBesideFramesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "sick")
		toLog := func(c crashfs.Call) bool { return c.Op == crashfs.OpWrite && strings.HasSuffix(c.Name, walSuffix) }
		f.SetHook((&crashfs.Fault{Applies: toLog, First: 1, Err: syscall.ENOSPC}).Hook)
		remember(t, s, Memory{ID: "m", Content: "waits in memory"})
		hanging, release := hangAt(f, toLog)
		written, deleted := make(chan error, 1), make(chan error, 1)
		write := func(ctx context.Context) error {
			_, err := s.Remember(ctx, Memory{Content: "content"})
			return err
		}
		go func() { written <- write(background) }()
		<-hanging
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		require.ErrorIs(t, write(ctx), context.DeadlineExceeded)
		ctx, cancel = context.WithTimeout(background, time.Second)
		defer cancel()
		go func() { deleted <- r.Delete(ctx, "sick") }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, deleted, 1)
		require.ErrorIs(t, <-deleted, context.DeadlineExceeded)
		go func() { deleted <- r.Delete(background, "sick") }()
		synctest.Wait()
		require.Empty(t, deleted)
		release()
		require.NoError(t, <-deleted)
		require.ErrorIs(t, <-written, ErrSpaceDeleted)
		require.NoError(t, r.Close())
	})
}

// A space that hangs while the settler looks for it after a crash, or wakes it, does
// not stop Close either, and loses nothing.
func TestCrashHangingRecovery(t *testing.T) {
	for _, hang := range []crashfs.Call{
		{Op: crashfs.OpRead, Name: "sick/" + spaceFile}, // to see which space it is
		{Op: crashfs.OpReadDir, Name: "sick/" + walDir},
		{Op: crashfs.OpCreate, Name: "sick/" + segmentPath(2)},
		{Op: crashfs.OpSync, Name: "sick/" + spaceFile},
	} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		remember(t, create(t, r, "sick"), Memory{ID: "m", Content: "before the crash"})
		after := f.Kill()
		_ = r.Close() // its process has ended
		f = after
		hanging, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == hang.Op && c.Name == hang.Name })
		r = openMemory(t, f, Options{seams: seams{settleHang: 10 * time.Millisecond}})
		<-hanging
		closeHanging(t, r, f, release, "sick")
		r = openMemory(t, f, Options{})
		require.Len(t, list(t, get(t, r, "sick"), Filter{}), 1)
		require.NoError(t, r.Close())
	}
}

// hangAt has the calls hang that apply, until release. hanging is closed when one does.
func hangAt(f *crashfs.FS, applies func(crashfs.Call) bool) (hanging <-chan struct{}, release func()) {
	began, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.SetHook(func(c crashfs.Call) error {
		if applies(c) {
			once.Do(func() { close(began) })
			<-released
		}
		return nil
	})
	return began, func() { close(released) }
}

// closeHanging closes a registry with a space that hangs until release. As long as it
// does, nobody else gets the directory: the call that hangs may still change it. Then
// nothing stays open.
func closeHanging(t *testing.T, r *Registry, f *crashfs.FS, release func(), sick SpaceID) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	select {
	case err := <-closed:
		require.ErrorContains(t, err, string(sick))
	case <-time.After(time.Minute):
		release()
		require.Error(t, <-closed, "Close waits for a space that hangs")
		t.Fatal("Close waits for a space that hangs")
	}
	_, err := Open("", Options{seams: seams{fs: f}})
	require.ErrorIs(t, err, ErrLocked)
	release()
	require.Eventually(t, func() bool { return len(f.Handles()) == 0 }, time.Minute, time.Millisecond)
}

// madeIn is the part of the paths of the space's open files that stays: they keep
// the name of the directory they were made in.
func madeIn(s *Space) string { return s.Info().Incarnation }

// sicken has the space's files be flushed no more.
func sicken(f *crashfs.FS, s *Space) {
	directory := madeIn(s)
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpSync && strings.Contains(c.Name, directory) {
			return syscall.EIO
		}
		return nil
	})
}

// A reader that ends after Close leaves the segments that it was the last to
// need: they are the next opening's to remove.
func TestReaderOutlivesClose(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "read"}, Memory{ID: "n", Content: "forgotten"})
	_, _, stop := beginReading(t, s)
	forget(t, s, "n")
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Close())
	changes := f.MutatingCalls()
	stop()
	require.Equal(t, changes, f.MutatingCalls(), "the directory may be another process's")
	f = f.Kill()
	r = openMemory(t, f, Options{})
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "aaa"), Filter{})))
	require.NoError(t, r.Close())
}

// Writes that are withdrawn from a full queue make room for those that wait.
func TestWithdrawnWritesMakeRoom(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	flushing, release := hangAt(f, func(c crashfs.Call) bool { return c.Op == crashfs.OpSync })
	content := strings.Repeat("a", MaxContentBytes)
	batch := []Memory{{Content: content}, {Content: content}, {Content: content}}
	var work sync.WaitGroup
	work.Go(func() {
		_, err := s.Remember(background, Memory{Content: "holds the journal"})
		require.NoError(t, err)
	})
	<-flushing
	impatient, cancel := context.WithCancel(background)
	for range 2 {
		work.Go(func() {
			_, err := s.RememberBatch(impatient, batch)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	queued := func(n int) func() bool {
		return func() bool {
			r.commits.mu.Lock()
			defer r.commits.mu.Unlock()
			return len(s.awake.Load().queue.writes) == n
		}
	}
	require.Eventually(t, queued(2), time.Minute, time.Millisecond)
	waited := make(chan error, 1)
	go func() {
		_, err := s.RememberBatch(background, batch)
		waited <- err
	}()
	waiting := func() bool {
		r.commits.mu.Lock()
		defer r.commits.mu.Unlock()
		return s.awake.Load().queue.room != nil
	}
	require.Eventually(t, waiting, time.Minute, time.Millisecond)
	cancel()
	require.Eventually(t, queued(1), time.Minute, time.Millisecond, "nobody told it that there is room")
	release()
	require.NoError(t, <-waited)
	work.Wait()
	require.NoError(t, r.Close())
}
