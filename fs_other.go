//go:build !linux

package engram

import "os"

// syncFile flushes the file's bytes and length: F_FULLFSYNC on macOS, where
// fsync stops at the device's cache, FlushFileBuffers on Windows.
func syncFile(file *os.File) error { return file.Sync() }
