package engram

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// A lock on Windows is on a range of bytes, and keeps others from reading it.
// So it lies where the note will never reach.
const (
	lockOffsetHigh = 1 << 30 // times 4 GiB
	lockBytes      = 1
)

// tryLock takes the lock on file without waiting, or says that another holder
// is in the way.
func tryLock(file *os.File, shared bool) (bool, error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := withDescriptor(file, func(handle uintptr) error {
		at := windows.Overlapped{OffsetHigh: lockOffsetHigh}
		return windows.LockFileEx(windows.Handle(handle), flags, 0, lockBytes, 0, &at)
	})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

func unlock(file *os.File) error {
	return withDescriptor(file, func(handle uintptr) error {
		at := windows.Overlapped{OffsetHigh: lockOffsetHigh}
		return windows.UnlockFileEx(windows.Handle(handle), 0, lockBytes, 0, &at)
	})
}
