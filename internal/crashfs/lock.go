package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/engramdb/engram/internal/vfs"
)

// Lock implements [vfs.Dir].
func (d *dir) Lock(name string, shared bool, note string) (io.Closer, string, error) {
	err := d.begin(OpLock, name)
	defer d.unlock()
	if err != nil {
		return nil, "", err
	}
	n, err := d.node.at(name)
	if errors.Is(err, fs.ErrNotExist) && !shared {
		n, err = &node{}, nil
		d.fs.disk.change(edit{d.node, name, n})
	}
	if err != nil {
		return nil, "", &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	held := d.fs.disk.locks[n]
	switch {
	case held == nil:
		held = &locked{shared: shared, note: note}
		d.fs.disk.locks[n] = held
	case !shared || !held.shared:
		return nil, held.note, vfs.ErrLocked
	}
	held.holders++
	l := &lock{d.fs, n, held}
	d.fs.handles[l] = path.Join(d.name, name)
	return l, "", nil
}

// locked is the state of a lock file.
type locked struct {
	shared  bool
	holders int
	note    string
}

type lock struct {
	fs   *FS
	node *node
	held *locked
}

func (l *lock) Close() error {
	l.fs.disk.mu.Lock()
	defer l.fs.disk.mu.Unlock()
	delete(l.fs.handles, l)
	l.held.holders--
	if l.held.holders == 0 && l.fs.disk.locks[l.node] == l.held {
		delete(l.fs.disk.locks, l.node)
	}
	return nil
}
