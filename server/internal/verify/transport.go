package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/internal/httpclient"
)

// Names of the transports, as they begin the names of assertions.
const (
	overLibrary = "library"
	overHTTP    = "http"
	overGRPC    = "grpc"
	overMCP     = "mcp"
)

// transport is one way to reach the spaces of an installation, with one
// credential. It is safe for concurrent use. Its exported methods are those of
// the clients, which a transport has by embedding one.
type transport interface {
	name() string
	create(ctx context.Context, id engram.SpaceID) error
	Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error)
	Spaces(ctx context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error]
	Rename(ctx context.Context, from, to engram.SpaceID) error
	Delete(ctx context.Context, id engram.SpaceID) error
	// space returns a handle without asking whether there is such a space.
	space(id engram.SpaceID) space
}

// space is one space over one transport. Its exported methods do what those of
// [engram.Space] do.
type space interface {
	ID() engram.SpaceID
	RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error)
	Lookup(ctx context.Context, id string) (engram.Memory, error)
	Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error]
	Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error)
	Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error)
	Associate(ctx context.Context, a engram.Association) (engram.Receipt, error)
	Associations(ctx context.Context, id string) ([]engram.Association, error)
	Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error]
	Export(ctx context.Context, dst io.Writer) (uint64, error)

	remember(ctx context.Context, m engram.Memory, how write) (engram.Receipt, error)
	// version returns what names the space's present state in write.version.
	version(ctx context.Context) (string, error)
}

// write says how a memory is remembered.
type write struct {
	requestID string // makes a retry take effect once; empty: none
	version   string // that the space must have; empty: any
}

// pager is a space whose listings have cursors.
type pager interface {
	page(ctx context.Context, cursor string, limit int) (memories []engram.Memory, next string, err error)
}

// exported returns the space's export.
func exported(ctx context.Context, s space) (string, error) {
	var text strings.Builder
	_, err := s.Export(ctx, &text)
	return text.String(), err
}

// collect reads an iterator to its end.
func collect[T any](items iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

// answerOf words everything that a caller can tell about an error, over any
// transport, with the ids that the caller gave replaced by ID: what two errors
// may not differ in if they are to tell nothing.
func answerOf(err error, echoed ...string) string {
	var problem *httpclient.Problem
	var failure *client.Error
	var text string
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &problem):
		text = fmt.Sprintf("%d %s %q %q %q", problem.Status, problem.Type, problem.Title, problem.Detail, problem.Hint)
	case errors.As(err, &failure):
		text = fmt.Sprintf("%s %s %q %q", failure.Code, failure.Reason, failure.Message, failure.Hint)
	default:
		text = fmt.Sprintf("%T %q", err, err)
	}
	for _, id := range echoed {
		text = strings.ReplaceAll(text, id, "ID")
	}
	return text
}

// reasonOf returns the stable name that a server gives an error, as HTTP spells
// it; empty: it is none of a server.
func reasonOf(err error) string {
	var problem *httpclient.Problem
	var failure *client.Error
	var reason string
	switch told, isStatus := status.FromError(err); {
	case err == nil:
	case errors.As(err, &problem):
		return problem.Slug()
	case errors.As(err, &failure):
		reason = failure.Reason
	case isStatus: // of a request that the client does not send
		for _, detail := range told.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				reason = info.GetReason()
			}
		}
	}
	return strings.ReplaceAll(strings.ToLower(reason), "_", "-")
}
