// Package crashfs is a file system in memory that forgets what was not
// flushed. Tests run a program on it, stop it before any call, and look at
// what a disk could hold after the power went.
//
// It keeps apart what a process sees and what is on the disk. [File.Sync] moves
// a file's bytes and length from one to the other, [Dir.Sync] the names in a
// directory. After [FS.Crash] the disk holds all of that, and of the rest what
// the seed says:
//
//   - of each unflushed 512-byte block, any version that was ever written since
//     the last flush, or the one before; or the beginning of one and the end of
//     another;
//   - of a file's length, any that it had since then;
//   - of the changes of directories, any subset in which no change survives
//     that builds on one that did not. A rename is one change: the file has
//     exactly one of its names.
//
// Flushing a file says nothing about its name, flushing a directory nothing
// about the contents of what it names. A rename between directories is durable
// with the first flush of either.
//
// [FS.Kill] ends only the process: everything written stays.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/engramdb/engram/internal/vfs"
)

// ErrCut is what every call returns after the process has ended. A hook that
// returns it ends the process before the call.
var ErrCut = errors.New("the process has ended")

// Op names a call of [vfs.Dir] or [vfs.File].
type Op string

// The calls. A directory that is opened and a file that is opened are told
// apart, and so are their flushes.
const (
	OpOpenDir  Op = "opendir"
	OpReadDir  Op = "readdir"
	OpMkdir    Op = "mkdir"
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSize     Op = "size"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpClose    Op = "close"
)

// Mutates reports whether a call can change what the disk will hold: to cut
// the power before another is to cut it before the next of these.
func (o Op) Mutates() bool {
	switch o {
	case OpMkdir, OpCreate, OpRename, OpRemove, OpSyncDir, OpWrite, OpTruncate, OpSync:
		return true
	}
	return false
}

// Call is a call that is about to be made.
type Call struct {
	N    int // counts from 1
	Op   Op
	Name string // path from the root, as it was when the handle was opened
	Size int    // bytes of a read or write
}

// Hook is asked before every call on an open handle, in the goroutine that makes it. What it
// returns fails the call: ErrCut ends the process; on any other error
//
//   - a write has written the first half of its bytes, or what a [PartialWrite]
//     says,
//   - a flush of a file has flushed nothing, and what it should have flushed is
//     not flushed by later ones either, unless it is written again (that is how
//     Linux treats dirty pages that could not be written back),
//   - a Close has closed,
//   - nothing else has happened. A flush of a directory that has failed loses
//     nothing: where names are journaled, either a later flush makes them durable
//     or none ever succeeds again.
type Hook func(Call) error

// FS is a file system as one process sees it. It implements [vfs.FS]; there is
// one directory, of any path.
type FS struct {
	disk *disk

	// Guarded by disk.mu.
	hook    Hook
	calls   int
	changes int // of calls
	handles map[io.Closer]string
	ended   bool
}

// New returns an empty file system.
func New() *FS {
	root := newDir()
	return mount(&disk{root: root, room: -1, locks: make(map[*node]*locked)})
}

func mount(d *disk) *FS { return &FS{disk: d, handles: make(map[io.Closer]string)} }

// SetHook sets what is asked before every call; nil asks nobody.
func (f *FS) SetHook(h Hook) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.hook = h
}

// Calls returns how many calls were begun.
func (f *FS) Calls() int {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.calls
}

// MutatingCalls returns how many of them could change what the disk will hold.
func (f *FS) MutatingCalls() int {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.changes
}

// Ended reports whether the process has ended.
func (f *FS) Ended() bool {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.ended
}

// Handles returns the names of the files, directories and locks that are open.
func (f *FS) Handles() []string {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return slices.Sorted(maps.Values(f.handles))
}

// SetRoom says how many more blocks of 512 bytes the disk can take; a negative
// number means any. A name costs one.
func (f *FS) SetRoom(blocks int) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.room = blocks
}

// Kill ends the process and returns what the next one sees: everything that
// was written, flushed or not.
func (f *FS) Kill() *FS {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.ended = true
	f.disk.locks = make(map[*node]*locked)
	return mount(f.disk)
}

// Snapshot returns a file system in the state of this one, flushed and not, as a
// process that takes its place would find it. Both go on, each for itself: what
// a run leaves at each of its calls can be kept, without running it again.
func (f *FS) Snapshot() *FS {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return mount(f.disk.snapshot())
}

// Volatile reports whether there is anything that a power cut may lose: if not,
// all its outcomes are the same.
func (f *FS) Volatile() bool {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return len(f.disk.pending) > 0 || f.disk.root.volatile()
}

// Evict drops about half of what failed flushes have lost from what the process
// sees, too, as the kernel may at any time: clean pages are read again.
func (f *FS) Evict(seed uint64) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.evict(seed)
}

// Crash ends the process with a power cut and returns what the next one sees.
// It may be called again, with another seed, for another outcome of the same cut.
func (f *FS) Crash(seed uint64) *FS {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.ended = true
	return mount(f.disk.crash(seed))
}

// begin asks the hook and returns with disk.mu held unless it returns an error
// that no part of the call survives.
func (f *FS) begin(op Op, name string, size int) error {
	f.disk.mu.Lock()
	f.calls++
	if op.Mutates() {
		f.changes++
	}
	call, hook, ended := Call{N: f.calls, Op: op, Name: name, Size: size}, f.hook, f.ended
	f.disk.mu.Unlock()
	var err error
	if hook != nil && !ended {
		err = hook(call) // unlocked: a hook may wait for another call
	}
	f.disk.mu.Lock()
	if errors.Is(err, ErrCut) {
		f.ended = true
	}
	if f.ended {
		err = ErrCut
	}
	return err
}

// beginOn is begin for a call on a handle. On a closed one nothing reaches the
// file system: no hook is asked.
func (f *FS) beginOn(closed *bool, op Op, name string, size int) error {
	f.disk.mu.Lock()
	if *closed {
		return fs.ErrClosed
	}
	f.disk.mu.Unlock()
	err := f.begin(op, name, size)
	if err == nil && *closed {
		err = fs.ErrClosed
	}
	return err
}

// OpenDir implements [vfs.FS].
func (f *FS) OpenDir(string, bool) (vfs.Dir, error) {
	return (&dir{fs: f, node: f.disk.root}).OpenDir(".")
}

// dir is a [vfs.Dir].
type dir struct {
	fs     *FS
	node   *node
	name   string
	closed bool // guarded by disk.mu
}

// begin is FS.begin for a call on a name in the directory.
func (d *dir) begin(op Op, name string) error {
	err := d.fs.beginOn(&d.closed, op, path.Join(d.name, name), 0)
	if err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func (d *dir) unlock() { d.fs.disk.mu.Unlock() }

// OpenDir implements [vfs.Dir].
func (d *dir) OpenDir(name string) (vfs.Dir, error) {
	err := d.begin(OpOpenDir, name)
	defer d.unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.node.dirAt(name)
	if err != nil {
		return nil, &fs.PathError{Op: "opendir", Path: name, Err: err}
	}
	opened := &dir{fs: d.fs, node: n, name: path.Join(d.name, name)}
	d.fs.handles[opened] = opened.name
	return opened, nil
}

// Mkdir implements [vfs.Dir].
func (d *dir) Mkdir(name string) error {
	_, err := d.add(OpMkdir, name, newDir())
	return err
}

// Create implements [vfs.Dir].
func (d *dir) Create(name string) (vfs.File, error) {
	opened, err := d.add(OpCreate, name, &node{})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// add gives a new node the name and, if it is a file, opens it.
func (d *dir) add(op Op, name string, n *node) (*file, error) {
	err := d.begin(op, name)
	defer d.unlock()
	if err != nil {
		return nil, err
	}
	parent, err := d.node.dirAt(path.Dir(name))
	switch {
	case err != nil:
	case parent.names[path.Base(name)] != nil:
		err = fs.ErrExist
	case d.fs.disk.room == 0:
		err = syscall.ENOSPC
	}
	if err != nil {
		return nil, &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	d.fs.disk.take(1)
	d.fs.disk.change(edit{parent, path.Base(name), n})
	if n.names != nil {
		return nil, nil
	}
	return d.open(name, n, true), nil
}

func (d *dir) open(name string, n *node, write bool) *file {
	opened := &file{fs: d.fs, node: n, name: path.Join(d.name, name), write: write}
	d.fs.handles[opened] = opened.name
	return opened
}

// Open implements [vfs.Dir].
func (d *dir) Open(name string, write bool) (vfs.File, error) {
	err := d.begin(OpOpen, name)
	defer d.unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.node.at(name)
	if err == nil && n.names != nil {
		err = vfs.ErrUnsafe
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return d.open(name, n, write), nil
}

// ReadDir implements [vfs.Dir].
func (d *dir) ReadDir(name string) ([]fs.DirEntry, error) {
	err := d.begin(OpReadDir, name)
	defer d.unlock()
	if err != nil {
		return nil, err
	}
	n, err := d.node.dirAt(name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	var entries []fs.DirEntry
	for _, child := range slices.Sorted(maps.Keys(n.names)) {
		entries = append(entries, entry{child, n.names[child].names != nil})
	}
	return entries, nil
}

// Rename implements [vfs.Dir].
func (d *dir) Rename(oldname, newname string) error {
	err := d.begin(OpRename, oldname)
	defer d.unlock()
	if err != nil {
		return err
	}
	n, err := d.node.at(oldname)
	var from, to, target *node
	if err == nil {
		from, err = d.node.dirAt(path.Dir(oldname))
	}
	if err == nil {
		to, err = d.node.dirAt(path.Dir(newname))
	}
	if err == nil {
		target = to.names[path.Base(newname)]
		switch {
		case target == n:
			return nil
		case target != nil && (len(target.names) > 0 || (target.names == nil) != (n.names == nil)):
			err = fs.ErrExist
		}
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: oldname, Err: err}
	}
	if target != nil {
		d.fs.disk.take(-1 - target.blocks())
	}
	d.fs.disk.change(edit{from, path.Base(oldname), nil}, edit{to, path.Base(newname), n})
	return nil
}

// Remove implements [vfs.Dir].
func (d *dir) Remove(name string) error {
	err := d.begin(OpRemove, name)
	defer d.unlock()
	if err != nil {
		return err
	}
	n, err := d.node.at(name)
	if err == nil && len(n.names) > 0 {
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	parent, _ := d.node.dirAt(path.Dir(name)) // it holds n
	d.fs.disk.take(-1 - n.blocks())
	d.fs.disk.change(edit{parent, path.Base(name), nil})
	return nil
}

// Sync implements [vfs.Dir].
func (d *dir) Sync(name string) error {
	err := d.begin(OpSyncDir, name)
	defer d.unlock()
	if err != nil {
		return err
	}
	n, err := d.node.dirAt(name)
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	d.fs.disk.flushNames(n)
	return nil
}

// Close implements [vfs.Dir].
func (d *dir) Close() error {
	d.fs.disk.mu.Lock()
	defer d.unlock()
	d.closed = true
	delete(d.fs.handles, d)
	return nil
}

// entry is a [fs.DirEntry] that knows its type only.
type entry struct {
	name string
	dir  bool
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.dir }
func (e entry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

func (e entry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}

// at returns what has the name below the directory.
func (n *node) at(name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if n.names == nil {
			return nil, vfs.ErrUnsafe
		}
		if n = n.names[part]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

func (n *node) dirAt(name string) (*node, error) {
	found, err := n.at(name)
	if err == nil && found.names == nil {
		err = vfs.ErrUnsafe
	}
	return found, err
}
