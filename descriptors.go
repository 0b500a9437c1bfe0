package engram

import (
	"errors"
	"io/fs"
	"path"
	"syscall"

	"github.com/engramdb/engram/internal/vfs"
)

const (
	// spareDescriptors are held back for what writes: the journal, and settling a
	// space, which opens its SPACE and maybe its log, work when all others are in
	// use. A read that finds none fails, and says nothing about what it would read;
	// a write that did would stop the space or the registry.
	spareDescriptors = 4
	// sleepAtOnce is how many idle spaces are put to sleep when descriptors run out.
	sleepAtOnce = 16
	// awakeDescriptors are those of a space that is awake, at least: its directory and
	// a segment.
	awakeDescriptors = 2
	// othersShare: a quarter of the process's descriptors is not for its spaces.
	othersShare = 4
)

// thriftyDir is a directory that survives a full descriptor table: idle spaces
// are put to sleep and the call is tried again, one that writes with the spares
// too. Each call that takes a name opens the directory of that name first, and does
// nothing where it cannot: a flush that was reached is never retried.
type thriftyDir struct {
	vfs.Dir
	registry *Registry
}

// OpenDir implements vfs.Dir.
func (d thriftyDir) OpenDir(name string) (vfs.Dir, error) {
	dir, err := retryOpen(d.registry, false, func() (vfs.Dir, error) { return d.Dir.OpenDir(name) })
	if err != nil {
		return nil, err
	}
	return thriftyDir{dir, d.registry}, nil
}

// Create implements vfs.Dir.
func (d thriftyDir) Create(name string) (vfs.File, error) {
	return retryOpen(d.registry, true, func() (vfs.File, error) { return d.Dir.Create(name) })
}

// Open implements vfs.Dir.
func (d thriftyDir) Open(name string, write bool) (vfs.File, error) {
	return retryOpen(d.registry, write, func() (vfs.File, error) { return d.Dir.Open(name, write) })
}

// ReadDir implements vfs.Dir.
func (d thriftyDir) ReadDir(name string) ([]fs.DirEntry, error) {
	return retryOpen(d.registry, false, func() ([]fs.DirEntry, error) { return d.Dir.ReadDir(name) })
}

// Mkdir implements vfs.Dir.
func (d thriftyDir) Mkdir(name string) error {
	return d.retry(func() error { return d.Dir.Mkdir(name) })
}

// Rename implements vfs.Dir.
func (d thriftyDir) Rename(oldname, newname string) error {
	return d.retry(func() error { return d.Dir.Rename(oldname, newname) })
}

// Remove implements vfs.Dir.
func (d thriftyDir) Remove(name string) error {
	return d.retry(func() error { return d.Dir.Remove(name) })
}

// Sync implements vfs.Dir.
func (d thriftyDir) Sync(name string) error {
	return d.retry(func() error { return d.Dir.Sync(name) })
}

func (d thriftyDir) retry(call func() error) error {
	_, err := retryOpen(d.registry, true, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func retryOpen[T any](r *Registry, writes bool, open func() (T, error)) (T, error) {
	opened, err := open()
	if !outOfDescriptors(err) {
		return opened, err
	}
	r.releaseSpares()
	defer r.holdSpares()
	if r.freeDescriptors() || writes {
		return open()
	}
	return opened, err
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// noRoom reports whether a write failed for want of room on the disk, or of a
// descriptor: nothing happened, and it can be tried again later.
func noRoom(err error) bool { return errors.Is(err, ErrDiskFull) || outOfDescriptors(err) }

// freeDescriptors puts idle spaces to sleep, with the spares, which were released,
// to do it with, and reports whether there was one.
func (r *Registry) freeDescriptors() bool {
	freed := 0
	for freed < sleepAtOnce && r.sleepLongestIdle(func(*awake) error { return nil }) {
		freed++
	}
	return freed > 0
}

// leaveDescriptors puts idle spaces to sleep, before another is awake, where all of them
// have more than the others' share of the descriptors and less than that is left. Who
// finds none when it accepts a connection, say, cannot ask them for one.
func (r *Registry) leaveDescriptors() {
	r.mu.Lock()
	spaces := awakeDescriptors * len(r.awake)
	r.mu.Unlock()
	limit := descriptorLimit()
	if share := limit / othersShare; spaces > share && descriptorsInUse() > limit-share {
		r.freeDescriptors()
	}
}

// holdSpares opens the spares that are missing, as far as it can.
func (r *Registry) holdSpares() {
	root := r.root
	if d, ok := root.(thriftyDir); ok {
		root = d.Dir // a spare must not put anybody to sleep
	}
	for r.lacksSpare() {
		file, err := root.Open(path.Join(journalDir, headName), false)
		if err != nil {
			return
		}
		r.mu.Lock()
		lacking := r.lacksSpareLocked()
		if lacking {
			r.spares = append(r.spares, file)
		}
		r.mu.Unlock()
		if !lacking { // others were faster
			_ = file.Close() // as in releaseSpares
		}
	}
}

func (r *Registry) lacksSpare() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lacksSpareLocked()
}

func (r *Registry) lacksSpareLocked() bool {
	return len(r.spares) < spareDescriptors && !r.closed.Load()
}

func (r *Registry) releaseSpares() {
	r.mu.Lock()
	spares := r.spares
	r.spares = nil
	r.mu.Unlock()
	for _, f := range spares {
		// Nothing was written through it: closing loses nothing.
		_ = f.Close()
	}
}
