//go:build unix

package auth

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner and group of the one that it replaces.
func keepOwner(former fs.FileInfo, replacement *os.File) error {
	made, err := replacement.Stat()
	if err != nil {
		return err
	}
	before, known := former.Sys().(*syscall.Stat_t)
	now, also := made.Sys().(*syscall.Stat_t)
	if !known || !also || before.Uid == now.Uid && before.Gid == now.Gid {
		return nil
	}
	if err := replacement.Chown(int(before.Uid), int(before.Gid)); err != nil {
		return fmt.Errorf("keep the owner of the file, who has to read the new one too: %w", err)
	}
	return nil
}
