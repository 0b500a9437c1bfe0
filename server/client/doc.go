// Package client talks to a server of memory spaces over gRPC, with the types
// and the errors of package engram: what a program does with a [Space] of this
// package it could do with an embedded one, and errors.Is finds the same error; where
// one of the library's matches several, as ErrStopped and ErrCorrupt, the one that says
// more. Of its types errors.As finds ConflictError, InvalidError, LimitError,
// QuotaError, SpaceNotFoundError and TrimmedError. Of a damaged space the answer is the
// error alone.
//
//	c, err := client.Dial("127.0.0.1:50051", client.Options{Insecure: true})
//	space, err := c.GetOrCreate(ctx, "alice", engram.SpaceConfig{})
//	_, err = space.Remember(ctx, engram.Memory{Content: "Alice likes green tea."})
//	answer, err := space.Recall(ctx, engram.Cue{Text: "what tea does she like?"})
//
// # Retries
//
// A call that found no server, or one that is too busy, is tried again for as
// long as its context lets it, at most [Options.Attempts] times. That is safe: a
// read changes nothing, and a write carries a request id, the caller's or a
// random one, by which the space does it once. What creates, deletes or renames a
// space has no such id and is tried once, and so is an export, which may be written
// in part by then. Where the last attempt found no server the error is
// [ErrUnavailable]; a write may then have taken effect, and the same write with the
// same [RequestID] finds out.
//
// A subscription goes on by itself behind the last event, over restarts of the
// server, and waits where that has too many calls for now.
//
// # Connections
//
// A Client holds one connection, which all its calls share; it and all it
// returns may be used concurrently. gRPC allows 100 streams on it: who holds
// more than about 90 subscriptions dials more than once.
package client
