// Package vfs is the seam between engram and the file system: the few calls
// it makes, as interfaces, so that tests can see, count, fail and forget each.
//
// Names are slash-separated and relative to the Dir they are given to. Nothing
// is durable before the Sync that covers it: File.Sync for a file's bytes and
// length, Dir.Sync for the names in a directory (created, renamed, removed).
// A missing name is an error that matches fs.ErrNotExist, a name that is taken
// one that matches fs.ErrExist, a full device or quota one that matches
// syscall.ENOSPC or syscall.EDQUOT.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrUnsafe is returned for what is not what its name says: a symbolic link, a
// special file, a file with a second name.
var ErrUnsafe = errors.New("not a regular file or directory of its own")

// ErrLocked is returned by Dir.Lock when another holder has the lock.
var ErrLocked = errors.New("locked")

// FS opens the directory that everything else lives in.
type FS interface {
	// OpenDir opens the directory at path, and with create makes it and its
	// parents where they are missing.
	OpenDir(path string, create bool) (Dir, error)
}

// Dir is an open directory. Its methods may be called concurrently. It goes on
// to mean the same directory when that is renamed.
type Dir interface {
	// OpenDir opens a directory below this one; ErrUnsafe if it is a link.
	OpenDir(name string) (Dir, error)
	// Mkdir makes a directory, mode 0700.
	Mkdir(name string) error
	// Create makes a file that did not exist, mode 0600, for reading and writing.
	Create(name string) (File, error)
	// Open opens a file, for reading or also for writing; ErrUnsafe if it is not
	// a regular file with one name.
	Open(name string, write bool) (File, error)
	// ReadDir lists a directory in name order; "." is this one.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Rename moves a file or directory, replacing a file of the new name.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Sync makes the names in a directory durable; "." is this one.
	Sync(name string) error
	// Lock takes the lock file of that name, shared or exclusive, without
	// waiting, and as the exclusive holder writes note into it; ErrLocked, with
	// the holder's note, if another holder is in the way. The lock goes when
	// the Closer is closed or the process ends.
	Lock(name string, shared bool, note string) (io.Closer, string, error)
	// Close releases the descriptor.
	Close() error
}

// File is an open file. Its methods may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is the file's length in bytes.
	Size() (int64, error)
	// Truncate sets the file's length.
	Truncate(size int64) error
	// Sync returns when the file's bytes and length are on stable storage. After
	// it has failed once nothing is known of the bytes written since the last
	// one that did not; it is never retried.
	Sync() error
}
