//go:build unix

package engram

import (
	"errors"
	"io/fs"
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
