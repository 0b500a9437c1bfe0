//go:build unix

package engram

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock on file without waiting, or says that another holder
// is in the way. It is flock, not fcntl: a lock of the latter is lost when any
// descriptor of the file is closed.
func tryLock(file *os.File, shared bool) (bool, error) {
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	err := flock(file, how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func unlock(file *os.File) error { return flock(file, syscall.LOCK_UN) }

func flock(file *os.File, how int) error {
	return withDescriptor(file, func(fd uintptr) error {
		for {
			err := syscall.Flock(int(fd), how)
			if !errors.Is(err, syscall.EINTR) {
				return err
			}
		}
	})
}
