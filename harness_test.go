package engram

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// What the tests of registry and spaces share: opening, a clock that steps, a
// file system that counts, and looking into the files of a data directory.

// background is the context of calls that nobody cancels.
var background = context.Background()

// tester is a *testing.T, a *testing.F or a *rapid.T.
type tester interface {
	require.TestingT
	Helper()
}

// scaled is the size of a random test: larger where ENGRAM_LONG is set, for
// nightly runs, smaller under -short, for those with the race detector.
func scaled(n int) int {
	switch {
	case os.Getenv("ENGRAM_LONG") != "":
		return 20 * n
	case testing.Short():
		return max(n/4, 1)
	}
	return n
}

// patient is Options.seams.settleHang where nothing hangs: a process that gets no
// processor for a while must not look as if its disk did.
const patient = time.Hour

func openIn(t tester, dir string, opts Options) *Registry {
	t.Helper()
	if opts.seams.settleHang == 0 {
		opts.seams.settleHang = patient
	}
	r, err := Open(dir, opts)
	require.NoError(t, err)
	return r
}

// openMemory opens a registry in the file system, with the options' other fields.
func openMemory(t tester, m vfs.FS, opts Options) *Registry {
	t.Helper()
	opts.seams.fs = m
	return openIn(t, "", opts)
}

// newRegistry opens a new registry in memory, which is closed when the test ends.
func newRegistry(t *testing.T, opts Options) (*Registry, *memoryFS) {
	t.Helper()
	m := newMemoryFS()
	r := openMemory(t, m, opts)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, m
}

// newTestSpace opens a new registry in memory with a space "alpha".
func newTestSpace(t *testing.T, opts Options) (*Space, *memoryFS) {
	t.Helper()
	r, m := newRegistry(t, opts)
	return create(t, r, "alpha"), m
}

func create(t tester, r *Registry, id SpaceID) *Space {
	t.Helper()
	s, err := r.Create(background, id, SpaceConfig{})
	require.NoError(t, err)
	return s
}

func get(t tester, r *Registry, id SpaceID) *Space {
	t.Helper()
	s, err := r.Get(background, id)
	require.NoError(t, err)
	return s
}

// raise makes n the most, if it is more.
func raise(most *atomic.Int64, n int64) {
	for {
		if before := most.Load(); n <= before || most.CompareAndSwap(before, n) {
			return
		}
	}
}

func remember(t tester, s *Space, ms ...Memory) []Receipt {
	t.Helper()
	receipts, err := s.RememberBatch(background, ms)
	require.NoError(t, err)
	return receipts
}

// beginReading begins to read all memories of the space, and returns the first of them
// and how to go on and to end.
func beginReading(t tester, s *Space) (first Memory, next func() (Memory, error, bool), stop func()) {
	t.Helper()
	next, stop = iter.Pull2(s.Memories(background, Filter{}))
	first, err, ok := next()
	require.NoError(t, err)
	require.True(t, ok)
	return first, next, stop
}

func forget(t tester, s *Space, ids ...string) ForgetReceipt {
	t.Helper()
	receipt, err := s.Forget(background, ids)
	require.NoError(t, err)
	return receipt
}

// list returns the memories of a space that satisfy f.
func list(t tester, s *Space, f Filter) []Memory {
	t.Helper()
	var all []Memory
	for m, err := range s.Memories(background, f) {
		require.NoError(t, err)
		all = append(all, m)
	}
	return all
}

func idsOf(ms []Memory) []string {
	ids := make([]string, 0, len(ms))
	for _, m := range ms {
		ids = append(ids, m.ID)
	}
	return ids
}

// recall returns the recollections for the cue.
func recall(t tester, s *Space, cue Cue) []Recollection {
	t.Helper()
	answer, err := s.Recall(background, cue)
	require.NoError(t, err)
	return answer.Recollections
}

func recalledIDs(list []Recollection) []string {
	ids := make([]string, 0, len(list))
	for _, r := range list {
		ids = append(ids, r.Memory.ID)
	}
	return ids
}

func spaceIDs(r *Registry, after SpaceID) []SpaceID { return slices.Collect(r.Spaces(after)) }

// asleep puts the space to sleep, once nothing keeps it busy.
func asleep(t tester, s *Space) {
	t.Helper()
	for range 10_000 {
		if s.sleep(); s.awake.Load() == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	require.Fail(t, "the space does not fall asleep")
}

// infoOf wakes the space and describes it. The journal may put a space that it
// woke to recover it to sleep again at any time.
func infoOf(t tester, s *Space) SpaceInfo {
	t.Helper()
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	return a.info()
}

// stepClock tells a time that is later by a second at each call.
type stepClock struct {
	mu  sync.Mutex
	now time.Time
}

func newStepClock() *stepClock {
	return &stepClock{now: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
}

func (c *stepClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

// set makes t the time that the next call's second is added to.
func (c *stepClock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// countingFS passes calls on, but for flushes if quick is set, and counts them
// by the first part of the path that they reach, which is a space's id.
type countingFS struct {
	vfs.FS
	quick   bool
	opening func(name string) // called before a directory is opened, if set

	mu    sync.Mutex // guards calls
	calls map[string]int
}

func newCountingFS(below vfs.FS) *countingFS {
	return &countingFS{FS: below, quick: true, calls: make(map[string]int)}
}

func (c *countingFS) count(name string) {
	first, _, _ := strings.Cut(name, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[first]++
}

// touched returns the spaces that were reached since the last call of it.
func (c *countingFS) touched() []SpaceID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []SpaceID
	for name := range c.calls {
		if SpaceID(name).Validate() == nil {
			ids = append(ids, SpaceID(name))
		}
	}
	clear(c.calls)
	slices.Sort(ids)
	return ids
}

func (c *countingFS) OpenDir(name string, create bool) (vfs.Dir, error) {
	dir, err := c.FS.OpenDir(name, create)
	return countingDir{dir, c, "."}, err
}

type countingDir struct {
	vfs.Dir
	fs   *countingFS
	name string // as it was opened
}

func (d countingDir) at(name string) string {
	name = path.Join(d.name, name)
	d.fs.count(name)
	return name
}

func (d countingDir) OpenDir(name string) (vfs.Dir, error) {
	if d.fs.opening != nil {
		d.fs.opening(path.Join(d.name, name))
	}
	dir, err := d.Dir.OpenDir(name)
	return countingDir{dir, d.fs, d.at(name)}, err
}

func (d countingDir) Mkdir(name string) error {
	d.at(name)
	return d.Dir.Mkdir(name)
}

func (d countingDir) Create(name string) (vfs.File, error) {
	file, err := d.Dir.Create(name)
	return countingFile{file, d.fs, d.at(name)}, err
}

func (d countingDir) Open(name string, write bool) (vfs.File, error) {
	file, err := d.Dir.Open(name, write)
	return countingFile{file, d.fs, d.at(name)}, err
}

func (d countingDir) ReadDir(name string) ([]fs.DirEntry, error) {
	d.at(name)
	return d.Dir.ReadDir(name)
}

func (d countingDir) Rename(oldname, newname string) error {
	d.at(oldname)
	d.at(newname)
	return d.Dir.Rename(oldname, newname)
}

func (d countingDir) Remove(name string) error {
	d.at(name)
	return d.Dir.Remove(name)
}

func (d countingDir) Sync(name string) error {
	d.at(name)
	if d.fs.quick {
		return nil
	}
	return d.Dir.Sync(name)
}

type countingFile struct {
	vfs.File
	fs   *countingFS
	name string
}

func (f countingFile) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.count(f.name)
	return f.File.ReadAt(p, offset)
}

func (f countingFile) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.count(f.name)
	return f.File.WriteAt(p, offset)
}

func (f countingFile) Sync() error {
	f.fs.count(f.name)
	if f.fs.quick {
		return nil
	}
	return f.File.Sync()
}

// treeHash returns a line for each file and directory below dir: name, mode,
// time of change and the hash of its content.
func treeHash(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var content []byte
		if !entry.IsDir() {
			if content, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		lines = append(lines, fmt.Sprintf("%s %v %v %x", name, info.Mode(), info.ModTime(), sha256.Sum256(content)))
		return nil
	}))
	return lines
}

// requireUnchanged requires that every file is as it was.
func requireUnchanged(t tester, before map[string][]byte, m *memoryFS, msg ...any) {
	t.Helper()
	now := m.files(".")
	for name, content := range now {
		require.True(t, bytes.Equal(before[name], content), "%s has changed %v", name, msg)
	}
	require.Len(t, now, len(before), msg...)
}

// requireNowhere looks for the canaries in the names and contents of every file.
func requireNowhere(t tester, m *memoryFS, canaries ...string) {
	t.Helper()
	for _, name := range filesWith(m, canaries...) {
		require.Fail(t, "a canary is still there", name)
	}
}

// filesWith returns the files whose name or content has one of the canaries.
func filesWith(m *memoryFS, canaries ...string) []string {
	var found []string
	files := m.files(".")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if slices.ContainsFunc(canaries, func(c string) bool {
			return strings.Contains(name, c) || bytes.Contains(files[name], []byte(c))
		}) {
			found = append(found, name)
		}
	}
	return found
}

// requireZeroJournal requires that the journal's files hold nothing.
func requireZeroJournal(t tester, m *memoryFS) {
	t.Helper()
	seen := 0
	for name, content := range m.files(journalDir) {
		if name != headName {
			seen++
			require.Empty(t, bytes.Trim(content, "\x00"), "bytes of journal file %s that are not zero", name)
		}
	}
	require.Positive(t, seen)
}
