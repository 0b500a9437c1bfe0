package crashfs

import (
	"io"
	"io/fs"
	"syscall"
)

// file is a [vfs.File].
type file struct {
	fs     *FS
	node   *node
	name   string
	write  bool
	closed bool // guarded by disk.mu
}

// begin is FS.begin for a call on the file.
func (f *file) begin(op Op, size int) error {
	err := f.fs.beginOn(&f.closed, op, f.name, size)
	if err == nil && op.Mutates() && !f.write && op != OpSync {
		err = fs.ErrPermission
	}
	return f.wrap(op, err)
}

func (f *file) wrap(op Op, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: string(op), Path: f.name, Err: err}
}

func (f *file) unlock() { f.fs.disk.mu.Unlock() }

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	err := f.begin(OpRead, len(p))
	defer f.unlock()
	if err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, f.wrap(OpRead, fs.ErrInvalid)
	}
	n := int(min(int64(len(p)), max(f.node.size-offset, 0)))
	f.node.read(p[:n], offset)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	err := f.begin(OpWrite, len(p))
	defer f.unlock()
	if f.fs.ended || f.closed || !f.write {
		return 0, err
	}
	if offset < 0 {
		return 0, f.wrap(OpWrite, fs.ErrInvalid)
	}
	n := len(p)
	if err != nil {
		n = written(err, n)
	}
	if grow := blocksOf(offset+int64(n)) - f.node.blocks(); grow > 0 {
		if room := f.fs.disk.room; room >= 0 && grow > room {
			end := int64(f.node.blocks()+room) * blockBytes
			n, err = int(max(end-offset, 0)), f.wrap(OpWrite, syscall.ENOSPC)
			grow = room
		}
		f.fs.disk.take(grow)
	}
	f.node.write(p[:n], offset)
	return n, err
}

// Size implements [vfs.File].
func (f *file) Size() (int64, error) {
	err := f.begin(OpSize, 0)
	defer f.unlock()
	if err != nil {
		return 0, err
	}
	return f.node.size, nil
}

// Truncate implements [vfs.File].
func (f *file) Truncate(size int64) error {
	err := f.begin(OpTruncate, 0)
	defer f.unlock()
	if err != nil {
		return err
	}
	grow := blocksOf(size) - f.node.blocks()
	if room := f.fs.disk.room; room >= 0 && grow > room {
		return f.wrap(OpTruncate, syscall.ENOSPC)
	}
	f.fs.disk.take(grow)
	f.node.truncate(size)
	return nil
}

// Sync implements [vfs.File].
func (f *file) Sync() error {
	err := f.begin(OpSync, 0)
	defer f.unlock()
	switch {
	case f.fs.ended || f.closed:
	case err != nil:
		f.node.loseDirty()
	default:
		f.node.flush()
	}
	return err
}

// Close implements [io.Closer]. It works after the process has ended, too, so
// that whoever cleans up finds nothing to report.
func (f *file) Close() error {
	err := f.fs.beginOn(&f.closed, OpClose, f.name, 0)
	defer f.unlock()
	if f.closed {
		return f.wrap(OpClose, fs.ErrClosed)
	}
	f.closed = true
	delete(f.fs.handles, f)
	if f.fs.ended {
		return nil
	}
	return f.wrap(OpClose, err)
}
