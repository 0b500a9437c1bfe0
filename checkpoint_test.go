package engram

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// filesOf returns the names of the space's checkpoints and segments.
func filesOf(t *testing.T, f *crashfs.FS, id SpaceID) []string {
	t.Helper()
	root, err := f.OpenDir("", false)
	require.NoError(t, err)
	var names []string
	for _, dir := range []string{string(id), string(id) + "/" + walDir} {
		entries, err := root.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "checkpoint") || strings.HasSuffix(e.Name(), walSuffix) {
				names = append(names, e.Name())
			}
		}
	}
	require.NoError(t, root.Close())
	return names
}

// checkpointMeets makes a space with a checkpoint, and has another one meet what
// happens when its file has its name.
func checkpointMeets(t *testing.T, happens func(f *crashfs.FS, s *Space) error) (*Registry, *crashfs.FS, *Space) {
	t.Helper()
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"}, Memory{ID: "n", Content: "content"})
	require.NoError(t, s.Checkpoint(background))
	forget(t, s, "n")
	named := false
	f.SetHook(func(c crashfs.Call) error {
		if named {
			return happens(f, s)
		}
		named = c.Op == crashfs.OpRename && strings.HasSuffix(c.Name, checkpointTemporary)
		return nil
	})
	require.ErrorIs(t, s.Checkpoint(background), ErrDiskFull)
	f.SetHook(nil)
	return r, f, s
}

// A checkpoint that is not put in place because the disk is full gives the room
// back that it took.
func TestCheckpointOnAFullDiskLeavesNothing(t *testing.T) {
	r, f, s := checkpointMeets(t, func(f *crashfs.FS, s *Space) error {
		f.SetHook(nil)
		f.SetRoom(0)
		remember(t, s, Memory{ID: "o", Content: strings.Repeat("content ", 100)}) // waits in memory for room in the log
		return nil
	})
	require.Equal(t, []string{"checkpoint-3-2", "00000001.wal", "00000002.wal", "00000003.wal"}, filesOf(t, f, "aaa"))
	f.SetRoom(-1)
	require.NoError(t, s.Checkpoint(background))
	require.Equal(t, []string{"m", "o"}, idsOf(list(t, s, Filter{})))
	require.NoError(t, r.Close())
}

// However often it is tried: the segment that the first one has begun serves the
// next ones too.
func TestCheckpointsOnAFullDiskBeginOneSegment(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"})
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpWrite && strings.HasSuffix(c.Name, checkpointTemporary) {
			return syscall.ENOSPC
		}
		return nil
	})
	for range 3 {
		require.ErrorIs(t, s.Checkpoint(background), ErrDiskFull)
		require.Equal(t, []string{"00000001.wal", "00000002.wal"}, filesOf(t, f, "aaa"))
	}
	f.SetHook(nil)
	require.NoError(t, s.Checkpoint(background))
	require.Equal(t, []string{"checkpoint-2-2", "00000001.wal", "00000002.wal"}, filesOf(t, f, "aaa"))
	killed := openMemory(t, f.Snapshot().Kill(), Options{})
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, killed, "aaa"), Filter{})))
	require.NoError(t, errors.Join(killed.Close(), r.Close()))
}

// While SPACE may name a checkpoint that was not put in place, its files stay:
// the next one removes them.
func TestCheckpointThatMayBeNamedStays(t *testing.T) {
	r, f, s := checkpointMeets(t, func(f *crashfs.FS, s *Space) error {
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, spaceFile) {
				return syscall.ENOSPC
			}
			return nil
		})
		return nil
	})
	killed := openMemory(t, f.Snapshot().Kill(), Options{})
	require.Equal(t, []string{"m"}, idsOf(list(t, get(t, killed, "aaa"), Filter{})))
	require.NoError(t, killed.Close())
	require.NoError(t, s.Checkpoint(background))
	require.Len(t, filesOf(t, f, "aaa"), 3, "a checkpoint, what it needs, and where the log goes on")
	require.NoError(t, r.Close())
}

// Wherever a checkpoint finds no room, the space is as it was: it takes writes, and
// the next checkpoint does what this one did not.
func TestCheckpointFindsNoRoomAnywhere(t *testing.T) {
	t.Parallel()
	for name, applies := range map[string]func(c crashfs.Call) bool{
		"a segment is flushed": func(c crashfs.Call) bool {
			return c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, segmentPath(3))
		},
		"the checkpoint is named": func(c crashfs.Call) bool { return c.Op == crashfs.OpRename },
		"its name is flushed": func(c crashfs.Call) bool {
			return c.Op == crashfs.OpSyncDir && !strings.HasSuffix(c.Name, walDir)
		},
		"what it replaces is removed": func(c crashfs.Call) bool {
			return c.Op == crashfs.OpRemove && strings.HasSuffix(c.Name, segmentPath(1))
		},
		"a segment is named": func(c crashfs.Call) bool {
			return c.Op == crashfs.OpSyncDir && strings.HasSuffix(c.Name, walDir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := crashfs.New()
			r := openMemory(t, f, Options{})
			s := create(t, r, "aaa")
			remember(t, s, Memory{ID: "m", Content: "content"}, Memory{ID: "n", Content: "content"})
			forget(t, s, "n")
			full := &crashfs.Fault{Applies: applies, First: 1, Err: syscall.ENOSPC}
			f.SetHook(full.Hook)
			require.ErrorIs(t, s.Checkpoint(background), ErrDiskFull)
			require.NotEmpty(t, full.Hit())
			f.SetHook(nil)
			remember(t, s, Memory{ID: "o", Content: "content"})
			require.NoError(t, s.Checkpoint(background))
			require.Len(t, filesOf(t, f, "aaa"), 1+s.Stats().Operator.Segments, "a checkpoint, and the log")
			require.Equal(t, []string{"m", "o"}, idsOf(list(t, s, Filter{})))
			require.NoError(t, r.Close())
		})
	}
}

// Who writes beside a checkpoint waits for it only once another may be due.
func TestWritesGoOnBesideACheckpoint(t *testing.T) {
	f := crashfs.New()
	opts := Options{}
	opts.seams.checkpointBytes = 1000
	r := openMemory(t, f, opts)
	s := create(t, r, "aaa")
	var batch []Memory
	for i := range 200 {
		batch = append(batch, Memory{ID: strconv.Itoa(i), Content: "content"})
	}
	remember(t, s, batch...)
	require.NoError(t, s.Checkpoint(background))
	writing, release := hangAt(f, func(c crashfs.Call) bool {
		return c.Op == crashfs.OpCreate && strings.HasSuffix(c.Name, checkpointTemporary)
	})
	write := func(length int) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := s.Remember(background, Memory{Content: strings.Repeat("x", length)})
			done <- err
		}()
		return done
	}
	require.NoError(t, <-write(20_000), "it begins a checkpoint")
	<-writing
	waiting, cancel := context.WithTimeout(background, 5*time.Millisecond)
	require.ErrorIs(t, r.Delete(waiting, "aaa"), context.DeadlineExceeded)
	cancel()
	waiting, cancel = context.WithCancel(background)
	asked, verified := make(chan error, 1), make(chan error, 1)
	go func() { asked <- s.Checkpoint(waiting) }()
	go func() { _, err := s.Verify(waiting); verified <- err }()
	time.Sleep(5 * time.Millisecond) // most often they wait then; if not, they come later still
	select {
	case err := <-write(2000):
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Error("a write waits for a checkpoint that another does not follow yet")
	}
	cancel()
	for who, done := range map[string]chan error{"Checkpoint": asked, "Verify": verified} {
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled, who)
		case <-time.After(10 * time.Second):
			t.Error(who + " waits for another checkpoint longer than its context says")
		}
	}
	another := write(20_000)
	select {
	case err := <-another:
		t.Errorf("the log grows without bounds beside a checkpoint (%v)", err)
	case <-time.After(50 * time.Millisecond):
	}
	waiting, cancel = context.WithTimeout(background, 5*time.Millisecond)
	defer cancel()
	go func() { asked <- s.Checkpoint(waiting) }()
	select {
	case err := <-asked:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Error("behind a write that waits for a checkpoint, another one waits longer than its context says")
	}
	release()
	require.NoError(t, <-another)
	require.NoError(t, r.Close())
}

// However soon each checkpoint is followed by another that a write is due to begin, one
// that is asked for has its turn.
func TestCheckpointHasItsTurn(t *testing.T) {
	f := crashfs.New()
	opts := Options{}
	opts.seams.checkpointBytes = 1000
	r := openMemory(t, f, opts)
	s := create(t, r, "aaa")
	var made atomic.Int64
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpCreate && strings.HasSuffix(c.Name, checkpointTemporary) {
			made.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := s.Remember(background, Memory{ID: strconv.Itoa(i), Content: strings.Repeat("x", 20_000)})
				require.NoError(t, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	for range 4 {
		before := made.Load()
		require.NoError(t, s.Checkpoint(ctx))
		require.Less(t, made.Load()-before, int64(50))
	}
	close(stop)
	writers.Wait()
	require.NoError(t, r.Close())
}

// appendTo appends to a file, durably.
func appendTo(t *testing.T, f *crashfs.FS, name, text string) {
	t.Helper()
	root, err := f.OpenDir("", false)
	require.NoError(t, err)
	file, err := root.Open(name, true)
	require.NoError(t, err)
	size, err := file.Size()
	require.NoError(t, err)
	_, err = file.WriteAt([]byte(text), size)
	require.NoError(t, errors.Join(err, file.Sync(), file.Close(), root.Close()))
}

// What a checkpoint has replaced and could not remove for want of a descriptor, the
// next one removes, though it has nothing else to do.
func TestCheckpointRemovesWhatStayed(t *testing.T) {
	t.Parallel()
	calls := 0 // that need a descriptor, and find one
	for reached := true; reached; calls++ {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{ID: "m", Content: "content"}, Memory{ID: "n", Content: "content"})
		require.NoError(t, s.Checkpoint(background))
		forget(t, s, "n")
		named, installed, left := false, false, calls
		reached = false
		f.SetHook(func(c crashfs.Call) error {
			named = named || c.Op == crashfs.OpRename && strings.HasSuffix(c.Name, checkpointTemporary)
			if installed && (c.Op == crashfs.OpRemove || c.Op == crashfs.OpSyncDir) {
				if left--; left < 0 {
					reached = true
					return syscall.EMFILE
				}
			}
			installed = installed || named && c.Op == crashfs.OpSync && strings.HasSuffix(c.Name, spaceFile)
			return nil
		})
		if err := s.Checkpoint(background); reached {
			require.ErrorIs(t, err, syscall.EMFILE, calls)
		}
		f.SetHook(nil)
		require.NoError(t, s.Checkpoint(background), calls)
		for seed := range uint64(10) {
			require.Equal(t, []string{"checkpoint-4-3", "00000003.wal", "00000004.wal"}, filesOf(t, f.Crash(seed), "aaa"), calls)
		}
		_ = r.Close() // its process has ended
	}
	require.Greater(t, calls, 4)
}

// The last reader of what a checkpoint has replaced may find no descriptor to remove it
// with: the next one does it.
func TestReaderRemovesWhatStayed(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content"}, Memory{ID: "n", Content: "content"})
	_, _, stop := beginReading(t, s)
	forget(t, s, "n")
	require.NoError(t, s.Checkpoint(background))
	require.Len(t, filesOf(t, f, "aaa"), 4)
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpRemove {
			return syscall.EMFILE
		}
		return nil
	})
	stop()
	f.SetHook(nil)
	require.Len(t, filesOf(t, f, "aaa"), 4)
	require.Equal(t, []string{"m"}, idsOf(list(t, s, Filter{})))
	require.Len(t, filesOf(t, f, "aaa"), 3)
	require.NoError(t, r.Close())
}

// A reader that takes long keeps what its snapshot needs, and nothing of what came and
// went since.
func TestReaderKeepsWhatItNeedsOnly(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "content 0"}, Memory{ID: "n", Content: "content 0"})
	_, next, stop := beginReading(t, s)
	var late *reader
	for i := range 10 {
		remember(t, s, Memory{ID: "m", Content: "content"}, Memory{ID: "n", Content: "content " + strconv.Itoa(i)})
		require.NoError(t, s.Checkpoint(background))
		if i == 5 {
			late = s.awake.Load().read()
		}
	}
	require.Len(t, filesOf(t, f, "aaa"), 6, "a checkpoint, what it needs, where the log goes on, and what was there of the log for each reader")
	m, err, _ := next()
	require.NoError(t, err)
	require.Equal(t, "content 0", m.Content)
	stop()
	require.Len(t, filesOf(t, f, "aaa"), 5)
	d, _ := late.view.lookup("n")
	m, err = late.memory(d)
	require.NoError(t, err)
	require.Equal(t, "content 5", m.Content)
	late.close()
	require.Len(t, filesOf(t, f, "aaa"), 3)
	require.NoError(t, r.Close())
}

// Nor does a crash bring back what a checkpoint has removed from quarantine, where the
// first one found no descriptor to flush that with.
func TestCheckpointEmptiesQuarantineForGood(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
	require.NoError(t, r.Close())
	appendTo(t, f, "aaa/"+segmentPath(1), "what no frame begins with")

	r = openMemory(t, f, Options{})
	s := get(t, r, "aaa")
	require.Len(t, list(t, s, Filter{}), 1)
	require.Equal(t, TornTail, s.Stats().Operator.Recovery.Verdict)
	removed := false
	f.SetHook(func(c crashfs.Call) error {
		removed = removed || c.Op == crashfs.OpRemove && strings.Contains(c.Name, quarantineDir)
		if removed && c.Op == crashfs.OpSyncDir {
			return syscall.EMFILE
		}
		return nil
	})
	require.ErrorIs(t, s.Checkpoint(background), syscall.EMFILE)
	f.SetHook(nil)
	require.NoError(t, s.Checkpoint(background))
	for seed := range uint64(20) {
		after := f.Crash(seed)
		root, err := after.OpenDir("", false)
		require.NoError(t, err)
		entries, err := root.ReadDir("aaa/" + quarantineDir)
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
		require.Empty(t, entries, seed)
		require.NoError(t, root.Close())
	}
	_ = r.Close() // its process has ended
}

// A space that keeps a little of what it writes between two checkpoints does not come
// to have a file, which takes a descriptor, for each of them.
func TestCheckpointsLeaveFewShortSegments(t *testing.T) {
	t.Parallel()
	for name, replaced := range map[string]bool{"of the log": false, "of bodies": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newTestSpace(t, Options{Durability: None})
			var want []string
			for i := range 3 * maxShortSegments {
				want = append(want, strconv.Itoa(i))
				remember(t, s, Memory{ID: want[i], Content: "content"})
				if replaced {
					remember(t, s, Memory{ID: "replaced", Content: "content"})
				}
				require.NoError(t, s.Checkpoint(background))
				require.LessOrEqual(t, s.Stats().Operator.Segments, maxShortSegments+2, "with the one behind the last checkpoint, and where the log goes on")
			}
			if replaced {
				forget(t, s, "replaced")
			}
			asleep(t, s)
			require.ElementsMatch(t, want, idsOf(list(t, s, Filter{})))
			_, err := s.Verify(background)
			require.NoError(t, err)
		})
	}
}

// A space that is written one memory at a time has most of what it holds in a checkpoint
// from its first few hundred on, at the same seqs whether it sleeps in between or not. One
// that is written many at a time has not, before its log has the length of others'.
func TestCheckpointsOfSmallSpaces(t *testing.T) {
	t.Parallel()
	memory := func(i int) Memory {
		return Memory{ID: fmt.Sprint(i), Content: fmt.Sprint(strings.Repeat("what is remembered ", 12), i)}
	}
	checkpoint := func(s *Space) uint64 {
		a := s.awake.Load()
		a.maintenance.running.Lock() // none is under way
		defer a.maintenance.running.Unlock()
		return a.log.settledState().checkpoint.seq
	}
	var seqs [2][]uint64
	for i := range seqs {
		r, _ := newRegistry(t, Options{Durability: None})
		s := create(t, r, "alpha")
		for j := range 2000 {
			if i > 0 && j%37 == 0 {
				asleep(t, s)
			}
			remember(t, s, memory(j))
			if seq := checkpoint(s); len(seqs[i]) == 0 && seq > 0 || len(seqs[i]) > 0 && seqs[i][len(seqs[i])-1] != seq {
				seqs[i] = append(seqs[i], seq)
			}
		}
		asleep(t, s)
		_, err := s.Lookup(background, "0")
		require.NoError(t, err)
		report := s.Stats().Operator.Recovery
		require.Less(t, report.Operations, 1200, "replayed of 2,001")
	}
	require.Greater(t, len(seqs[0]), 1)
	require.Greater(t, seqs[0][0], uint64(smallFrames/2))
	require.Less(t, seqs[0][0], uint64(2*smallFrames))
	require.Equal(t, seqs[0], seqs[1])

	r, _ := newRegistry(t, Options{Durability: None})
	s := create(t, r, "alpha")
	for i := range 20 {
		batch := make([]Memory, 100)
		for j := range batch {
			batch[j] = memory(100*i + j)
		}
		remember(t, s, batch...)
		require.Zero(t, checkpoint(s))
	}
}
