package engram

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/engramdb/engram/internal/vfs"
)

// errLength says that a file is longer than its format allows.
var errLength = errors.New("file is too long")

// zeros are what is written where there must be some. Nothing writes to them, so they
// take no memory but of the address space.
var zeros [1 << 20]byte

// readFile returns the file's content, which must not exceed limit bytes.
func readFile(dir vfs.Dir, name string, limit int64) (_ []byte, err error) {
	file, err := dir.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, errLength
	}
	return readRange(file, 0, size)
}

// readRange reads exactly the bytes from..to.
func readRange(file vfs.File, from, to int64) ([]byte, error) {
	b := make([]byte, max(to-from, 0))
	if err := readFull(file, b, from); err != nil {
		return nil, err
	}
	return b, nil
}

// readFull fills b with the file's bytes from there on.
func readFull(file vfs.File, b []byte, from int64) error {
	n, err := file.ReadAt(b, from)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// writeNewFile makes a file with that content and flushes it, not its name.
func writeNewFile(dir vfs.Dir, name string, content []byte) error {
	file, err := dir.Create(name)
	if err != nil {
		return diskFull(fmt.Errorf("create %s: %w", name, err))
	}
	_, err = file.WriteAt(content, 0)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return diskFull(fmt.Errorf("write %s: %w", name, err))
	}
	return nil
}

// removeIfExists removes a file that may be missing.
func removeIfExists(dir vfs.Dir, name string) error {
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskFull(fmt.Errorf("remove %s: %w", name, err))
	}
	return nil
}

// removeTree removes a file or directory with all it holds. What is missing is
// removed.
func removeTree(dir vfs.Dir, name string) error {
	if err := removeChildren(dir, name, false); err != nil {
		return err
	}
	return removeIfExists(dir, name)
}

// removeChildren empties a directory; with keep the directories in it stay, empty.
func removeChildren(dir vfs.Dir, name string, keep bool) error {
	entries, err := dir.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		switch {
		case keep && e.IsDir():
			err = removeChildren(dir, child, false)
		case e.IsDir():
			err = removeTree(dir, child)
		default:
			err = removeIfExists(dir, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// diskFull makes an error that says the device or a quota is full match ErrDiskFull.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// damageOrError turns errors that are a verdict on the file (it is missing, it
// is a link, it is too long) into damage. Others (it could not be read) say
// nothing about it.
func damageOrError(err error, file string) error {
	reason := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "is missing"
	case errors.Is(err, vfs.ErrUnsafe):
		reason = "is not a regular file or directory of its own"
	case errors.Is(err, errLength):
		reason = "is too long"
	default:
		return fmt.Errorf("read %s: %w", file, err)
	}
	return &CorruptionError{File: file, Offset: -1, Reason: reason}
}

// notVerdict returns an error of reading the file that says nothing about it.
func notVerdict(err error, file string) error {
	if err == nil {
		return nil
	}
	if err = damageOrError(err, file); errors.Is(err, ErrCorrupt) {
		return nil
	}
	return err
}

// in returns the damage with its space filled in.
func (e *CorruptionError) in(id SpaceID) *CorruptionError {
	named := *e
	if named.Space == "" {
		named.Space = id
	}
	return &named
}

// inSpace fills in which space an error about damage or version concerns.
func inSpace(id SpaceID, err error) error {
	var damage *CorruptionError
	if errors.As(err, &damage) {
		return damage.in(id)
	}
	var version *VersionError
	if errors.As(err, &version) && version.Space == "" {
		named := *version
		named.Space = id
		return &named
	}
	return err
}
