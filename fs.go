package engram

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/engramdb/engram/internal/vfs"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600

	// maxLockNoteBytes is how much of a lock file is read as its holder's note.
	maxLockNoteBytes = 256
)

// osFS is the operating system's file system.
//
// Everything below the opened directory goes through an [os.Root], which no
// name, link or renamed parent leads out of. That alone would still follow a
// link to another place inside the root and open a file that has a second name
// elsewhere, so each directory and file is looked at first, opened, and refused
// if what was opened is not what was looked at.
type osFS struct{}

// OpenDir implements [vfs.FS]. The path itself may lead through links: where
// the data directory lies is the caller's choice.
func (osFS) OpenDir(path string, create bool) (vfs.Dir, error) {
	if create {
		if err := makeDurableDir(path); err != nil {
			return nil, portableError(err)
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return osDir{root}, nil
}

// makeDurableDir makes the directory and its missing parents, and flushes the
// name of each into its parent before anything is made in it. A directory that
// exists and is empty may come from a call that was cut short between the two,
// so its name is flushed too; in one that is not empty somebody got further.
func makeDurableDir(name string) error {
	parent := filepath.Dir(filepath.Clean(name))
	err := os.Mkdir(name, dirMode)
	if errors.Is(err, fs.ErrNotExist) && parent != name {
		if err := makeDurableDir(parent); err != nil {
			return err
		}
		err = os.Mkdir(name, dirMode)
	}
	existed := errors.Is(err, fs.ErrExist)
	if existed {
		empty, err := isEmptyDir(name)
		if err != nil || !empty {
			return err
		}
	} else if err != nil {
		return err
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		if existed && errors.Is(err, fs.ErrPermission) {
			// Handed to this process by someone who keeps the parent to himself
			// (a service manager's state directory): the name is his to flush.
			return nil
		}
		return err
	}
	return errors.Join(syncDir(root), root.Close())
}

func isEmptyDir(name string) (bool, error) {
	dir, err := os.Open(name)
	if err != nil {
		return false, err
	}
	_, err = dir.ReadDir(1)
	empty := errors.Is(err, io.EOF)
	if empty {
		err = nil
	}
	return empty, errors.Join(err, dir.Close())
}

// osDir is a [vfs.Dir] on an os.Root.
type osDir struct{ root *os.Root }

// OpenDir implements [vfs.Dir].
func (d osDir) OpenDir(name string) (vfs.Dir, error) {
	root, err := openDirIn(d.root, name)
	if err != nil {
		return nil, err
	}
	return osDir{root}, nil
}

// openDirIn opens a directory below root, each component of the name in turn.
func openDirIn(root *os.Root, name string) (*os.Root, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	first, rest, more := strings.Cut(name, "/")
	info, err := root.Lstat(first)
	if err != nil {
		return nil, err
	}
	dir, err := openDirAs(root, first, info)
	if err != nil || !more {
		return dir, err
	}
	below, err := openDirIn(dir, rest)
	return below, errors.Join(err, dir.Close())
}

// openDirAs opens a directory, which must be the one that Lstat returned info for.
func openDirAs(root *os.Root, name string, info fs.FileInfo) (*os.Root, error) {
	if !info.IsDir() {
		return nil, unsafeError(name)
	}
	// "name/." can only be opened through a directory: a pipe put in its place
	// is an error, where opening plain name would wait for a writer.
	dir, err := root.OpenRoot(name + "/.")
	if err != nil {
		return nil, err
	}
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = unsafeError(name)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// inParent calls f with the directory that holds name, and name's last component.
func (d osDir) inParent(name string, f func(parent *os.Root, base string) error) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	dir, base := path.Split(name)
	if dir == "" {
		return f(d.root, base)
	}
	parent, err := openDirIn(d.root, strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	return errors.Join(f(parent, base), parent.Close())
}

// Mkdir implements [vfs.Dir].
func (d osDir) Mkdir(name string) error {
	return portableError(d.inParent(name, func(parent *os.Root, base string) error {
		return parent.Mkdir(base, dirMode)
	}))
}

// Create implements [vfs.Dir].
func (d osDir) Create(name string) (vfs.File, error) {
	file, err := d.create(name)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (d osDir) create(name string) (file *os.File, err error) {
	err = d.inParent(name, func(parent *os.Root, base string) error {
		// O_EXCL makes the file new, so there is nothing to look at first.
		file, err = parent.OpenFile(base, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		return err
	})
	return file, portableError(err)
}

// Open implements [vfs.Dir].
func (d osDir) Open(name string, write bool) (vfs.File, error) {
	file, err := d.open(name, write)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (d osDir) open(name string, write bool) (file *os.File, err error) {
	err = d.inParent(name, func(parent *os.Root, base string) error {
		info, err := parent.Lstat(base)
		if err != nil {
			return err
		}
		file, err = openFileAs(parent, base, write, info)
		return err
	})
	return file, err
}

// openFileAs opens a file, which must be the one that Lstat returned info for.
func openFileAs(root *os.Root, name string, write bool, info fs.FileInfo) (*os.File, error) {
	if !info.Mode().IsRegular() {
		return nil, unsafeError(name)
	}
	// O_NONBLOCK means nothing to a regular file; opening a pipe put in its
	// place would wait for the other end without it.
	flag := os.O_RDONLY | syscall.O_NONBLOCK
	if write {
		flag = os.O_RDWR | syscall.O_NONBLOCK
	}
	file, err := root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	opened, err := file.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = unsafeError(name)
	}
	if err == nil {
		var links uint64
		links, err = linkCount(file, opened)
		if err == nil && links != 1 {
			err = unsafeError(name)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ReadDir implements [vfs.Dir].
func (d osDir) ReadDir(name string) ([]fs.DirEntry, error) {
	root, err := openDirIn(d.root, name)
	if err != nil {
		return nil, err
	}
	entries, err := readDir(root)
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func readDir(root *os.Root) ([]fs.DirEntry, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	entries, err := dir.ReadDir(-1)
	return entries, errors.Join(err, dir.Close())
}

// Rename implements [vfs.Dir].
func (d osDir) Rename(oldname, newname string) error {
	// Both parents are opened only to refuse links on the way. One put there
	// afterwards can redirect the rename, but not out of this directory.
	return portableError(d.inParent(oldname, func(*os.Root, string) error {
		return d.inParent(newname, func(*os.Root, string) error {
			return d.root.Rename(oldname, newname)
		})
	}))
}

// Remove implements [vfs.Dir].
func (d osDir) Remove(name string) error {
	return d.inParent(name, func(parent *os.Root, base string) error {
		return parent.Remove(base)
	})
}

// Sync implements [vfs.Dir].
func (d osDir) Sync(name string) error {
	root, err := openDirIn(d.root, name)
	if err != nil {
		return err
	}
	return errors.Join(portableError(syncDir(root)), root.Close())
}

// Lock implements [vfs.Dir]. The exclusive lock makes the file where it is
// missing; the shared one makes and writes nothing, so that a read-only
// directory can be locked too.
//
// The lock belongs to the open file, not to the process: it conflicts with
// another one taken by the same process just the same.
func (d osDir) Lock(name string, shared bool, note string) (io.Closer, string, error) {
	file, err := d.openLockFile(name, shared)
	if err != nil {
		return nil, "", err
	}
	lock := osLock{file}
	locked, err := tryLock(file, shared)
	if err != nil {
		err = &fs.PathError{Op: "lock", Path: name, Err: err}
		return nil, "", errors.Join(err, file.Close())
	}
	if !locked {
		holder, err := readHolder(file, shared)
		err = errors.Join(fmt.Errorf("%s: %w", name, vfs.ErrLocked), err)
		// Closing lets go of what reading the holder may have taken.
		return nil, holder, errors.Join(err, file.Close())
	}
	if !shared {
		if err := writeNote(file, note); err != nil {
			return nil, "", errors.Join(portableError(err), lock.Close())
		}
	}
	return lock, "", nil
}

func (d osDir) openLockFile(name string, shared bool) (*os.File, error) {
	file, err := d.open(name, !shared)
	if shared || !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	file, err = d.create(name)
	if errors.Is(err, fs.ErrExist) {
		// Another taker has made it meanwhile. Nobody removes it.
		return d.open(name, true)
	}
	return file, err
}

// readHolder returns the note of the holder that is in the way. If those are
// sharers it is empty: they write none, and what the file says is of an earlier,
// exclusive holder.
func readHolder(file *os.File, shared bool) (string, error) {
	if !shared {
		switch sharers, err := tryLock(file, true); {
		case err != nil:
			return "", err
		case sharers:
			return "", unlock(file)
		}
	}
	buffer := make([]byte, maxLockNoteBytes)
	n, err := file.ReadAt(buffer, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(string(buffer[:n])), nil
}

func writeNote(file *os.File, note string) error {
	// Emptied first: until the note is there, none is better than a former one.
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(note), 0)
	return err
}

// Close implements [vfs.Dir].
func (d osDir) Close() error { return d.root.Close() }

// osLock is a held lock.
type osLock struct{ file *os.File }

// Close releases the lock. It unlocks before it closes: a child process that
// is just being started holds copies of all descriptors until it runs, and with
// them the lock.
func (l osLock) Close() error {
	return errors.Join(unlock(l.file), l.file.Close())
}

// osFile is a [vfs.File] on an os.File.
type osFile struct{ file *os.File }

// ReadAt implements [io.ReaderAt].
func (f osFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.file.ReadAt(p, offset)
	return n, withoutDir(err)
}

// WriteAt implements [io.WriterAt].
func (f osFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.file.WriteAt(p, offset)
	return n, portableError(withoutDir(err))
}

// Size implements [vfs.File].
func (f osFile) Size() (int64, error) {
	info, err := f.file.Stat()
	if err != nil {
		return 0, withoutDir(err)
	}
	return info.Size(), nil
}

// Truncate implements [vfs.File].
func (f osFile) Truncate(size int64) error { return portableError(withoutDir(f.file.Truncate(size))) }

// Sync implements [vfs.File].
func (f osFile) Sync() error { return portableError(withoutDir(syncFile(f.file))) }

// Close implements [io.Closer].
func (f osFile) Close() error { return f.file.Close() }

// withoutDir leaves of a name in err the last part: the directory in front is the one
// in which the file was opened, and may have been renamed since.
func withoutDir(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return &fs.PathError{Op: at.Op, Path: filepath.Base(at.Path), Err: at.Err}
	}
	return err
}

// withDescriptor calls f with file's descriptor, which stays open and, unlike
// with [os.File.Fd], in its mode meanwhile.
func withDescriptor(file *os.File, f func(fd uintptr) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var errCalled error
	if err := conn.Control(func(fd uintptr) { errCalled = f(fd) }); err != nil {
		// Control fails only on a closed file, with an error of its own.
		return fs.ErrClosed
	}
	return errCalled
}

func unsafeError(name string) error {
	return &fs.PathError{Op: "open", Path: name, Err: vfs.ErrUnsafe}
}

// processID is what the lock file says of its holder.
func processID() string { return strconv.Itoa(os.Getpid()) }
