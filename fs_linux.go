package engram

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// syncFile flushes the file's bytes and length. Unlike fsync, fdatasync leaves
// out the times, which spares a file that does not grow a journal commit of the
// file system.
func syncFile(file *os.File) error {
	err := withDescriptor(file, func(fd uintptr) error {
		for {
			// Interrupted is not failed: only then may a flush be called again.
			err := syscall.Fdatasync(int(fd))
			if !errors.Is(err, syscall.EINTR) {
				return err
			}
		}
	})
	if err != nil {
		return &fs.PathError{Op: "sync", Path: file.Name(), Err: err}
	}
	return nil
}
