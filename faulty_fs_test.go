package engram

import (
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// faultyFS fails one call, and counts those before it. Closing is not counted.
type faultyFS struct {
	vfs.FS
	err error

	mu    sync.Mutex // guards calls
	calls int        // left until the one that fails
}

// failing returns the file system with the n-th call failing, from 0 on.
func failing(below vfs.FS, n int, err error) *faultyFS {
	return &faultyFS{FS: below, err: err, calls: n}
}

// failed reports whether the call was reached.
func (f *faultyFS) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls < 0
}

// fault returns the error in its turn.
func (f *faultyFS) fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls--
	if f.calls == -1 {
		return f.err
	}
	return nil
}

func (f *faultyFS) OpenDir(name string, create bool) (vfs.Dir, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	dir, err := f.FS.OpenDir(name, create)
	return faultyDir{dir, f}, err
}

type faultyDir struct {
	vfs.Dir
	fs *faultyFS
}

func (d faultyDir) OpenDir(name string) (vfs.Dir, error) {
	if err := d.fs.fault(); err != nil {
		return nil, err
	}
	dir, err := d.Dir.OpenDir(name)
	return faultyDir{dir, d.fs}, err
}

func (d faultyDir) Mkdir(name string) error {
	if err := d.fs.fault(); err != nil {
		return err
	}
	return d.Dir.Mkdir(name)
}

func (d faultyDir) Create(name string) (vfs.File, error) {
	if err := d.fs.fault(); err != nil {
		return nil, err
	}
	file, err := d.Dir.Create(name)
	return faultyFile{file, d.fs}, err
}

func (d faultyDir) Open(name string, write bool) (vfs.File, error) {
	if err := d.fs.fault(); err != nil {
		return nil, err
	}
	file, err := d.Dir.Open(name, write)
	return faultyFile{file, d.fs}, err
}

func (d faultyDir) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := d.fs.fault(); err != nil {
		return nil, err
	}
	return d.Dir.ReadDir(name)
}

func (d faultyDir) Rename(oldname, newname string) error {
	if err := d.fs.fault(); err != nil {
		return err
	}
	return d.Dir.Rename(oldname, newname)
}

func (d faultyDir) Remove(name string) error {
	if err := d.fs.fault(); err != nil {
		return err
	}
	return d.Dir.Remove(name)
}

func (d faultyDir) Sync(name string) error {
	if err := d.fs.fault(); err != nil {
		return err
	}
	return d.Dir.Sync(name)
}

func (d faultyDir) Lock(name string, shared bool, note string) (io.Closer, string, error) {
	if err := d.fs.fault(); err != nil {
		return nil, "", err
	}
	return d.Dir.Lock(name, shared, note)
}

type faultyFile struct {
	vfs.File
	fs *faultyFS
}

func (f faultyFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.fs.fault(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, offset)
}

func (f faultyFile) WriteAt(p []byte, offset int64) (int, error) {
	if err := f.fs.fault(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, offset)
}

func (f faultyFile) Size() (int64, error) {
	if err := f.fs.fault(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f faultyFile) Sync() error {
	if err := f.fs.fault(); err != nil {
		return err
	}
	return f.File.Sync()
}

// forEachFault runs the test with each call failing in its turn, until one run
// needs no more calls: each of the first ones, and of those behind them, where not
// everything is asked for, one of a few.
func forEachFault(t *testing.T, err error, run func(t *testing.T, n int) (failed bool)) {
	t.Helper()
	stride := 5
	if os.Getenv(faultsEnv) != "" {
		stride = 1
	} else if testing.Short() {
		stride = 23
	}
	n := 0
	for run(t, n) {
		if n++; n > 16 {
			n += stride - 1
		}
		require.Less(t, n, 100_000, "it never ends")
	}
	require.Greater(t, n, 2, "calls that were failed with %v", err)
}

// A call that fails is an error of the device: no reader takes it for damage, or
// for the end of what there is.
func TestFaultsOfReading(t *testing.T) {
	s := killedRegistry(t)
	damages := s.spaceDamages()
	damages["nothing"] = func(*memoryFS) {}
	damages["HEAD missing"] = func(m *memoryFS) { m.put(journalDir+"/"+headName, nil) }
	for _, name := range []string{
		"nothing", "HEAD missing", "SPACE missing", "SPACE's slots", "checkpoint missing", "settled frame", "bodies missing",
		"a copy of the other's directory",
	} {
		damaged := s.fs.clone()
		damages[name](damaged)
		for call, read := range map[string]func(below vfs.FS) (any, error){
			"check":        readByCheck,
			"salvage":      readBySalvage,
			"dump":         func(below vfs.FS) (any, error) { return readByDump(below, damagedSpace) },
			"dump journal": func(below vfs.FS) (any, error) { return readByDump(below, "") },
		} {
			t.Run(name+"/"+call, func(t *testing.T) {
				t.Parallel()
				want, err := read(damaged.clone())
				require.NoError(t, err)
				forEachFault(t, syscall.EIO, func(t *testing.T, n int) bool {
					faulty := failing(damaged.clone(), n, syscall.EIO)
					got, err := read(faulty)
					if err != nil {
						require.ErrorIs(t, err, syscall.EIO, n)
						require.NotErrorIs(t, err, ErrCorrupt, n)
					} else {
						require.Equal(t, want, got, n)
					}
					return faulty.failed()
				})
			})
		}
	}
}

func openFaulty(below vfs.FS) (*Registry, error) {
	opts := damageOptions(nil, true)
	opts.seams.fs = below
	return Open("", opts)
}

func readByCheck(below vfs.FS) (any, error) {
	r, err := openFaulty(below)
	if err != nil {
		return nil, err
	}
	report, err := r.checkAll(background)
	for i := range report.Spaces {
		report.Spaces[i].Recovery.Duration = 0
	}
	must(r.Close())
	return report, err
}

func readBySalvage(below vfs.FS) (any, error) {
	from, err := openFaulty(below)
	if err != nil {
		return nil, err
	}
	out, clock := newMemoryFS(), new(salvageClock)
	opts := damageOptions(out, false)
	opts.Durability, opts.Clock = None, clock
	to, err := Open("", opts)
	must(err)
	report, err := salvage(background, from, to, clock, nil)
	must(from.Close())
	must(to.Close())
	return report, err
}

func readByDump(below vfs.FS, id SpaceID) (any, error) {
	var list []DumpRecord
	d := &dumper{ctx: background, yield: func(r DumpRecord, err error) bool {
		list = append(list, r)
		return err == nil
	}}
	err := d.run(below, "", id)
	return list, err
}

// Whatever fails while a space is recovered, recovering it again makes of it
// what it would have been.
func TestFaultsOfRecovery(t *testing.T) {
	segment, ends := fuzzSegment(fuzzOperations())
	torn := append(segment[:len(segment):len(segment)], []byte("what no frame begins with")...)
	renaming := func() *memoryFS {
		m := segmentSpace(torn, ends[1])
		m.put(string(exampleID)+"/"+spaceFile, encodeSpaceFile(exampleIdentity(), spaceState{id: "before", next: exampleID, mark: ends[1]}))
		m.put(string(exampleID)+"/"+checkpointTemporary, []byte("begun"))
		m.put(string(exampleID)+"/checkpoint-9-9", []byte("stale"))
		m.put(string(exampleID)+"/"+segmentPath(7), []byte("begun, too"))
		return m
	}
	want := digest(t, recoverSegment(t, renaming(), true).store)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		forEachFault(t, cause, func(t *testing.T, n int) bool {
			m := renaming()
			faulty := failing(m, n, cause)
			err := recoverIn(faulty)
			if err != nil {
				require.ErrorIs(t, err, cause, n)
				require.NotErrorIs(t, err, ErrCorrupt, n)
			}
			again := recoverSegment(t, m, true)
			require.Nil(t, again.damage, n)
			require.Equal(t, want, digest(t, again.store), n)
			require.Equal(t, Clean, recoverSegment(t, m, true).report.Verdict)
			return faulty.failed()
		})
	}
}

// recoverIn recovers the example's space for writing.
func recoverIn(below vfs.FS) error {
	root, err := below.OpenDir("", false)
	if err != nil {
		return err
	}
	dir, err := root.OpenDir(string(exampleID))
	if err != nil {
		return err
	}
	r := &recovery{dir: dir, id: exampleID, epoch: exampleEpoch}
	if err := r.identify(); err != nil {
		return err
	}
	if err := r.inspect(); err != nil {
		return err
	}
	l, err := r.complete(defaultSegmentBytes)
	if err == nil {
		must(l.close())
	}
	return err
}

// Whatever fails while a registry is opened, the next opening has everything.
func TestFaultsOfOpening(t *testing.T) {
	for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(s.name+"/"+cause.Error(), func(t *testing.T) {
				t.Parallel()
				calls := 0
				forEachFault(t, cause, func(t *testing.T, n int) bool {
					m := s.fs.clone()
					m.put(trashDir+"/"+exampleIdentity().incarnation.String()+"/"+spaceFile, []byte("deleted"))
					m.put(tmpDir+"/"+exampleIdentity().incarnation.String()+"/"+spaceFile, []byte("begun"))
					m.put(reserveFile, nil)
					faulty := failing(m, n, cause)
					opts := damageOptions(nil, false)
					opts.seams.fs = faulty
					r, err := Open("", opts)
					calls++
					if err != nil {
						require.ErrorIs(t, err, cause)
						require.NotErrorIs(t, err, ErrCorrupt)
					} else {
						// What fails later is a space's own; here it is only opened.
						_ = r.Close()
					}
					r = openMemory(t, m.clone(), damageOptions(m.clone(), false))
					for id := range s.answers {
						require.NoError(t, requireSameOrDamaged(t, s, id, readAnswers(t, r, id), "opened again"))
					}
					require.NoError(t, r.Close())
					return err != nil || calls < 10 // up to the first that does not concern opening
				})
			})
		}
	}
}
