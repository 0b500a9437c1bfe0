package engram

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// syncDir is where a directory's names would be flushed. Windows has no such
// call: FlushFileBuffers refuses a directory, and NTFS logs the change of a name
// before the calls that follow it. What can be told is that it is there.
func syncDir(root *os.Root) error {
	_, err := root.Stat(".")
	return err
}

// descriptorLimit returns how many handles the process may have: Windows has no limit
// that a process would reach.
func descriptorLimit() int { return math.MaxInt }

// descriptorsInUse is asked only near the limit.
func descriptorsInUse() int { return 0 }

// linkCount returns how many names a file has.
func linkCount(file *os.File, _ fs.FileInfo) (uint64, error) {
	var info windows.ByHandleFileInformation
	err := withDescriptor(file, func(handle uintptr) error {
		return windows.GetFileInformationByHandle(windows.Handle(handle), &info)
	})
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: file.Name(), Err: err}
	}
	return uint64(info.NumberOfLinks), nil
}

// portableError makes a full device or quota recognisable: the system's own
// numbers for them are others than the ones that package vfs promises.
func portableError(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_DISK_FULL), errors.Is(err, windows.ERROR_HANDLE_DISK_FULL):
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	case errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED):
		return fmt.Errorf("%w: %w", syscall.EDQUOT, err)
	}
	return err
}
