package engram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
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

// tinyJournal makes the journal change files every few dozen operations. It is
// far below what Options admit, so it is set behind their back.
func tinyJournal(r *Registry) {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	r.journal.fileBytes = 8 << 10
}

// The journal changes files while several spaces write, some of them large
// batches: whenever the process is killed, everything acknowledged is there.
func TestJournalChangesFiles(t *testing.T) {
	t.Parallel()
	for _, durability := range []Durability{Sync, Interval(time.Millisecond), None} {
		m := newMemoryFS()
		r := openMemory(t, m, Options{Durability: durability})
		tinyJournal(r)
		var mu sync.Mutex // an operation and the clone that must have it
		acknowledged := make(map[SpaceID]int)
		var work sync.WaitGroup
		for i := range 4 {
			s := create(t, r, SpaceID(fmt.Sprint("space-", i)))
			work.Go(func() {
				for n := range 60 {
					batch := []Memory{{ID: fmt.Sprint("m", n), Content: strings.Repeat("x", 1+100*i)}}
					if n%20 == 19 { // larger than a file of the journal
						batch[0].Content = strings.Repeat("y", 12<<10)
					}
					_, err := s.RememberBatch(background, batch)
					if err != nil {
						t.Errorf("%s: %v", s.ID(), err)
						return
					}
					mu.Lock()
					acknowledged[s.ID()] = n + 1
					mu.Unlock()
				}
			})
		}
		for range 10 {
			time.Sleep(time.Millisecond)
			requireAcknowledged(t, m, &mu, acknowledged)
		}
		work.Wait()
		require.Greater(t, r.Stats().JournalGeneration, uint64(5))
		require.LessOrEqual(t, r.Stats().JournalFiles, 3)
		requireAcknowledged(t, m, &mu, acknowledged)
		require.NoError(t, r.Close())
		requireZeroJournal(t, m)
	}
}

// requireAcknowledged kills the registry in the file system, and opens what is left.
func requireAcknowledged(t *testing.T, m *memoryFS, mu *sync.Mutex, acknowledged map[SpaceID]int) {
	t.Helper()
	mu.Lock()
	least := make(map[SpaceID]int)
	for id, n := range acknowledged {
		least[id] = n
	}
	mu.Unlock()
	killed := m.clone()
	r := openMemory(t, killed, Options{})
	for id, n := range least {
		held := list(t, get(t, r, id), Filter{})
		require.GreaterOrEqual(t, len(held), n, id)
		for i, memory := range held {
			require.Equal(t, fmt.Sprint("m", i), memory.ID)
		}
	}
	require.NoError(t, r.Close())
}

// Interval flushes what was written within its duration, once; nothing is armed
// while nothing is written.
func TestIntervalFlushesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newCountingFS(newMemoryFS())
		r := openMemory(t, fs, Options{Durability: Interval(time.Minute)})
		s := create(t, r, "alpha")
		for round := range 3 {
			for range 5 {
				remember(t, s, Memory{Content: "x"})
				time.Sleep(10 * time.Second)
			}
			time.Sleep(9 * time.Second)
			require.Equal(t, uint64(round), r.Stats().Flushes, "it is not due yet")
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.Equal(t, uint64(round+1), r.Stats().Flushes)
			time.Sleep(time.Hour)
			require.Equal(t, uint64(round+1), r.Stats().Flushes, "nothing was written meanwhile")
			require.NoError(t, r.Settle(background))
		}
		require.NoError(t, r.Close()) // a goroutine that is left would fail the test
	})
}

// Freed files of the journal are zeroed once nothing is written for a while.
func TestFreedJournalFilesAreZeroedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryFS()
		r := openMemory(t, m, Options{})
		tinyJournal(r)
		s := create(t, r, "alpha")
		for range 20 {
			remember(t, s, Memory{Content: strings.Repeat("canary ", 200)})
		}
		dirty := func() int {
			n := 0
			for name, content := range m.files(journalDir) {
				if name != headName && len(bytes.Trim(content, "\x00")) > 0 {
					n++
				}
			}
			return n
		}
		synctest.Wait()
		require.Equal(t, 2, dirty())
		time.Sleep(3 * idleZero)
		synctest.Wait()
		require.Equal(t, 1, dirty(), "only the current file holds anything")
		require.NoError(t, r.Close())
	})
}

// One damaged space keeps its frames in the journal; the bytes of the others go
// all the same.
func TestSettleBesideADamagedSpace(t *testing.T) {
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	bad := create(t, r, "bad")
	require.NoError(t, r.Settle(background))
	remember(t, bad, Memory{ID: "x", Content: "waits for its space"})
	killed := m.clone()
	require.NoError(t, r.Close())
	spaceFileOf := killed.files("bad")[spaceFile]
	broken := bytes.Clone(spaceFileOf)
	clear(broken[pageBytes : 3*pageBytes])
	killed.put("bad/SPACE", broken)

	r = openMemory(t, killed, Options{})
	tinyJournal(r)
	good := create(t, r, "good")
	for i := range 30 {
		remember(t, good, Memory{ID: fmt.Sprint(i), Content: strings.Repeat("canary ", 200)})
	}
	_, err := good.ForgetWhere(background, Filter{Kind: Episodic})
	require.NoError(t, err)
	require.NoError(t, good.Checkpoint(background))
	require.ErrorIs(t, r.Settle(background), ErrCorrupt, "it says what could not be settled")
	requireNowhere(t, killed, "canary")
	_, err = bad.Remember(background, Memory{Content: "x"})
	require.ErrorIs(t, err, ErrClosed)
	_, err = get(t, r, "bad").Remember(background, Memory{Content: "x"})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, r.Close(), ErrCorrupt)

	killed.put("bad/SPACE", spaceFileOf) // the damage is repaired: nothing was lost
	r = openMemory(t, killed, Options{})
	require.Equal(t, []string{"x"}, idsOf(list(t, get(t, r, "bad"), Filter{})))
	require.NoError(t, r.Close())
}

// However many spaces wait, a group is one that recovery can read.
func TestGroupsOfManySpaces(t *testing.T) {
	c := &committer{}
	const waiting = 40_000
	for i := range waiting {
		q := &queue{space: &fakeSpace{id: SpaceID(fmt.Sprintf("%064d", i))}}
		q.writes = []*write{{bytes: 38}} // the least that a write can be
		c.scheduleLocked(q)
	}
	taken := 0
	for len(c.ready) > 0 {
		batches := c.takeTurns()
		require.NotEmpty(t, batches)
		taken += len(batches)
		frames, _ := c.frames(batches)
		b := appendGroup(nil, generationTag{}, 0, promise{}, frames)
		g, ok := decodeGroup(b, generationTag{})
		require.True(t, ok, "%d frames", len(frames))
		require.Len(t, g.entries, len(frames))
	}
	require.Equal(t, waiting, taken)
}

// frames has each space make its frame.
func (c *committer) frames(batches []*batch) (frames []groupFrame, writes int) {
	for _, b := range batches {
		f, _, n := b.queue.space.take(b.writes)
		frames, writes = append(frames, f), writes+n
	}
	return frames, writes
}

// fakeSpace makes frames of the size of what it takes.
type fakeSpace struct{ id SpaceID }

func (s *fakeSpace) take(writes []*write) (groupFrame, []*write, int) {
	size := frameHeaderBytes
	for _, w := range writes {
		size += w.bytes
	}
	return groupFrame{id: s.id, firstSeq: 1, count: 1, bytes: make([]byte, paddedLen(size))}, writes, len(writes)
}

func (s *fakeSpace) commit([]*write) {}

// Once HEAD could not be written whole, its other slot is the one that counts:
// what is under way elsewhere must not write over it.
func TestHeadKeepsOneSlot(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "owing"), Memory{ID: "m", Content: "waits in the journal"})
	create(t, r, "writing")
	killed := f.Kill()
	_ = r.Close() // its process has ended

	settling, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	killed.SetHook(func(c crashfs.Call) error {
		if strings.HasPrefix(c.Name, "owing/") && c.Op == crashfs.OpSync {
			once.Do(func() { close(settling) })
			<-released
		}
		if c.Name == journalDir+"/"+headName && c.Op == crashfs.OpWrite {
			select {
			case <-settling:
				return syscall.EIO
			default: // the registry is being opened
			}
		}
		return nil
	})
	r = openMemory(t, killed, Options{})
	tinyJournal(r)
	<-settling
	var err error
	for err == nil {
		_, err = get(t, r, "writing").Remember(background, Memory{Content: strings.Repeat("x", 3000)})
	}
	require.ErrorIs(t, err, ErrUnknownOutcome)
	close(released)
	require.Error(t, r.Close())

	r = openMemory(t, killed.Crash(1), Options{})
	require.Len(t, list(t, get(t, r, "owing"), Filter{}), 1)
	require.NoError(t, r.Close())
}

// What a full disk refused leaves nothing behind in the journal either.
func TestRefusedWriteLeavesTheJournal(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"})
	refused := &crashfs.PartialWrite{Err: syscall.ENOSPC, Share: 200}
	f.SetHook((&crashfs.Fault{
		Applies: func(c crashfs.Call) bool { return c.Op == crashfs.OpWrite && strings.HasPrefix(c.Name, journalDir) },
		First:   1, Count: 1, Err: refused,
	}).Hook)
	_, err := s.Remember(background, Memory{ID: "n", Content: strings.Repeat("canary ", 1000)})
	require.ErrorIs(t, err, ErrDiskFull)
	f.SetHook(nil)
	require.NoError(t, r.Settle(background))
	dir, err := f.OpenDir("", false)
	require.NoError(t, err)
	entries, err := dir.ReadDir(journalDir)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := readFile(dir, path.Join(journalDir, e.Name()), maxJournalFileBytes)
		require.NoError(t, err)
		require.False(t, bytes.Contains(b, []byte("canary")), e.Name())
	}
	require.NoError(t, dir.Close())
	require.NoError(t, r.Close())
}

// An opening that fails leaves no file open, whichever call it was that failed.
func TestFailedOpenLeavesNoHandles(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{Durability: None})
	tinyJournal(r)
	s := create(t, r, "aaa")
	for range 20 {
		remember(t, s, Memory{Content: strings.Repeat("x", 1000)})
	}
	after := f.Kill()
	_ = r.Close() // its process has ended
	for call, failed := 1, true; failed; call++ {
		f := after.Snapshot()
		fault := &crashfs.Fault{First: call, Count: 1, Err: syscall.EIO}
		f.SetHook(fault.Hook)
		opts := Options{ReadOnly: true}
		opts.seams.fs = f
		r, err := Open("", opts)
		if err == nil {
			err = r.Close()
		}
		if failed = len(fault.Hit()) > 0; failed && err != nil {
			require.ErrorIs(t, err, syscall.EIO)
		} else {
			require.NoError(t, err)
		}
		require.Empty(t, f.Handles(), "after call %d failed", call)
	}
}

// That a space's identity cannot be read says nothing about whether the space
// is there: settling fails with what the reading failed with, and works later.
func TestUnreadableSpaceIsNotHomeless(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
	after := f.Kill()
	_ = r.Close() // its process has ended
	after.SetHook((&crashfs.Fault{
		Applies: func(c crashfs.Call) bool { return path.Base(c.Name) == spaceFile }, First: 1, Err: syscall.EIO,
	}).Hook)
	r = openMemory(t, after, Options{})
	err := r.Settle(background)
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, ErrCorrupt)
	after.SetHook(nil)
	require.NoError(t, r.Settle(background))
	require.Len(t, list(t, get(t, r, "aaa"), Filter{}), 1)
	require.NoError(t, r.Close())
}

// Settling on a full disk zeroes what is there. Where even that finds no room,
// as on a file system that never overwrites in place, it says so, and writes go on.
func TestSettleOnAFullDisk(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	tinyJournal(r)
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"})
	for f.SetRoom(0); ; {
		_, err := s.Remember(background, Memory{ID: "m", Content: strings.Repeat("x", 10_000)})
		if errors.Is(err, ErrDiskFull) {
			break
		}
		require.NoError(t, err)
	}
	err := r.Settle(background)
	require.True(t, err == nil || errors.Is(err, ErrDiskFull), "%v", err)
	require.Empty(t, r.Stats().Stopped)
	f.SetRoom(-1)
	remember(t, s, Memory{ID: "n", Content: "content"})
	require.NoError(t, r.Settle(background))

	_, err = s.Remember(background, Memory{ID: "o", Content: "content"})
	require.NoError(t, err)
	var flushed atomic.Bool // the log: zeroing comes after it
	f.SetHook(func(c crashfs.Call) error {
		switch {
		case c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, walSuffix):
			flushed.Store(true)
		case c.Op == crashfs.OpWrite && flushed.Load() && strings.HasPrefix(c.Name, journalDir):
			return syscall.ENOSPC
		}
		return nil
	})
	require.ErrorIs(t, r.Settle(background), ErrDiskFull)
	f.SetHook(nil)
	remember(t, s, Memory{ID: "p", Content: "content"})
	require.NoError(t, r.Close())
}

// A journal file that finds no room gives back what it took of it.
func TestJournalFileOnAFullDiskLeavesNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	tinyJournal(r)
	s := create(t, r, "aaa")
	f.SetRoom(100)
	for {
		_, err := s.Remember(background, Memory{Content: strings.Repeat("x", 1000)})
		if err != nil {
			require.ErrorIs(t, err, ErrDiskFull)
			break
		}
	}
	root, err := f.OpenDir("", false)
	require.NoError(t, err)
	entries, err := root.ReadDir(journalDir)
	require.NoError(t, err)
	require.NoError(t, root.Close())
	require.Len(t, entries, 2, "HEAD and the file that is full")
	f.SetRoom(-1)
	remember(t, s, Memory{Content: "x"})
	require.NoError(t, r.Close())
}

// Settle gives up with its context also while it waits for a free file of the
// journal, which a space that hangs may keep.
func TestSettleGivesUpWaitingForAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		sick, well := create(t, r, "sick"), create(t, r, "well")
		remember(t, sick, Memory{Content: "a"})
		released := make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpSync && strings.Contains(c.Name, madeIn(sick)) {
				<-released
			}
			return nil
		})
		settled, gaveUp := make(chan error, 1), make(chan error, 1)
		go func() { settled <- r.Settle(background) }()
		synctest.Wait()
		remember(t, well, Memory{Content: "a"})
		ctx, cancel := context.WithCancel(background)
		go func() { gaveUp <- r.Settle(ctx) }()
		synctest.Wait()
		began := time.Now()
		cancel()
		err := <-gaveUp
		waited := time.Since(began)
		close(released)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, waited)
		require.NoError(t, <-settled)
		require.NoError(t, r.Close())
	})
}

// newJournal makes a journal of small files that settles these spaces.
func newJournal(t *testing.T, spaces settler) *journal {
	t.Helper()
	root, err := newMemoryFS().OpenDir("", true)
	require.NoError(t, err)
	require.NoError(t, root.Mkdir(journalDir))
	j, err := openJournal(root, Options{JournalBytes: minJournalBytes}.withDefaults(), spaces, false)
	require.NoError(t, err)
	return j
}

// Frames that nobody takes are carried from file to file, however many they are. Each
// stands in the index once, where it was carried last, in the order of its space.
func TestCarriedFramesAreIndexedOnce(t *testing.T) {
	const spaces, frames = 3, 1000
	j := newJournal(t, homelessSpaces{})
	for seq := range uint64(frames) {
		var group []groupFrame
		for space := range byte(spaces) {
			group = append(group, groupFrame{
				space: incarnation{space}, id: exampleID, firstSeq: seq + 1, count: 1,
				bytes: fmt.Appendf(nil, "frame %04d of %d", seq+1, space),
			})
		}
		require.NoError(t, j.append(group))
	}
	for range 3 {
		require.ErrorIs(t, j.settle(background), ErrCorrupt, "they are of no space")
		require.Empty(t, j.old)
		for space := range byte(spaces) {
			refs := j.framesOf(incarnation{space})
			require.Len(t, refs, frames)
			for i, ref := range refs {
				require.Same(t, j.current, ref.generation)
				require.Equal(t, uint64(i+1), ref.entry.firstSeq)
				b, err := j.read(ref)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("frame %04d of %d", i+1, space), string(b))
			}
		}
	}
	require.NoError(t, j.close())
}

// staleSpaces has a space settle up to its first frame, while it writes the next one.
type staleSpaces struct {
	j     *journal
	frame func(seq uint64) []groupFrame
	asked int
}

func (s *staleSpaces) settleSpace(incarnation, SpaceID) (uint64, error) {
	if s.asked++; s.asked == 1 {
		return 0, errHangs
	}
	return 1, s.j.append(s.frame(2))
}

// What a mark covers leaves the index with its generation, also where a newer one owes
// more of the space: who wakes it looks for its frames until none has moved.
func TestIndexForgetsWhatIsCovered(t *testing.T) {
	spaces := &staleSpaces{frame: func(seq uint64) []groupFrame {
		return []groupFrame{{space: incarnation{1}, id: exampleID, firstSeq: seq, count: 1, bytes: []byte("frame")}}
	}}
	spaces.j = newJournal(t, spaces)
	require.NoError(t, spaces.j.append(spaces.frame(1)))
	require.ErrorIs(t, spaces.j.settle(background), errHangs)
	require.Len(t, spaces.j.framesOf(incarnation{1}), 1, "it was carried")
	require.NoError(t, spaces.j.settle(background), "what it was asked for")
	require.Equal(t, uint64(2), spaces.j.current.owed[incarnation{1}].lastSeq)
	require.Empty(t, spaces.j.framesOf(incarnation{1}))
	require.NoError(t, spaces.j.close())
}

// silentSpaces answer when it is closed.
type silentSpaces chan struct{}

func (s silentSpaces) settleSpace(incarnation, SpaceID) (uint64, error) {
	<-s
	return 1, nil
}

// Settle names every space that it did not settle: also those whose turn did not come
// while others hung, and whose answer was too late.
func TestEverySpaceThatIsNotSettledIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spaces := make(silentSpaces)
		j := newJournal(t, spaces)
		owners := make(map[incarnation]SpaceID)
		for i := range byte(settleParallel + 1) {
			owners[incarnation{i}] = exampleID
			j.hanging[incarnation{i}]++
		}
		settled := j.settleAll(owners)
		require.Len(t, settled, len(owners))
		named := make(map[incarnation]bool)
		for _, r := range settled {
			require.ErrorIs(t, r.err, errHangs)
			named[r.space] = true
		}
		require.Len(t, named, len(owners))
		close(spaces)
		j.awaitSettlers(background)
		require.NoError(t, j.close())
	})
}

// busySpace fills a file while it settles for the first time, and settles for the second
// time when done is closed.
type busySpace struct {
	j     *journal
	seq   uint64
	asked int
	done  chan struct{}
}

func (s *busySpace) settleSpace(incarnation, SpaceID) (uint64, error) {
	if s.asked++; s.asked > 1 {
		<-s.done
		return s.seq, nil
	}
	settled := s.seq
	var before, now RegistryStats
	for s.j.stats(&before); now.JournalGeneration <= before.JournalGeneration; s.j.stats(&now) {
		if err := s.write(); err != nil {
			return 0, err
		}
	}
	return settled, nil
}

func (s *busySpace) write() error {
	s.seq++
	return s.j.append([]groupFrame{{
		space: incarnation{1}, id: exampleID, firstSeq: s.seq, count: 1, bytes: make([]byte, minJournalBytes/4),
	}})
}

// Settle waits for what was there before it, and not for what is written while it does:
// of that there may always be more.
func TestSettleWaitsForWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &busySpace{done: make(chan struct{})}
		s.j = newJournal(t, s)
		for range 2 { // so that who fills one does not wait for the next
			require.NoError(t, s.j.createFileLocked())
		}
		require.NoError(t, s.write())
		require.NoError(t, s.j.settle(background))
		require.Len(t, s.j.old, 1)
		close(s.done)
		require.NoError(t, s.j.settle(background))
		require.NoError(t, s.j.close())
	})
}

// What keeps a file is said to who settles, also where others find no room for the next
// one while that becomes known.
func TestSettleBesideOthersOnAFullDisk(t *testing.T) {
	for range 10 {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
		j := r.journal
		j.mu.Lock()
		require.NoError(t, errors.Join(j.createFileLocked(), j.createFileLocked()))
		j.mu.Unlock()
		others := make(chan error, 20)
		heads := 0
		f.SetHook(func(c crashfs.Call) error {
			if c.Name != path.Join(journalDir, headName) || c.Op != crashfs.OpWrite {
				return nil
			}
			if heads++; heads <= 2 { // the next generation begins
				return nil
			}
			if heads == 3 { // none ends
				for range cap(others) {
					go func() {
						j.mu.Lock()
						defer j.mu.Unlock()
						others <- j.switchLocked(background)
					}()
				}
				time.Sleep(3 * time.Millisecond) // they wait for the journal
			}
			return syscall.ENOSPC
		})
		err := r.Settle(background)
		for range cap(others) {
			require.ErrorIs(t, <-others, ErrDiskFull)
		}
		require.ErrorIs(t, err, ErrDiskFull)
		f.SetHook(nil)
		require.NoError(t, r.Settle(background))
		require.NoError(t, r.Close())
	}
}

// fillHead makes a registry whose Settle finds no room for HEAD from its n-th write or
// flush on, and returns the error.
func fillHead(t *testing.T, n int) (f *crashfs.FS, s *Space, err error) {
	t.Helper()
	f = crashfs.New()
	r := openMemory(t, f, Options{})
	s = create(t, r, "aaa")
	remember(t, s, Memory{ID: "before", Content: "content"})
	calls := 0
	f.SetHook(func(c crashfs.Call) error {
		if c.Name == journalDir+"/"+headName && (c.Op == crashfs.OpWrite || c.Op == crashfs.OpSync) {
			if calls++; calls >= n {
				return syscall.ENOSPC
			}
		}
		return nil
	})
	err = r.Settle(background)
	require.Empty(t, r.Stats().Stopped, n)
	remember(t, s, Memory{ID: "meanwhile", Content: "content"})
	return f, s, err
}

// HEAD may need room to be written where it stands, as on file systems that copy on
// write. Whichever of its writes and flushes finds none, the registry goes on, and so
// it does when there is room again; what a power loss leaves has everything.
func TestHeadOnAFullDisk(t *testing.T) {
	n := 1
	for ; ; n++ {
		f, s, err := fillHead(t, n)
		f.SetHook(nil)
		if err == nil {
			require.NoError(t, s.registry.Close())
			break
		}
		require.ErrorIs(t, err, ErrDiskFull, n)
		remember(t, s, Memory{ID: "after", Content: "content"})
		require.NoError(t, s.registry.Settle(background), n)
		require.Empty(t, s.registry.journal.old, n)
		require.Equal(t, []string{"before", "meanwhile", "after"}, idsOf(list(t, s, Filter{})))
		require.NoError(t, s.registry.Close())

		f, s, _ = fillHead(t, n)
		for seed := range uint64(4) {
			r := openMemory(t, f.Crash(seed), Options{})
			require.Equal(t, []string{"before", "meanwhile"}, idsOf(list(t, get(t, r, "aaa"), Filter{})), "%d, %d", n, seed)
			require.NoError(t, r.Close())
		}
		require.Error(t, s.registry.Close())
	}
	require.Greater(t, n, 8, "a generation begins, and another ends")
}

// Of a HEAD that finds no room again and again one slot is torn, and no other.
func TestHeadOnADiskThatStaysFull(t *testing.T) {
	for _, op := range []crashfs.Op{crashfs.OpWrite, crashfs.OpSync} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{ID: "before", Content: "content"})
		f.SetHook(func(c crashfs.Call) error {
			if c.Name == path.Join(journalDir, headName) && c.Op == op {
				return syscall.ENOSPC
			}
			return nil
		})
		for range 3 {
			require.ErrorIs(t, r.Settle(background), ErrDiskFull)
		}
		for seed := range uint64(8) {
			left := openMemory(t, f.Crash(seed), Options{})
			require.Equal(t, []string{"before"}, idsOf(list(t, get(t, left, "aaa"), Filter{})))
			require.NoError(t, left.Close())
		}
		require.Error(t, r.Close()) // to the first one, the process has ended
	}
}

// What was carried out of a file that HEAD has no room to free is not carried again.
func TestFramesAreCarriedOnceOnAFullDisk(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	create(t, r, "aaa")
	require.NoError(t, r.Close())
	r = openMemory(t, f, Options{})
	s := get(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: strings.Repeat("x", 1000)})
	heads := 0
	f.SetHook(func(c crashfs.Call) error {
		switch {
		case c.Name == path.Join(journalDir, headName) && c.Op == crashfs.OpWrite:
			if heads++; heads > 2 { // the next generation begins, and none ends
				return syscall.ENOSPC
			}
		case strings.HasPrefix(c.Name, "aaa/") && c.Op == crashfs.OpWrite:
			return syscall.ENOSPC // the space does not settle
		}
		return nil
	})
	require.ErrorIs(t, r.Settle(background), ErrDiskFull)
	frames := r.Stats().Frames
	require.EqualValues(t, 2, frames)
	for range 3 {
		r.journal.recover()
		r.journal.work.Wait()
	}
	require.Equal(t, frames, r.Stats().Frames)
	f.SetHook(nil)
	require.NoError(t, r.Close())
}

// What a space that cannot be settled has in the journal fills no file: the others would
// wait for it to be carried on after every few of their writes.
func TestCarriedFramesFillNoFile(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	tinyJournal(r)
	sick, well := create(t, r, "sick"), create(t, r, "well")
	remember(t, sick, Memory{Content: strings.Repeat("x", 7<<10)})
	sicken(f, sick)
	j := r.journal
	before := r.Stats()
	for range 40 {
		remember(t, well, Memory{Content: strings.Repeat("y", 500)})
		j.mu.Lock()
		for j.settling {
			j.changed.Wait()
		}
		j.mu.Unlock()
	}
	after := r.Stats()
	require.LessOrEqual(t, after.JournalGeneration-before.JournalGeneration, uint64(6), "of 32 KiB in files of 8")
	require.Equal(t, after.JournalGeneration-before.JournalGeneration, after.Frames-before.Frames-40, "carried once into each")
	require.Error(t, r.Close())
}

// What cannot be carried forward because its group is damaged is named by its file:
// there may be many, and the directory says nothing.
func TestCarryingNamesTheDamagedFile(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	sick := create(t, r, "sick")
	remember(t, sick, Memory{ID: "m", Content: "owed"})
	sicken(f, sick)
	file := r.journal.current.file
	other := ^sick.awake.Load().identity.incarnation[0] // which the entry begins with
	_, err := file.file.WriteAt([]byte{other}, groupHeaderBytes)
	require.NoError(t, err)
	var damage *CorruptionError
	require.ErrorAs(t, r.Settle(background), &damage)
	require.Equal(t, journalFilePath(file.number), damage.File)
	require.Zero(t, damage.Offset)
	require.Error(t, r.Close())
}

// An opening that fails joins what it has begun, before it lets go of the directory.
func TestOpenThatFailsIsJoined(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "alpha"), Memory{Content: strings.Repeat("a", defaultExtentBytes/2+1)})
	f = f.Kill() // what was written last is written again, and zeros ahead of that
	synctest.Test(t, func(t *testing.T) {
		var heads atomic.Int32
		zeroing := make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			file, inJournal := strings.CutPrefix(c.Name, journalDir+"/")
			switch {
			case !inJournal:
			case c.Op == crashfs.OpWrite && file == headName:
				heads.Add(1)
			case c.Op == crashfs.OpWrite && c.Size == defaultExtentBytes && heads.Load() == 3:
				<-zeroing
			case c.Op == crashfs.OpSync && file != headName && heads.Load() == 3:
				return syscall.EIO
			}
			return nil
		})
		opened := make(chan error, 1)
		go func() {
			_, err := Open("", Options{Durability: Interval(time.Hour), seams: seams{fs: f}})
			opened <- err
		}()
		synctest.Wait()
		require.Empty(t, opened, "it does not wait for what it has begun")
		close(zeroing)
		require.ErrorIs(t, <-opened, syscall.EIO)
	})
}
