package wire

import (
	"context"
	"errors"
	"strings"

	"github.com/engramdb/engram"
)

// sentinels are the errors that clients find with errors.Is, by the slug of the
// problem that the server answers with: the last part of a problem document's
// type, and in capitals the reason over gRPC.
var sentinels = map[string]error{
	"invalid-space-id":       engram.ErrInvalidSpaceID,
	"space-not-found":        engram.ErrSpaceNotFound,
	"space-deleted":          engram.ErrSpaceDeleted,
	"space-exists":           engram.ErrSpaceExists,
	"wrong-space":            engram.ErrWrongSpace,
	"memory-not-found":       engram.ErrMemoryNotFound,
	"embedder-mismatch":      engram.ErrEmbedderMismatch,
	"invalid":                engram.ErrInvalid,
	"limit-exceeded":         engram.ErrLimit,
	"quota-exceeded":         engram.ErrQuota,
	"conflict":               engram.ErrConflict,
	"position-unknown":       engram.ErrInvalid, // what the library says of a seq that is not reached
	"history-trimmed":        engram.ErrTrimmed,
	"lagged":                 engram.ErrLagged,
	"idempotency-key-reused": engram.ErrRequestReused,
	"busy":                   engram.ErrBusy,
	"disk-full":              engram.ErrDiskFull,
	"read-only":              engram.ErrReadOnly,
	"unknown-outcome":        engram.ErrUnknownOutcome,
	"writes-stopped":         engram.ErrStopped,
	"shutting-down":          engram.ErrClosed,
	"locked":                 engram.ErrLocked,
	"space-foreign":          errors.Join(engram.ErrForeign, engram.ErrCorrupt), // as CorruptionError matches both
	"space-damaged":          engram.ErrCorrupt,
	"unknown-version":        engram.ErrVersion,
	"export-version":         engram.ErrVersion,
	"timeout":                context.DeadlineExceeded,
	"client-closed":          context.Canceled,
}

// Sentinel returns the error of the library, or of package context, that a
// problem stands for; nil where the server alone knows what it means.
func Sentinel(slug string) error { return sentinels[slug] }

// FromSlug returns the reason of an ErrorInfo for a slug.
func FromSlug(slug string) string { return strings.ToUpper(strings.ReplaceAll(slug, "-", "_")) }

// ToSlug returns the slug of an ErrorInfo's reason.
func ToSlug(reason string) string { return strings.ToLower(strings.ReplaceAll(reason, "_", "-")) }
