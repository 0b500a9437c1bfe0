package engram

import (
	"fmt"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
	"github.com/engramdb/engram/internal/vfs"
)

// scarceFS has only so many descriptors.
type scarceFS struct {
	vfs.FS
	limit int64
	open  atomic.Int64
	most  atomic.Int64
}

var errScarce = &fs.PathError{Op: "open", Path: "file", Err: syscall.EMFILE}

func (s *scarceFS) take() error {
	n := s.open.Add(1)
	if n > s.limit {
		s.open.Add(-1)
		return errScarce
	}
	raise(&s.most, n)
	return nil
}

func (s *scarceFS) OpenDir(path string, create bool) (vfs.Dir, error) {
	dir, err := s.FS.OpenDir(path, create)
	if err != nil {
		return nil, err
	}
	return &scarceDir{dir, s}, s.take()
}

type scarceDir struct {
	vfs.Dir
	fs *scarceFS
}

func (d *scarceDir) OpenDir(name string) (vfs.Dir, error) {
	if err := d.fs.take(); err != nil {
		return nil, err
	}
	dir, err := d.Dir.OpenDir(name)
	if err != nil {
		d.fs.open.Add(-1)
		return nil, err
	}
	return &scarceDir{dir, d.fs}, nil
}

func (d *scarceDir) file(open func() (vfs.File, error)) (vfs.File, error) {
	if err := d.fs.take(); err != nil {
		return nil, err
	}
	f, err := open()
	if err != nil {
		d.fs.open.Add(-1)
		return nil, err
	}
	return &scarceFile{f, d.fs}, nil
}

func (d *scarceDir) Create(name string) (vfs.File, error) {
	return d.file(func() (vfs.File, error) { return d.Dir.Create(name) })
}

func (d *scarceDir) Open(name string, write bool) (vfs.File, error) {
	return d.file(func() (vfs.File, error) { return d.Dir.Open(name, write) })
}

func (d *scarceDir) Close() error {
	d.fs.open.Add(-1)
	return d.Dir.Close()
}

type scarceFile struct {
	vfs.File
	fs *scarceFS
}

func (f *scarceFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

// TestManySpacesFewDescriptors uses many more spaces than there are descriptors:
// idle ones fall asleep, no call fails, and every answer is right.
func TestManySpacesFewDescriptors(t *testing.T) {
	const spaces, limit = 200, 64
	scarce := &scarceFS{FS: newMemoryFS(), limit: limit}
	r := openMemory(t, scarce, Options{})
	for round := range 2 {
		for i := range spaces {
			id := SpaceID(fmt.Sprintf("space-%03d", i))
			s, err := r.GetOrCreate(background, id, SpaceConfig{})
			require.NoError(t, err)
			_, err = s.Remember(background, Memory{ID: fmt.Sprint("m", round), Content: string(id)})
			require.NoError(t, err)
		}
	}
	for i := range spaces {
		id := SpaceID(fmt.Sprintf("space-%03d", i))
		m, err := get(t, r, id).Lookup(background, "m0")
		require.NoError(t, err)
		require.Equal(t, string(id), m.Content)
	}
	require.Less(t, r.Stats().Awake, spaces)
	require.NoError(t, r.Close())
	require.Greater(t, scarce.most.Load(), int64(limit/2))
	require.Zero(t, scarce.open.Load(), "descriptors that were never closed")
}

func TestOutOfDescriptorsWithNobodyToSleep(t *testing.T) {
	scarce := &scarceFS{FS: newMemoryFS(), limit: 64}
	r := openMemory(t, scarce, Options{})
	s := create(t, r, "alpha")
	asleep(t, s)
	r.releaseSpares()
	scarce.limit = scarce.open.Load()
	_, err := s.Lookup(background, "m")
	require.ErrorIs(t, err, syscall.EMFILE)
	scarce.limit += 10
	_, err = s.Lookup(background, "m")
	require.ErrorIs(t, err, ErrMemoryNotFound, "the failure was no verdict on the space")
	require.NoError(t, r.Close())
}

// withoutDescriptors returns a registry whose file system is at its limit, with idle
// spaces to put to sleep.
func withoutDescriptors(t *testing.T) (*Registry, *scarceFS, []*Space) {
	scarce := &scarceFS{FS: newMemoryFS(), limit: 1 << 20}
	r := openMemory(t, scarce, Options{})
	var spaces []*Space
	for _, id := range []SpaceID{"alpha", "beta"} {
		s := create(t, r, id)
		remember(t, s, Memory{ID: "m", Content: string(id)})
		spaces = append(spaces, s)
	}
	scarce.limit = scarce.open.Load()
	return r, scarce, spaces
}

// The journal opens files while it is locked: a space that is put to sleep for
// that does not wait for it.
func TestOutOfDescriptorsInTheJournal(t *testing.T) {
	r, scarce, spaces := withoutDescriptors(t)
	require.NoError(t, r.Settle(background))
	scarce.limit += 10
	for _, s := range spaces {
		require.Equal(t, "m", list(t, s, Filter{})[0].ID)
	}
	require.NoError(t, r.Close())
	require.Zero(t, scarce.open.Load())
}

// A space that is settled is not put to sleep for what that opens.
func TestOutOfDescriptorsInSettling(t *testing.T) {
	r, scarce, spaces := withoutDescriptors(t)
	seq, err := r.settleSpace(spaces[0].awake.Load().identity.incarnation, "alpha")
	require.NoError(t, err)
	require.EqualValues(t, 2, seq)
	scarce.limit += 10
	require.NoError(t, r.Close())
	require.Zero(t, scarce.open.Load())
}

// With no space to put to sleep, the spares are what the journal and a space's own
// files are written with.
func TestOutOfDescriptorsWithEverySpaceInUse(t *testing.T) {
	r, scarce, spaces := withoutDescriptors(t)
	for _, s := range spaces {
		_, err := s.use(background)
		require.NoError(t, err)
	}
	require.NoError(t, r.Settle(background))
	for _, s := range spaces {
		remember(t, s, Memory{ID: "n", Content: "is there too"})
		require.NoError(t, s.Checkpoint(background))
	}
	require.NoError(t, r.Settle(background))
	require.Empty(t, r.Stats().Stopped)
	require.NoError(t, r.Close())
	require.LessOrEqual(t, scarce.most.Load(), scarce.limit)
	require.Zero(t, scarce.open.Load())
}

// Where others take the spares too, a write finds no descriptor at all. That stops
// nobody: what was acknowledged is in the journal, what is not can be tried again.
func TestOutOfDescriptorsStopsNobody(t *testing.T) {
	r, scarce, spaces := withoutDescriptors(t)
	for _, s := range spaces {
		asleep(t, s)
		a, err := s.use(background) // which leaves its log closed
		require.NoError(t, err)
		a.uses.Add(-1)
	}
	s := spaces[0]
	limit := scarce.limit
	scarce.limit = -1
	remember(t, s, Memory{ID: "n", Content: "waits in memory"})
	_, err := s.Remember(background, Memory{ID: "o", Content: "is refused"})
	require.ErrorIs(t, err, syscall.EMFILE)
	require.NotErrorIs(t, err, ErrStopped)
	_, err = s.Forget(background, []string{"m"})
	require.NoError(t, err)
	require.True(t, r.reserved, "room is not what is missing")
	require.ErrorIs(t, r.Settle(background), syscall.EMFILE)
	require.False(t, r.freeDescriptors(), "who cannot be settled stays awake")
	scarce.limit = limit + 10
	for _, s := range spaces {
		remember(t, s, Memory{ID: "o", Content: "is there"})
	}
	require.NoError(t, r.Settle(background))
	require.Empty(t, r.Stats().Stopped)
	require.NoError(t, r.Close())
	require.Zero(t, scarce.open.Load())
	r = openMemory(t, scarce.FS, Options{})
	require.ElementsMatch(t, []string{"n", "o"}, idsOf(list(t, get(t, r, "alpha"), Filter{})))
	require.NoError(t, r.Close())
}

// TestSparesAreOpenedBesideOthers: who opens the spares holds up nobody, and holds no
// more of them than there are to be.
func TestSparesAreOpenedBesideOthers(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	r.releaseSpares()
	nested := false
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpOpen && !nested {
			nested = true
			require.True(t, r.mu.TryLock())
			r.mu.Unlock()
			r.holdSpares()
		}
		return nil
	})
	r.holdSpares()
	require.True(t, nested)
	require.Len(t, r.spares, spareDescriptors)
	require.NoError(t, r.Close())
	r.holdSpares()
	require.Empty(t, r.spares)
}
