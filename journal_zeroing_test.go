package engram

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// Zeroing ahead of the writes flushes nothing: a flush beside a group's could be
// told of the loss of that group, and leave the group's own none the wiser.
func TestZeroingAheadFlushesNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	before := r.Stats().Flushes
	var flushes atomic.Uint64
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpSync && c.Name == journalFilePath(1) {
			flushes.Add(1)
		}
		return nil
	})
	for range 4 {
		remember(t, s, Memory{Content: strings.Repeat("a", defaultExtentBytes/2)})
	}
	r.journal.mu.Lock()
	for r.journal.current.file.growing {
		r.journal.changed.Wait()
	}
	require.Greater(t, r.journal.current.file.extent, int64(2*defaultExtentBytes))
	r.journal.mu.Unlock()
	require.Equal(t, r.Stats().Flushes-before, flushes.Load())
	require.NoError(t, r.Close())
}

// Settle leaves nothing of what the journal has let go of, also where the file that
// holds it is being extended: it waits until that is done.
func TestSettleZeroesAFileThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openMemory(t, newMemoryFS(), Options{Durability: None})
		j := r.journal
		f := j.current.file
		_, err := f.file.WriteAt([]byte("forgotten"), 4096)
		require.NoError(t, err)
		f.used, f.growing = 8192, true
		settled := make(chan error, 1)
		go func() { settled <- r.Settle(background) }()
		synctest.Wait()
		j.mu.Lock()
		f.growing = false
		j.changed.Broadcast()
		j.mu.Unlock()
		require.NoError(t, <-settled)
		b, err := readRange(f.file, 0, 8192)
		require.NoError(t, err)
		require.Empty(t, bytes.Trim(b, "\x00"))
		require.NoError(t, r.Close())
	})
}

// Settle ends with its context, also while the file in use is being extended.
func TestSettleOfAFileThatGrowsEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openMemory(t, newMemoryFS(), Options{Durability: None})
		j := r.journal
		f := j.current.file
		f.growing = true // slowly
		ctx, cancel := context.WithCancel(background)
		settled := make(chan error, 1)
		go func() { settled <- r.Settle(ctx) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		returned := len(settled)
		j.mu.Lock()
		f.growing = false
		j.changed.Broadcast()
		j.mu.Unlock()
		require.ErrorIs(t, <-settled, context.Canceled)
		require.Equal(t, 1, returned)
		require.NoError(t, r.Close())
	})
}

// Writes go on while a file that they have no use for is zeroed.
func TestWritesWhileAFreeFileIsZeroed(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{Content: "goes to the first file"})
	var zeroing atomic.Bool
	f.SetHook(func(c crashfs.Call) error {
		if c.Op != crashfs.OpWrite || c.Name != journalFilePath(1) || !zeroing.CompareAndSwap(false, true) {
			return nil
		}
		if !r.journal.mu.TryLock() {
			t.Error("the journal is locked")
			return nil
		}
		r.journal.mu.Unlock()
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, err := s.Remember(background, Memory{Content: "goes to the second one"})
			if err != nil {
				t.Error(err)
			}
		}()
		<-written
		return nil
	})
	require.NoError(t, r.Settle(background))
	require.True(t, zeroing.Load())
	f.SetHook(nil)
	require.Len(t, list(t, s, Filter{}), 2)
	require.NoError(t, r.Close())
}

// Nobody begins with a free file while it is being zeroed.
func TestFileThatIsZeroedIsNotNext(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{Content: "goes to the first file"})
	j, seen := r.journal, false
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpWrite && c.Name == journalFilePath(1) {
			seen = true
			j.mu.Lock()
			defer j.mu.Unlock()
			if len(j.free) != 1 || j.nextFileLocked() != nil {
				t.Error("a writer may begin with the file")
			}
		}
		return nil
	})
	require.NoError(t, r.Settle(background))
	require.True(t, seen)
	f.SetHook(nil)
	require.NoError(t, r.Close())
}

// Who finds a file that another zeroes waits for that, and leaves it alone afterwards.
func TestFileIsZeroedByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{Content: "goes to the first file"})
		var writes atomic.Int32
		slow := make(chan struct{})
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpWrite && c.Name == journalFilePath(1) {
				writes.Add(1)
				<-slow
			}
			return nil
		})
		settled := make(chan error, 2)
		for range 2 {
			go func() { settled <- r.Settle(background) }()
			synctest.Wait()
		}
		require.Empty(t, settled)
		close(slow)
		require.NoError(t, errors.Join(<-settled, <-settled))
		require.EqualValues(t, 1, writes.Load())
		f.SetHook(nil)
		require.NoError(t, r.Close())
	})
}

// A file that was zeroed may be in use before who waited for that goes on.
func TestFileBegunWithIsNotZeroedUnlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "aaa")
		remember(t, s, Memory{Content: "goes to the first file"})
		require.NoError(t, r.Settle(background))
		j := r.journal
		file := j.free[0]
		f.SetHook(func(c crashfs.Call) error {
			if c.Op == crashfs.OpWrite && c.Name == journalFilePath(file.number) && j.mu.TryLock() {
				j.mu.Unlock()
				t.Error("the journal is not locked")
			}
			return nil
		})
		file.used, file.zeroing = pageBytes, true
		settled := make(chan error, 1)
		go func() { settled <- r.Settle(background) }()
		synctest.Wait()
		j.mu.Lock()
		file.zeroing = false
		j.changed.Broadcast()
		err := j.switchLocked(background)
		current := j.current.file
		j.mu.Unlock()
		require.NoError(t, err)
		require.Same(t, file, current)
		require.NoError(t, <-settled)
		f.SetHook(nil)
		require.NoError(t, r.Close())
	})
}

// The rest of the file in use is zeroed in steps: none takes longer than a large
// group, and between them others have their turn.
func TestFileInUseIsZeroedInSteps(t *testing.T) {
	fs := crashfs.New()
	r := openMemory(t, fs, Options{})
	j := r.journal
	f := j.current.file
	const used = 5 * zeroStepBytes / 2
	_, err := f.file.WriteAt(bytes.Repeat([]byte{1}, used), 0)
	require.NoError(t, err)
	f.used = used
	var steps []int
	fs.SetHook(func(c crashfs.Call) error {
		if c.Name == journalFilePath(1) {
			steps = append(steps, c.Size)
		}
		return nil
	})
	require.NoError(t, r.Settle(background))
	fs.SetHook(nil)
	require.Equal(t, []int{zeroStepBytes, 0, zeroStepBytes, 0, zeroStepBytes / 2, 0}, steps, "each flushed")
	b, err := readRange(f.file, 0, used)
	require.NoError(t, err)
	require.Empty(t, bytes.Trim(b, "\x00"))
	require.NoError(t, r.Close())
}
