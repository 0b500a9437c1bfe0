package engram

import (
	"errors"
	"fmt"
)

// Sentinels for [errors.Is]. Where a caller can use coordinates, a typed error
// below carries them and matches its sentinel.
var (
	// ErrLocked: another process or Registry holds the data directory.
	ErrLocked = errors.New("data directory is locked")
	// ErrClosed: the registry has been closed.
	ErrClosed = errors.New("registry is closed")
	// ErrReadOnly: the registry was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("registry is read-only")
	// ErrStopped: writes have stopped, because the device failed under the
	// registry's journal or under the space's files, or because a read found the
	// space damaged, which the error then says, too. Reads go on; reopen the
	// registry to recover.
	ErrStopped = errors.New("writes are stopped until the registry is reopened")
	// ErrUnknownOutcome: the write was handed to the device, which failed. It
	// may or may not be found after the registry is reopened.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrDiskFull: there is no room for the write. Nothing changed; forgetting
	// and deleting still work.
	ErrDiskFull = errors.New("disk is full")
	// ErrBusy: the space's queue is full and the write asked to FailFast.
	ErrBusy = errors.New("write queue is full")

	// ErrInvalidSpaceID: see [SpaceID] for what an id may be.
	ErrInvalidSpaceID = errors.New("invalid space id")
	// ErrSpaceExists: a space of that id exists.
	ErrSpaceExists = errors.New("space exists")
	// ErrSpaceNotFound: no space of that id exists. See [SpaceNotFoundError].
	ErrSpaceNotFound = errors.New("space not found")
	// ErrSpaceDeleted: the handle's space was deleted. A space created since
	// under the same id is another space; Get it.
	ErrSpaceDeleted = errors.New("space was deleted")
	// ErrWrongSpace: the memory carries the id of another space.
	ErrWrongSpace = errors.New("memory belongs to another space")

	// ErrMemoryNotFound: the space has no memory of that id.
	ErrMemoryNotFound = errors.New("memory not found")
	// ErrEmbedderMismatch: the space's vectors are another embedder's. See [EmbedderError].
	ErrEmbedderMismatch = errors.New("vectors are of another embedder")
	// ErrInvalid: an argument is malformed. See [InvalidError].
	ErrInvalid = errors.New("invalid argument")
	// ErrLimit: an argument exceeds a fixed limit. See [LimitError].
	ErrLimit = errors.New("limit exceeded")
	// ErrQuota: the write would exceed a quota of the space. See [QuotaError].
	ErrQuota = errors.New("quota exceeded")
	// ErrConflict: ExpectSeq named another seq. See [ConflictError].
	ErrConflict = errors.New("space has changed")
	// ErrLagged: events of the registry were missed, because their reader was too slow.
	ErrLagged = errors.New("events of the registry were missed")
	// ErrTrimmed: the operations behind a position are no longer kept. See [TrimmedError].
	ErrTrimmed = errors.New("history is trimmed")
	// ErrRequestReused: the request id was used before with another payload.
	ErrRequestReused = errors.New("request id reused with another payload")

	// ErrCorrupt: stored bytes are damaged, moved or missing. See [CorruptionError].
	ErrCorrupt = errors.New("stored data is damaged")
	// ErrForeign: a file or directory belongs to another space. It always comes
	// as a [CorruptionError], which matches both.
	ErrForeign = errors.New("file belongs to another space")
	// ErrVersion: the data was written by a format this version does not know.
	ErrVersion = errors.New("unknown format version")
)

// LockedError names the holder of the data directory. It matches [ErrLocked].
type LockedError struct {
	Dir string
	PID int // of the holder; 0 if it could not be read
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// SpaceNotFoundError says which space was not found. It matches [ErrSpaceNotFound].
type SpaceNotFoundError struct {
	Space SpaceID
	// Near are up to three existing ids that resemble Space. They are for the
	// operator of the registry: show a tenant only those it may see. The error's
	// text never contains them.
	Near []SpaceID
}

func (e *SpaceNotFoundError) Error() string {
	return fmt.Sprintf("space %q not found, create it first", string(e.Space))
}

// Is reports whether target is ErrSpaceNotFound.
func (e *SpaceNotFoundError) Is(target error) bool { return target == ErrSpaceNotFound }

// InvalidError says which argument is malformed and why. It matches [ErrInvalid].
type InvalidError struct {
	Field  string // in snake case, as in JSON: "embedding", "filter.after"
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Reason) }

// Is reports whether target is ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// LimitError says which fixed limit was exceeded. It matches [ErrLimit].
type LimitError struct {
	What string // what is limited, with its unit: "content bytes"
	Got  int64
	Max  int64
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s: %d, at most %d", e.What, e.Got, e.Max) }

// Is reports whether target is ErrLimit.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

// EmbedderError says whose vectors the space has, and whose the registry's
// embedder makes. Writes go on, without vectors; recall by text or embedding is
// refused rather than answered from vectors that cannot be compared.
// [Space.Reembed] changes whose they are. It matches [ErrEmbedderMismatch].
type EmbedderError struct {
	Space           SpaceID
	Stored          string // id of the embedder that made the space's vectors
	StoredDimension int
	Given           string // id of the registry's embedder
	GivenDimension  int
}

func (e *EmbedderError) Error() string {
	return fmt.Sprintf("space %q has vectors of embedder %q (dimension %d), the registry has embedder %q (dimension %d)",
		string(e.Space), e.Stored, e.StoredDimension, e.Given, e.GivenDimension)
}

// Is reports whether target is ErrEmbedderMismatch.
func (e *EmbedderError) Is(target error) bool { return target == ErrEmbedderMismatch }

// ForeignVectorsError says that a space cannot be re-embedded, because memories
// have an embedding that their caller gave: what an embedder makes of their
// content would stand beside it, and be compared in its place. Forget them, or
// remember them without an embedding. It matches [ErrEmbedderMismatch].
type ForeignVectorsError struct {
	Space    SpaceID
	Memories int64 // that have one
}

func (e *ForeignVectorsError) Error() string {
	return fmt.Sprintf("space %q: %d memories have embeddings that their callers gave, which no embedder can make anew",
		string(e.Space), e.Memories)
}

// Is reports whether target is ErrEmbedderMismatch.
func (e *ForeignVectorsError) Is(target error) bool { return target == ErrEmbedderMismatch }

// QuotaError says which quota of the space the write would exceed. It matches [ErrQuota].
type QuotaError struct {
	Space SpaceID
	Quota string // "memories" or "bytes", those of their records
	Used  int64  // before the write; more than Max where the quota was lowered
	Max   int64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("space %q: the write would exceed the quota of %d %s, of which %d are used: forget something or raise it",
		string(e.Space), e.Max, e.Quota, e.Used)
}

// Is reports whether target is ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// ConflictError says what ExpectSeq expected and found. It matches [ErrConflict].
type ConflictError struct {
	Expected uint64
	Actual   uint64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("space is at seq %d, not %d: read it again and retry", e.Actual, e.Expected)
}

// Is reports whether target is ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// TrimmedError says that the operations behind a position of a space are no
// longer kept, because a checkpoint has rewritten the segment that held them.
// It matches [ErrTrimmed].
type TrimmedError struct {
	Space SpaceID
	After uint64 // the position
	Floor uint64 // the least position from which all operations are kept
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("space %q: operations up to seq %d are no longer kept, export it and go on from there", string(e.Space), e.Floor)
}

// Is reports whether target is ErrTrimmed.
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// ImportError says which line of an export was refused. It matches what the
// reason matches: [ErrInvalid], [ErrLimit], [ErrVersion], or what the reader says.
type ImportError struct {
	Line int // from 1 on
	Err  error
}

func (e *ImportError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the reason.
func (e *ImportError) Unwrap() error { return e.Err }

// CorruptionError says what is damaged and where. It matches [ErrCorrupt], and
// [ErrForeign] where the file belongs to another space. The space (or, where
// Space is empty, the registry) refuses writes; the other spaces are not affected.
type CorruptionError struct {
	Space   SpaceID // empty: the registry's own files
	File    string  // relative to the space's directory, or to the registry's
	Offset  int64   // where in File; -1 where there is no place to name
	Reason  string
	Foreign bool // File belongs to another space
}

func (e *CorruptionError) Error() string {
	where := e.File
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s at byte %d", e.File, e.Offset)
	}
	if e.Space == "" {
		return fmt.Sprintf("registry: %s: %s", where, e.Reason)
	}
	return fmt.Sprintf("space %q: %s: %s", string(e.Space), where, e.Reason)
}

// Is reports whether target is ErrCorrupt or, for a foreign file, ErrForeign.
func (e *CorruptionError) Is(target error) bool {
	return target == ErrCorrupt || e.Foreign && target == ErrForeign
}

// VersionError names the file whose format is unknown. It matches [ErrVersion].
type VersionError struct {
	Space   SpaceID // empty: the registry's own files
	File    string
	Version uint32 // of the file; the present one where only something in it is unknown
}

func (e *VersionError) Error() string {
	if e.Version == formatVersion {
		return fmt.Sprintf("%s holds something that only a later version of engram knows", e.File)
	}
	return fmt.Sprintf("%s has format version %d, which this version of engram does not know", e.File, e.Version)
}

// Is reports whether target is ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }
