package crashfs

import (
	"bytes"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

const seeds = 400

// mounted returns a file system and its directory.
func mounted(t *testing.T) (*FS, vfs.Dir) {
	t.Helper()
	f := New()
	return f, open(t, f)
}

func open(t *testing.T, f *FS) vfs.Dir {
	t.Helper()
	d, err := f.OpenDir("any", true)
	require.NoError(t, err)
	return d
}

func create(t *testing.T, d vfs.Dir, name string, content []byte) vfs.File {
	t.Helper()
	file, err := d.Create(name)
	require.NoError(t, err)
	_, err = file.WriteAt(content, 0)
	require.NoError(t, err)
	return file
}

// content reads the file, or returns nil if there is none.
func content(t *testing.T, d vfs.Dir, name string) []byte {
	t.Helper()
	file, err := d.Open(name, false)
	if err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
		return nil
	}
	size, err := file.Size()
	require.NoError(t, err)
	b := make([]byte, size)
	n, err := file.ReadAt(b, 0)
	require.NoError(t, err)
	require.Len(t, b, n)
	return b
}

// outcomes counts what crashes with many seeds would leave of the state; the
// process goes on.
func outcomes(t *testing.T, f *FS, state func(d vfs.Dir) string) map[string]int {
	t.Helper()
	found := make(map[string]int)
	for seed := range uint64(seeds) {
		found[state(open(t, mount(f.disk.crash(seed))))]++
	}
	return found
}

func TestFlushedStays(t *testing.T) {
	f, d := mounted(t)
	want := bytes.Repeat([]byte("abcdefg"), 500)
	require.NoError(t, create(t, d, "file", want).Sync())
	require.NoError(t, d.Sync("."))
	require.Equal(t, map[string]int{string(want): seeds}, outcomes(t, f, func(d vfs.Dir) string {
		return string(content(t, d, "file"))
	}))

	after := f.Crash(1)
	require.True(t, f.Ended())
	require.False(t, after.Ended())
	require.Equal(t, want, content(t, open(t, after), "file"))
	_, err := d.Create("late")
	require.ErrorIs(t, err, ErrCut)
	require.Equal(t, "file", names(t, open(t, f.Crash(2))))
}

// Of unflushed bytes each block survives for itself, whole, not at all, or torn,
// and the file has any of its lengths.
func TestUnflushedIsForgotten(t *testing.T) {
	f, d := mounted(t)
	old := bytes.Repeat([]byte{'o'}, 3*blockBytes)
	file := create(t, d, "file", old)
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt(bytes.Repeat([]byte{'n'}, 4*blockBytes), 0)
	require.NoError(t, err)

	torn := 0
	found := outcomes(t, f, func(d vfs.Dir) string {
		b := content(t, d, "file")
		require.Contains(t, []int{3 * blockBytes, 4 * blockBytes}, len(b))
		state := ""
		for len(b) > 0 {
			kinds := ""
			for _, kind := range "on\x00" {
				if bytes.ContainsRune(b[:blockBytes], kind) {
					kinds += string(kind)
				}
			}
			if len(kinds) > 1 {
				torn++
				kinds = "t"
			}
			state += kinds
			b = b[blockBytes:]
		}
		return state
	})
	for _, state := range []string{"ooo", "nnnn", "noo", "onon", "oon\x00"} {
		require.Positive(t, found[state], "%q in %q", state, found)
	}
	require.Positive(t, torn)
	require.Less(t, torn, seeds)
}

func TestEarlierVersionMaySurvive(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", []byte("0"))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	for _, version := range []string{"1", "2", "3"} {
		_, err := file.WriteAt([]byte(version), 0)
		require.NoError(t, err)
	}
	found := outcomes(t, f, func(d vfs.Dir) string { return string(content(t, d, "file")) })
	for _, version := range []string{"0", "1", "2", "3"} {
		require.Positive(t, found[version], "%v", found)
	}
	require.Len(t, found, 4)
}

func TestTruncateIsForgotten(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", []byte("abc"))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	require.NoError(t, file.Truncate(1))
	require.NoError(t, file.Truncate(2))
	require.Equal(t, []byte("a\x00"), content(t, d, "file"))
	found := outcomes(t, f, func(d vfs.Dir) string { return string(content(t, d, "file")) })
	require.Subset(t, found, map[string]int{"abc": found["abc"], "a": found["a"], "a\x00": found["a\x00"]})
	require.Positive(t, found["abc"])
	require.Positive(t, found["a\x00"])
	require.NoError(t, file.Sync())
	require.Equal(t, map[string]int{"a\x00": seeds}, outcomes(t, f, func(d vfs.Dir) string {
		return string(content(t, d, "file"))
	}))
}

func names(t *testing.T, d vfs.Dir) string {
	t.Helper()
	entries, err := d.ReadDir(".")
	require.NoError(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

// A name survives only if its directory was flushed, whatever was done to the file.
func TestNamesAreForgotten(t *testing.T) {
	f, d := mounted(t)
	require.NoError(t, create(t, d, "a", []byte("a")).Sync())
	require.NoError(t, create(t, d, "b", []byte("b")).Sync())
	require.NoError(t, d.Mkdir("c"))
	found := outcomes(t, f, func(d vfs.Dir) string { return names(t, d) })
	for _, state := range []string{"", "a", "b", "c", "a b", "a c", "b c", "a b c"} {
		require.Positive(t, found[state], "%q in %v", state, found)
	}
	require.NoError(t, d.Sync("."))
	require.Equal(t, map[string]int{"a b c": seeds}, outcomes(t, f, func(d vfs.Dir) string { return names(t, d) }))

	require.NoError(t, d.Remove("a"))
	found = outcomes(t, f, func(d vfs.Dir) string { return names(t, d) })
	require.Len(t, found, 2)
	require.Positive(t, found["a b c"])
	require.Positive(t, found["b c"])
}

// A rename has happened or not: the file has one name, and the one it replaced
// is there or gone with it.
func TestRenameIsOneChange(t *testing.T) {
	f, d := mounted(t)
	require.NoError(t, create(t, d, "new", []byte("new")).Sync())
	require.NoError(t, create(t, d, "file", []byte("old")).Sync())
	require.NoError(t, d.Mkdir("other"))
	require.NoError(t, d.Sync("."))
	require.NoError(t, d.Rename("new", "file"))
	require.NoError(t, d.Rename("file", "other/file"))
	state := func(d vfs.Dir) string {
		return names(t, d) + ":" + string(content(t, d, "file")) + ":" + string(content(t, d, "other/file"))
	}
	found := outcomes(t, f, state)
	for _, want := range []string{"file new other:old:", "file other:new:", "other::new"} {
		require.Positive(t, found[want], "%q in %v", want, found)
	}
	require.Len(t, found, 3)
	require.NoError(t, d.Sync("other"))
	require.Equal(t, map[string]int{"other::new": seeds}, outcomes(t, f, state))
}

// A flushed directory that is not named anywhere is lost with what it holds.
func TestDirectoryWithoutName(t *testing.T) {
	f, d := mounted(t)
	require.NoError(t, d.Mkdir("a"))
	require.NoError(t, create(t, d, "a/file", []byte("x")).Sync())
	require.NoError(t, d.Sync("a"))
	found := outcomes(t, f, func(d vfs.Dir) string { return string(content(t, d, "a/file")) })
	require.Len(t, found, 2)
	require.Positive(t, found[""])
	require.Positive(t, found["x"])
}

// What a flush that failed should have made durable is not made durable by the
// next one, unless it is written again.
func TestFailedFlushLoses(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", bytes.Repeat([]byte{'o'}, 2*blockBytes))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt(bytes.Repeat([]byte{'n'}, 2*blockBytes), 0)
	require.NoError(t, err)
	f.SetHook(func(c Call) error {
		if c.Op == OpSync {
			return syscall.EIO
		}
		return nil
	})
	require.ErrorIs(t, file.Sync(), syscall.EIO)
	f.SetHook(nil)
	require.Equal(t, byte('n'), content(t, d, "file")[0], "it is still read from the cache")
	_, err = file.WriteAt(bytes.Repeat([]byte{'N'}, blockBytes), blockBytes)
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	found := outcomes(t, f, func(d vfs.Dir) string {
		b := content(t, d, "file")
		require.Equal(t, bytes.Repeat([]byte{'N'}, blockBytes), b[blockBytes:])
		return string(b[0]) + string(b[blockBytes-1])
	})
	require.Positive(t, found["oo"])
	require.Positive(t, found["nn"])
}

// So is the length that it should have made durable, until something is written up to it.
func TestFailedFlushLosesTheLength(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", bytes.Repeat([]byte{'o'}, blockBytes))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt(bytes.Repeat([]byte{'n'}, blockBytes), blockBytes)
	require.NoError(t, err)
	f.SetHook((&Fault{First: 1, Err: syscall.EIO}).Hook)
	require.ErrorIs(t, file.Sync(), syscall.EIO)
	f.SetHook(nil)
	require.NoError(t, file.Sync())
	size := func(d vfs.Dir) string { return strconv.Itoa(len(content(t, d, "file")) / blockBytes) }
	found := outcomes(t, f, size)
	require.Positive(t, found["1"])
	require.Positive(t, found["2"])

	_, err = file.WriteAt([]byte("again"), blockBytes)
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	require.Equal(t, map[string]int{"2": seeds}, outcomes(t, f, size))
}

// What was written behind the end that a file has after a crash does not come back
// when it grows.
func TestNothingIsBehindTheEnd(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", []byte("ab"))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt([]byte("cd"), 2)
	require.NoError(t, err)
	found := outcomes(t, f, func(d vfs.Dir) string {
		before := content(t, d, "file")
		grown, err := d.Open("file", true)
		require.NoError(t, err)
		require.NoError(t, grown.Truncate(4))
		require.Equal(t, append(before, 0, 0)[:4], content(t, d, "file"))
		return string(before)
	})
	require.Positive(t, found["ab"])
	require.Positive(t, found["abcd"])
}

func TestVolatile(t *testing.T) {
	f, d := mounted(t)
	require.False(t, f.Volatile())
	require.NoError(t, d.Mkdir("dir"))
	require.True(t, f.Volatile(), "a name")
	require.NoError(t, d.Sync("."))
	require.False(t, f.Volatile())
	file := create(t, d, "dir/file", []byte("x"))
	require.NoError(t, d.Sync("dir"))
	require.True(t, f.Volatile(), "bytes")
	require.NoError(t, file.Sync())
	require.False(t, f.Volatile())
	require.NoError(t, file.Truncate(0))
	require.True(t, f.Volatile(), "a length")
}

func TestKillKeepsEverything(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", []byte("x"))
	_, _, err := d.Lock("lock", false, "me")
	require.NoError(t, err)
	_, holder, err := d.Lock("lock", false, "you")
	require.ErrorIs(t, err, vfs.ErrLocked)
	require.Equal(t, "me", holder)

	next := f.Kill()
	after := open(t, next)
	require.Equal(t, "file lock", names(t, after))
	require.Equal(t, "x", string(content(t, after, "file")))
	held, _, err := after.Lock("lock", false, "you")
	require.NoError(t, err)
	require.NoError(t, held.Close())

	_, err = file.WriteAt([]byte("y"), 0)
	require.ErrorIs(t, err, ErrCut, "the process has ended")
	require.ErrorIs(t, d.Mkdir("late"), ErrCut)
	require.NoError(t, file.Close())
	require.Equal(t, "x", string(content(t, after, "file")))
	// What was not flushed before the kill is not flushed by it.
	found := outcomes(t, next, func(d vfs.Dir) string { return string(content(t, d, "file")) })
	require.Positive(t, found[""])
	require.Positive(t, found["x"])
}

func TestHook(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", nil)
	var calls []Call
	f.SetHook(func(c Call) error {
		calls = append(calls, c)
		switch len(calls) {
		case 1:
			return syscall.EIO
		case 4:
			return ErrCut
		}
		return nil
	})
	n, err := file.WriteAt([]byte("abcd"), 0)
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, 2, n, "a failed write is a short one")
	_, err = file.ReadAt(make([]byte, 4), 0)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, d.Mkdir("dir"))
	require.ErrorIs(t, file.Sync(), ErrCut)
	require.True(t, f.Ended())
	require.ErrorIs(t, d.Sync("."), ErrCut)
	require.Len(t, calls, 4, "nobody is asked after the end")
	require.Equal(t, calls[0].N+3, calls[3].N)
	require.Equal(t, []Op{OpWrite, OpRead, OpMkdir, OpSync}, []Op{calls[0].Op, calls[1].Op, calls[2].Op, calls[3].Op})
	require.Equal(t, "file", calls[3].Name)
}

func TestRoom(t *testing.T) {
	f, d := mounted(t)
	f.SetRoom(3)
	file := create(t, d, "file", make([]byte, blockBytes))
	n, err := file.WriteAt(make([]byte, 3*blockBytes), blockBytes)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, blockBytes, n)
	_, err = file.WriteAt([]byte("over what is there"), 0)
	require.NoError(t, err)
	_, err = d.Create("more")
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, d.Remove("file"))
	_, err = d.Create("more")
	require.NoError(t, err)

	// Whatever grows takes what there is, and no block more.
	f.SetRoom(3)
	file = create(t, d, "other", nil)
	require.ErrorIs(t, file.Truncate(3*blockBytes), syscall.ENOSPC)
	n, err = file.WriteAt(make([]byte, 3*blockBytes), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 2*blockBytes, n)
	require.NoError(t, file.Truncate(blockBytes))
	require.NoError(t, file.Truncate(2*blockBytes))
	// What a rename replaces is free, with its name.
	require.NoError(t, d.Rename("more", "other"))
	create(t, d, "third", make([]byte, 2*blockBytes))
	_, err = d.Create("fourth")
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func TestSharedLocks(t *testing.T) {
	_, d := mounted(t)
	_, _, err := d.Lock("lock", true, "")
	require.ErrorIs(t, err, fs.ErrNotExist)
	own, _, err := d.Lock("lock", false, "writer")
	require.NoError(t, err)
	_, holder, err := d.Lock("lock", true, "")
	require.ErrorIs(t, err, vfs.ErrLocked)
	require.Equal(t, "writer", holder)
	require.NoError(t, own.Close())
	first, _, err := d.Lock("lock", true, "")
	require.NoError(t, err)
	second, _, err := d.Lock("lock", true, "")
	require.NoError(t, err)
	require.NoError(t, first.Close())
	_, _, err = d.Lock("lock", false, "")
	require.ErrorIs(t, err, vfs.ErrLocked)
	require.NoError(t, second.Close())
	_, _, err = d.Lock("lock", false, "")
	require.NoError(t, err)
}

func TestHandles(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", []byte("x"))
	require.Equal(t, []string{".", "file"}, f.Handles())
	require.NoError(t, d.Remove("file"))
	_, err := file.ReadAt(make([]byte, 1), 0)
	require.NoError(t, err, "a file lives on while it is open")
	require.NoError(t, file.Close())
	require.NoError(t, d.Close())
	f.SetHook(func(c Call) error {
		require.Fail(t, "a call on a closed handle reaches the file system", c)
		return nil
	})
	require.ErrorIs(t, file.Close(), fs.ErrClosed)
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = d.ReadDir(".")
	require.ErrorIs(t, err, fs.ErrClosed)
	require.Empty(t, f.Handles())
}

func TestErrors(t *testing.T) {
	_, d := mounted(t)
	create(t, d, "file", nil)
	require.NoError(t, d.Mkdir("dir"))
	create(t, d, "dir/inner", nil)
	_, err := d.Open("missing", false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = d.Open("dir", false)
	require.ErrorIs(t, err, vfs.ErrUnsafe)
	_, err = d.OpenDir("file")
	require.ErrorIs(t, err, vfs.ErrUnsafe)
	_, err = d.Create("file")
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorIs(t, d.Mkdir("dir"), fs.ErrExist)
	require.ErrorIs(t, d.Remove("dir"), syscall.ENOTEMPTY)
	require.ErrorIs(t, d.Rename("missing", "x"), fs.ErrNotExist)
	require.ErrorIs(t, d.Rename("file", "dir"), fs.ErrExist)
	file, err := d.Open("file", false)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, fs.ErrPermission)
}

// A snapshot is what it was taken of, with the same outcomes of a cut, and both
// go their own ways.
func TestSnapshot(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", bytes.Repeat([]byte{'a'}, 2*blockBytes))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt([]byte("b"), 0)
	require.NoError(t, err)
	require.NoError(t, d.Rename("file", "renamed"))
	create(t, d, "new", []byte("new"))
	_, _, err = d.Lock("lock", false, "")
	require.NoError(t, err)
	taken := f.Snapshot()
	state := func(d vfs.Dir) string {
		list := names(t, d)
		for _, name := range []string{"file", "renamed", "new"} {
			list += ":" + string(content(t, d, name))
		}
		return list
	}
	seen, after := state(open(t, f)), outcomes(t, f, state)
	require.Greater(t, len(after), 4)

	// What either does later is not seen by the other.
	_, err = file.WriteAt([]byte("c"), 0)
	require.NoError(t, err)
	require.NoError(t, d.Remove("new"))
	require.Equal(t, seen, state(open(t, taken)))
	require.Equal(t, after, outcomes(t, taken, state))
	other := open(t, taken)
	_, _, err = other.Lock("lock", false, "")
	require.NoError(t, err, "the lock's holder is not part of it")
	require.NoError(t, other.Remove("renamed"))
	require.NoError(t, other.Sync("."))
	require.Equal(t, byte('c'), content(t, d, "renamed")[0])
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	require.Len(t, outcomes(t, f, state), 1)
	require.Equal(t, map[string]int{"lock new": seeds}, outcomes(t, taken, func(d vfs.Dir) string { return names(t, d) }))
	require.False(t, f.Ended())
}

// What a failed flush has lost may be gone for readers, too; what was written
// since is not.
func TestEvict(t *testing.T) {
	f, d := mounted(t)
	file := create(t, d, "file", bytes.Repeat([]byte{'o'}, 64*blockBytes))
	require.NoError(t, file.Sync())
	require.NoError(t, d.Sync("."))
	_, err := file.WriteAt(bytes.Repeat([]byte{'n'}, 64*blockBytes), 0)
	require.NoError(t, err)
	f.Evict(1)
	require.NotContains(t, string(content(t, d, "file")), "o", "nothing has failed yet")
	f.SetHook((&Fault{First: 1, Err: syscall.EIO}).Hook)
	require.ErrorIs(t, file.Sync(), syscall.EIO)
	f.SetHook(nil)
	_, err = file.WriteAt(bytes.Repeat([]byte{'N'}, blockBytes), 0)
	require.NoError(t, err)
	f.Evict(1)
	b := content(t, d, "file")
	pages := ""
	for len(b) > 0 {
		page := bytes.TrimLeft(b[:pageBlocks*blockBytes], "N")
		require.Equal(t, bytes.Repeat(page[:1], len(page)), page, "a page goes as a whole")
		pages += string(page[0])
		b = b[pageBlocks*blockBytes:]
	}
	require.Equal(t, byte('n'), pages[0], "the first page was written since")
	require.Contains(t, pages, "o")
	require.Contains(t, pages[1:], "n")
}

func TestFault(t *testing.T) {
	fails := func(fault *Fault) (failed []int) {
		f, d := mounted(t)
		file := create(t, d, "file", nil)
		f.SetHook(fault.Hook)
		for i := range 5 {
			if _, err := file.WriteAt([]byte("x"), 0); err != nil {
				require.ErrorIs(t, err, syscall.EDQUOT)
				failed = append(failed, 2*i+1)
			}
			if err := file.Sync(); err != nil {
				require.ErrorIs(t, err, syscall.EDQUOT)
				failed = append(failed, 2*i+2)
			}
		}
		require.Len(t, fault.Hit(), len(failed))
		return failed
	}
	require.Equal(t, []int{3}, fails(&Fault{First: 3, Count: 1, Err: syscall.EDQUOT}))
	require.Equal(t, []int{9, 10}, fails(&Fault{First: 9, Err: syscall.EDQUOT}))
	flushes := func(c Call) bool { return c.Op == OpSync }
	require.Equal(t, []int{4, 6}, fails(&Fault{Applies: flushes, First: 2, Count: 2, Err: syscall.EDQUOT}))

	waited := 0
	f, d := mounted(t)
	f.SetHook((&Fault{First: 2, Wait: func() { waited++ }}).Hook)
	require.NoError(t, create(t, d, "file", []byte("x")).Sync())
	require.Equal(t, 2, waited)
}

// A short write has written as much as the fault says.
func TestPartialWrite(t *testing.T) {
	for share, want := range map[uint8]int{0: 0, 64: 250, 128: 500, 255: 996} {
		f, d := mounted(t)
		file := create(t, d, "file", nil)
		f.SetHook((&Fault{First: 1, Count: 1, Err: &PartialWrite{Err: syscall.EIO, Share: share}}).Hook)
		n, err := file.WriteAt(bytes.Repeat([]byte{'x'}, 1000), 0)
		require.ErrorIs(t, err, syscall.EIO)
		require.Equal(t, want, n)
		require.Len(t, content(t, d, "file"), want)
	}
}
