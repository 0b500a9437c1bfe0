package engram

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// memoryFS is a file system in memory whose state can be cloned at once, also
// while a registry has it open: tests that damage one stored registry in
// thousands of ways need that. It forgets nothing, so it says nothing about
// flushes.
type memoryFS struct {
	mu   sync.Mutex // guards all nodes of the tree
	root *memoryNode
}

// memoryNode is a directory, or a file.
type memoryNode struct {
	children map[string]*memoryNode // nil: a file
	content  []byte
	shared   bool  // content is another file's, too: copy it before writing
	hole     int64 // zeros behind content, which take no memory
	lock     int   // sharers, or -1 for an exclusive holder
	note     string
}

func newMemoryFS() *memoryFS { return &memoryFS{root: newMemoryDir()} }

func newMemoryDir() *memoryNode { return &memoryNode{children: make(map[string]*memoryNode)} }

// clone returns a file system with the same content, and no locks: what another
// process would find if this one were killed now.
func (m *memoryFS) clone() *memoryFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memoryFS{root: m.root.clone()}
}

func (n *memoryNode) clone() *memoryNode {
	if n.children == nil {
		n.shared = true
		return &memoryNode{content: n.content, shared: true, hole: n.hole}
	}
	c := newMemoryDir()
	for name, child := range n.children {
		c.children[name] = child.clone()
	}
	return c
}

// files returns the content of every file below the directory by its path from
// there. The slices are not to be changed.
func (m *memoryFS) files(dir string) map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string][]byte)
	if n := m.root.at(dir); n != nil {
		n.collect("", all)
	}
	return all
}

func (n *memoryNode) collect(name string, all map[string][]byte) {
	if n.children == nil {
		n.shared = true
		all[name] = n.content
	}
	for child, c := range n.children {
		c.collect(path.Join(name, child), all)
	}
}

// put makes the file, or gives it that content; nil removes the file or directory.
func (m *memoryFS) put(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base := path.Split(name)
	parent := m.root
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		if parent.children[part] == nil {
			parent.children[part] = newMemoryDir()
		}
		parent = parent.children[part]
	}
	if content == nil {
		delete(parent.children, base)
		return
	}
	parent.children[base] = &memoryNode{content: content, shared: true}
}

// flip changes a bit of the file's byte at that place.
func (m *memoryFS) flip(name string, at int) {
	changed := slices.Clone(m.files(".")[name])
	changed[at] ^= 0x10
	m.put(name, changed)
}

// extend makes the file appear that much longer, with zeros.
func (m *memoryFS) extend(name string, by int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.at(name).hole = by
}

// write makes the same files and directories in a directory of the real file system.
func (m *memoryFS) write(t *testing.T, dir string) {
	t.Helper()
	for name, content := range m.files(".") {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
}

// move moves a file or directory, replacing what is there.
func (m *memoryFS) move(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	source, target := m.root.at(path.Dir(from)), m.root.at(path.Dir(to))
	moved := source.children[path.Base(from)]
	delete(source.children, path.Base(from))
	target.children[path.Base(to)] = moved
}

// copy copies a file or directory, replacing what is there.
func (m *memoryFS) copy(from, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.at(path.Dir(to)).children[path.Base(to)] = m.root.at(from).clone()
}

// at returns the node of that path, nil if there is none.
func (n *memoryNode) at(name string) *memoryNode {
	for part := range strings.SplitSeq(name, "/") {
		if n == nil || n.children == nil {
			return nil
		}
		if part != "." && part != "" {
			n = n.children[part]
		}
	}
	return n
}

// OpenDir implements [vfs.FS]; the file system is one directory, of any path.
func (m *memoryFS) OpenDir(string, bool) (vfs.Dir, error) { return memoryDir{m, m.root}, nil }

type memoryDir struct {
	fs   *memoryFS
	node *memoryNode
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (d memoryDir) OpenDir(name string) (vfs.Dir, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	switch n := d.node.at(name); {
	case n == nil:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n.children == nil:
		return nil, pathError("open", name, vfs.ErrUnsafe)
	default:
		return memoryDir{d.fs, n}, nil
	}
}

func (d memoryDir) Mkdir(name string) error {
	_, err := d.add(name, newMemoryDir())
	return err
}

func (d memoryDir) Create(name string) (vfs.File, error) {
	n, err := d.add(name, new(memoryNode))
	return memoryFile{d.fs, n}, err
}

func (d memoryDir) add(name string, n *memoryNode) (*memoryNode, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	parent := d.node.at(path.Dir(name))
	switch {
	case parent == nil || parent.children == nil:
		return nil, pathError("create", name, fs.ErrNotExist)
	case parent.children[path.Base(name)] != nil:
		return nil, pathError("create", name, fs.ErrExist)
	}
	parent.children[path.Base(name)] = n
	return n, nil
}

func (d memoryDir) Open(name string, _ bool) (vfs.File, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	switch n := d.node.at(name); {
	case n == nil:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n.children != nil:
		return nil, pathError("open", name, vfs.ErrUnsafe)
	default:
		return memoryFile{d.fs, n}, nil
	}
}

func (d memoryDir) ReadDir(name string) ([]fs.DirEntry, error) {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n := d.node.at(name)
	switch {
	case n == nil:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n.children == nil:
		return nil, pathError("open", name, vfs.ErrUnsafe)
	}
	var entries []fs.DirEntry
	for _, child := range slices.Sorted(maps.Keys(n.children)) {
		entries = append(entries, memoryEntry{child, n.children[child].children != nil})
	}
	return entries, nil
}

func (d memoryDir) Rename(oldname, newname string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n, target := d.node.at(oldname), d.node.at(newname)
	parent := d.node.at(path.Dir(newname))
	switch {
	case n == nil || parent == nil:
		return pathError("rename", oldname, fs.ErrNotExist)
	case target != nil && len(target.children) > 0:
		return pathError("rename", newname, fs.ErrExist)
	}
	delete(d.node.at(path.Dir(oldname)).children, path.Base(oldname))
	parent.children[path.Base(newname)] = n
	return nil
}

func (d memoryDir) Remove(name string) error {
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	switch n := d.node.at(name); {
	case n == nil:
		return pathError("remove", name, fs.ErrNotExist)
	case len(n.children) > 0:
		return pathError("remove", name, fs.ErrExist)
	}
	delete(d.node.at(path.Dir(name)).children, path.Base(name))
	return nil
}

func (d memoryDir) Sync(name string) error {
	_, err := d.ReadDir(name)
	return err
}

func (d memoryDir) Lock(name string, shared bool, note string) (io.Closer, string, error) {
	file, err := d.Create(name)
	if errors.Is(err, fs.ErrExist) {
		file, err = d.Open(name, !shared)
	}
	if err != nil {
		return nil, "", err
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	n := file.(memoryFile).node
	switch {
	case n.lock < 0 || n.lock > 0 && !shared:
		return nil, n.note, vfs.ErrLocked
	case shared:
		n.lock++
	default:
		n.lock, n.note = -1, note
	}
	return memoryLock{d.fs, n}, "", nil
}

func (d memoryDir) Close() error { return nil }

type memoryLock struct {
	fs   *memoryFS
	node *memoryNode
}

func (l memoryLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	l.node.lock, l.node.note = max(l.node.lock, 1)-1, ""
	return nil
}

type memoryEntry struct {
	name string
	dir  bool
}

func (e memoryEntry) Name() string               { return e.name }
func (e memoryEntry) IsDir() bool                { return e.dir }
func (e memoryEntry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

func (e memoryEntry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}

type memoryFile struct {
	fs   *memoryFS
	node *memoryNode
}

func (f memoryFile) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	n := copy(p, f.node.content[min(offset, int64(len(f.node.content))):])
	if end := int64(len(f.node.content)) + f.node.hole; offset+int64(n) < end {
		zeros := int(min(int64(len(p)-n), end-offset-int64(n)))
		clear(p[n : n+zeros])
		n += zeros
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f memoryFile) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.resize(max(offset+int64(len(p)), int64(len(f.node.content))))
	return copy(f.node.content[offset:], p), nil
}

// resize makes the content of that length, and this file's alone.
func (n *memoryNode) resize(size int64) {
	switch {
	case n.shared:
		grown := make([]byte, size)
		copy(grown, n.content)
		n.content, n.shared = grown, false
	case size <= int64(len(n.content)):
		n.content = n.content[:size]
	default:
		n.content = append(n.content, make([]byte, size-int64(len(n.content)))...)
	}
}

func (f memoryFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.content)) + f.node.hole, nil
}

func (f memoryFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.resize(size)
	return nil
}

func (f memoryFile) Sync() error  { return nil }
func (f memoryFile) Close() error { return nil }

// A clone is what it was cloned from, and stays that.
func TestMemoryFSClone(t *testing.T) {
	m := newMemoryFS()
	r, err := Open("", Options{seams: seams{fs: m}})
	require.NoError(t, err)
	ctx := t.Context()
	s, err := r.Create(ctx, "alpha", SpaceConfig{})
	require.NoError(t, err)
	_, err = s.Remember(ctx, Memory{ID: "one", Content: "before the clone"})
	require.NoError(t, err)
	killed := m.clone()
	before := killed.files(".")
	_, err = s.Remember(ctx, Memory{ID: "two", Content: "after the clone"})
	require.NoError(t, err)
	require.Equal(t, before, killed.files("."))
	require.NotEqual(t, before, m.files("."))

	again, err := Open("", Options{seams: seams{fs: killed}})
	require.NoError(t, err)
	s, err = again.Get(ctx, "alpha")
	require.NoError(t, err)
	_, err = s.Lookup(ctx, "one")
	require.NoError(t, err)
	_, err = s.Lookup(ctx, "two")
	require.ErrorIs(t, err, ErrMemoryNotFound)
	require.NoError(t, again.Close())
	require.NoError(t, r.Close())

	_, err = Open("", Options{ReadOnly: true, Clock: fixedClock(time.Unix(0, 0)), seams: seams{fs: m}})
	require.NoError(t, err)
	_, err = Open("", Options{seams: seams{fs: m}})
	require.ErrorIs(t, err, ErrLocked)
}

// fixedClock always tells the same time.
type fixedClock time.Time

func (c fixedClock) Now() time.Time { return time.Time(c) }
