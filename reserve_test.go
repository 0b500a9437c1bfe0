package engram

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// Where neither the logs nor the journal have room left, forgetting takes the
// reserve's.
func TestForgetTakesTheReserve(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	r.journal.mu.Lock()
	r.journal.fileBytes = 16 << 10
	r.journal.mu.Unlock()
	first := create(t, r, "first")
	unwanted := strings.Repeat("m", MaxIDBytes) // forgetting takes more room than the last writes that fit
	remember(t, first, Memory{ID: unwanted, Content: "unwanted"})
	var spaces []*Space
	for i := range 40 {
		spaces = append(spaces, create(t, r, SpaceID(fmt.Sprint("space", i))))
	}
	f.SetRoom(0)
	full := 0
	for _, s := range spaces { // each has a frame that waits for its log in the journal
		content := "a"
		if full == 0 {
			content = strings.Repeat("a", 1000)
		}
		_, err := s.Remember(background, Memory{Content: content})
		if errors.Is(err, ErrDiskFull) {
			full++
			continue
		}
		require.NoError(t, err)
	}
	require.Greater(t, full, 1, "the journal has room left")
	require.Equal(t, 1, forget(t, first, unwanted).Forgotten)
	require.Empty(t, list(t, first, Filter{}))
	f.SetRoom(-1)
	require.NoError(t, r.Close())
}

// A space that has to be recovered before it can forget is recovered with the
// reserve's room.
func TestForgetWakesWithTheReserve(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
	after := f.Kill()
	_ = r.Close() // its process has ended
	var room atomic.Bool
	after.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpRemove && c.Name == reserveFile {
			room.Store(true)
		}
		if c.Op == crashfs.OpCreate && strings.HasSuffix(c.Name, walSuffix) && !room.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	r = openMemory(t, after, Options{})
	require.ErrorIs(t, r.Settle(background), ErrDiskFull) // what recovers in the background has ended
	s := get(t, r, "aaa")
	_, err := s.Lookup(background, "m")
	require.ErrorIs(t, err, ErrDiskFull)
	require.Equal(t, 1, forget(t, s, "m").Forgotten)
	require.Empty(t, list(t, s, Filter{}))
	require.NoError(t, r.Close())
}

// A reserve that finds no room takes none, and one that is short is made again.
func TestReserveIsWholeOrNotThere(t *testing.T) {
	size := func(f *crashfs.FS) int {
		root, err := f.OpenDir("", false)
		require.NoError(t, err)
		b, err := readFile(root, reserveFile, reserveBytes)
		if errors.Is(err, fs.ErrNotExist) {
			b, err = nil, nil
		}
		require.NoError(t, err)
		require.NoError(t, root.Close())
		return len(b)
	}
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	require.Equal(t, reserveBytes, size(f))
	require.True(t, r.giveUpReserve())
	require.NoError(t, r.Close())

	f.SetRoom(100)
	r = openMemory(t, f, Options{})
	require.Zero(t, size(f))
	require.False(t, r.giveUpReserve())
	require.NoError(t, r.Close())
	f.SetRoom(-1)

	root, err := f.OpenDir("", false)
	require.NoError(t, err)
	require.NoError(t, writeNewFile(root, reserveFile, make([]byte, reserveBytes/2))) // a crash cut it short
	require.NoError(t, root.Close())
	r = openMemory(t, f, Options{})
	require.Equal(t, reserveBytes, size(f))
	require.True(t, r.giveUpReserve())
	require.NoError(t, r.Close())
}

// What was given up on a full disk is taken back when there is room again.
func TestSettleMakesTheReserveAgain(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	require.True(t, r.giveUpReserve())
	f.SetRoom(100)
	require.NoError(t, r.Settle(background))
	require.False(t, r.giveUpReserve())
	f.SetRoom(-1)
	for range 2 {
		require.NoError(t, r.Settle(background))
		require.True(t, r.giveUpReserve())
	}
	require.NoError(t, r.Close())
}

// A space that cannot be settled denies the others no reserve, unless it lacks room.
func TestReserveBesideASpaceThatDoesNotSettle(t *testing.T) {
	for failure, made := range map[syscall.Errno]bool{syscall.EIO: true, syscall.ENOSPC: false} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		create(t, r, "aaa")
		require.NoError(t, r.Close())
		r = openMemory(t, f, Options{})
		require.True(t, r.giveUpReserve())
		remember(t, get(t, r, "aaa"), Memory{Content: "content"})
		f.SetHook(func(c crashfs.Call) error {
			if strings.HasPrefix(c.Name, "aaa/") && c.Op == crashfs.OpWrite {
				return failure
			}
			return nil
		})
		require.ErrorIs(t, r.Settle(background), failure)
		require.Equal(t, made, r.giveUpReserve(), failure)
		require.ErrorIs(t, r.Close(), failure)
	}
}

// A reserve that could not be given up for want of a descriptor is there for the next
// who needs it.
func TestReserveThatIsNotGivenUpStays(t *testing.T) {
	t.Parallel()
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpRemove && c.Name == reserveFile {
			return syscall.EMFILE
		}
		return nil
	})
	require.False(t, r.giveUpReserve())
	f.SetHook(nil)
	require.True(t, r.giveUpReserve())
	require.False(t, r.giveUpReserve())
	require.NoError(t, r.Close())
}

// A reserve that cannot be opened says why.
func TestReserveThatDoesNotOpen(t *testing.T) {
	f := crashfs.New()
	require.NoError(t, openMemory(t, f, Options{}).Close())
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpOpen && c.Name == reserveFile {
			return syscall.EIO
		}
		return nil
	})
	_, err := Open("", Options{seams: seams{fs: f}})
	require.ErrorIs(t, err, syscall.EIO)
	f.SetHook(nil)
	require.NoError(t, openMemory(t, f, Options{}).Close())
}
