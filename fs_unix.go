//go:build unix

package engram

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"
)

// syncDir flushes the names in a directory.
func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// descriptorLimit returns how many descriptors the process may have.
func descriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt
	}
	return int(min(uint64(limit.Cur), math.MaxInt))
}

// descriptorsInUse returns how many the process has at least: the system gives out the
// lowest that is free, so those below it are in use.
func descriptorsInUse() int {
	file, err := os.Open(os.DevNull)
	if outOfDescriptors(err) {
		return math.MaxInt
	}
	if err != nil {
		return 0
	}
	used := int(file.Fd())
	// Nothing was written through it: closing loses nothing.
	_ = file.Close()
	return used
}

// linkCount returns how many names a file has. Its info is of the open file.
func linkCount(file *os.File, info fs.FileInfo) (uint64, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, &fs.PathError{Op: "stat", Path: file.Name(), Err: errors.ErrUnsupported}
	}
	return uint64(stat.Nlink), nil
}

// portableError makes a full device or quota recognisable. Here it is already.
func portableError(err error) error { return err }
