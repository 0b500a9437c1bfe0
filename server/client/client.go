package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

const (
	defaultAttempts = 4
	firstBackoff    = 50 * time.Millisecond // doubled for each further attempt
	maxBackoff      = 2 * time.Second
	connectTimeout  = 20 * time.Second         // of one attempt to connect, as gRPC has it by default
	maxRequestBytes = 2 * engram.MaxBatchBytes // that a server takes
	maxAnswerBytes  = 32 << 20
	pingAfter       = time.Minute // of silence the client asks whether the server is there
	pingTimeout     = 20 * time.Second
	chunkBytes      = 32 << 10
)

// Options of a client. The zero value uses TLS with the system's certificates.
type Options struct {
	// TLS of the connection; nil: the system's certificates.
	TLS *tls.Config
	// Insecure uses no TLS. What is sent can be read and changed on the way.
	Insecure bool
	// Credentials are sent with each call; default none.
	Credentials credentials.PerRPCCredentials
	// Attempts is how often a call is tried at most; default 4, 1 never retries.
	Attempts int
	// Dial are further options of the connection.
	Dial []grpc.DialOption
}

// Client is a connection to a server.
type Client struct {
	conn     *grpc.ClientConn
	attempts int
	closed   atomic.Bool
	memories engramv1.MemoryServiceClient
	spaces   engramv1.SpaceServiceClient
	admin    engramv1.AdminServiceClient
}

// Dial returns a client of the server at an address, host:port or a target as
// gRPC names it. It does not wait for the server: the first call does.
func Dial(address string, options Options) (*Client, error) {
	transport := credentials.NewTLS(options.TLS)
	if options.Insecure {
		transport = insecure.NewCredentials()
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		// A connection that failed is tried again as soon as calls are: until it is, gRPC
		// fails them unsent, by default for a second and up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: backoff.DefaultConfig.Jitter, MaxDelay: maxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
	}
	if options.Credentials != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(options.Credentials))
	}
	conn, err := grpc.NewClient(address, append(dial, options.Dial...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	attempts := options.Attempts
	if attempts <= 0 {
		attempts = defaultAttempts
	}
	return &Client{
		conn: conn, attempts: attempts,
		memories: engramv1.NewMemoryServiceClient(conn),
		spaces:   engramv1.NewSpaceServiceClient(conn),
		admin:    engramv1.NewAdminServiceClient(conn),
	}, nil
}

// Close closes the connection. Calls that are under way, and all that follow, fail
// with [engram.ErrClosed]; a write that was under way may take effect. Closing again
// does nothing.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.conn.Close()
}

// Space returns a handle of the space of that id, without asking whether it
// exists. The empty id is the server's default space.
func (c *Client) Space(id engram.SpaceID) *Space { return &Space{c: c, id: id} }

// Create makes a space. It is tried once: after an ErrUnavailable the space may exist.
func (c *Client) Create(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (*Space, error) {
	_, err := once(ctx, c, c.spaces.CreateSpace,
		&engramv1.CreateSpaceRequest{MemorySpaceId: string(id), Config: wire.FromConfig(config)})
	if err != nil {
		return nil, err
	}
	return c.Space(id), nil
}

// Get returns the space of that id, which must exist.
func (c *Client) Get(ctx context.Context, id engram.SpaceID) (*Space, error) {
	if _, err := c.Info(ctx, id); err != nil {
		return nil, err
	}
	return c.Space(id), nil
}

// GetOrCreate returns the space of that id and creates it if there is none.
func (c *Client) GetOrCreate(ctx context.Context, id engram.SpaceID, config engram.SpaceConfig) (*Space, error) {
	space, err := c.Get(ctx, id)
	if !errors.Is(err, engram.ErrSpaceNotFound) {
		return space, err
	}
	if space, err = c.Create(ctx, id, config); errors.Is(err, engram.ErrSpaceExists) {
		return c.Get(ctx, id) // another caller was faster
	}
	return space, err
}

// Info describes a space, which the server wakes for it.
func (c *Client) Info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	answer, err := retried(ctx, c, c.spaces.GetSpace, &engramv1.GetSpaceRequest{MemorySpaceId: string(id)})
	if err != nil {
		return engram.SpaceInfo{}, err
	}
	return wire.ToInfo(answer.GetSpace())
}

// Spaces yields the ids of the spaces after the given one, in order. An error
// comes last.
func (c *Client) Spaces(ctx context.Context, after engram.SpaceID) iter.Seq2[engram.SpaceID, error] {
	return func(yield func(engram.SpaceID, error) bool) {
		request := &engramv1.ListSpacesRequest{After: string(after)}
		for {
			page, err := retried(ctx, c, c.spaces.ListSpaces, request)
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range page.GetIds() {
				if !yield(engram.SpaceID(id), nil) {
					return
				}
			}
			if request.After = page.GetNext(); request.After == "" {
				return
			}
		}
	}
}

// Delete deletes a space with all it holds. It is tried once.
func (c *Client) Delete(ctx context.Context, id engram.SpaceID) error {
	_, err := once(ctx, c, c.spaces.DeleteSpace, &engramv1.DeleteSpaceRequest{MemorySpaceId: string(id)})
	return err
}

// Rename gives a space another id. It is tried once. Handles keep the old id.
func (c *Client) Rename(ctx context.Context, from, to engram.SpaceID) error {
	_, err := once(ctx, c, c.spaces.RenameSpace, &engramv1.RenameSpaceRequest{MemorySpaceId: string(from), To: string(to)})
	return err
}

// Import creates a space from an export: whole, or not at all. It is tried once.
func (c *Client) Import(ctx context.Context, id engram.SpaceID, src io.Reader) (*Space, error) {
	ctx, cancel := context.WithCancel(ctx) // an error of src ends the call before its end is sent
	defer cancel()
	stream, err := c.spaces.Import(ctx)
	if err != nil {
		return nil, c.errorOf(err, nil)
	}
	chunk, sent := make([]byte, chunkBytes), false
	for {
		n, err := fill(chunk, src)
		if n > 0 || !sent {
			sent = true
			if stream.Send(&engramv1.ImportRequest{MemorySpaceId: string(id), Chunk: chunk[:n]}) != nil {
				break // the answer says why
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read export: %w", err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return nil, c.errorOf(err, nil)
	}
	return c.Space(id), nil
}

// fill reads until p is full or src ends. Its error is src's own: io.ReadFull has
// one for an end within p that a source which broke off may have too.
func fill(p []byte, src io.Reader) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = src.Read(p[n:])
		n += more
	}
	return n, err
}

// Settle makes every space's own log durable and empties the journal.
func (c *Client) Settle(ctx context.Context) error {
	_, err := retried(ctx, c, c.admin.Settle, &engramv1.SettleRequest{})
	return err
}

// Stats returns the figures of the registry.
func (c *Client) Stats(ctx context.Context) (engram.RegistryStats, error) {
	answer, err := retried(ctx, c, c.admin.RegistryStats, &engramv1.RegistryStatsRequest{})
	if err != nil {
		return engram.RegistryStats{}, err
	}
	return wire.ToRegistryStats(answer.GetStats()), nil
}

// method is an RPC with one request and one answer.
type method[Q, A any] func(context.Context, Q, ...grpc.CallOption) (A, error)

// once tries a call once.
func once[Q proto.Message, A any](ctx context.Context, c *Client, call method[Q, A], request Q) (A, error) {
	answer, err := call(ctx, request)
	return answer, c.errorOf(err, request)
}

// retried tries a call that may be repeated until it succeeds, fails for good or
// runs out of attempts.
func retried[Q proto.Message, A any](ctx context.Context, c *Client, call method[Q, A], request Q) (A, error) {
	for attempt := 1; ; attempt++ {
		answer, err := once(ctx, c, call, request)
		if err == nil || attempt >= c.attempts || !temporary(err) || !pause(ctx, attempt, err) {
			return answer, err
		}
	}
}

// temporary reports whether another attempt may succeed.
func temporary(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == codes.Unavailable
}

// limited reports that the server refuses a call for now, as one too many: after a
// restart all of its clients come back at once.
func limited(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Reason == "RATE_LIMITED" || e.Reason == "TOO_MUCH_UNDER_WAY")
}

// pause waits before the next attempt, for a random time so that clients which
// failed together do not come back together. It returns false where ctx ends.
func pause(ctx context.Context, attempt int, err error) bool {
	longest := min(firstBackoff<<min(attempt-1, 10), maxBackoff)
	var jitter [1]byte
	_, _ = rand.Read(jitter[:]) // never fails
	wait := longest/2 + longest/2*time.Duration(jitter[0])/256
	var e *Error
	if errors.As(err, &e) {
		wait = max(wait, e.RetryAfter)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
