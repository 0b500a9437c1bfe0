package engramtest

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrDropped is what a client gets that lost its request or its answer.
var ErrDropped = errors.New("the connection was cut by the test")

// Transport carries requests to a server under test, over HTTP and gRPC, and
// loses some where it is told to. It may be given to an [http.Client] of the
// test's own.
type Transport struct {
	http     *http.Transport
	requests atomic.Int64 // to lose
	answers  atomic.Int64 // to lose
}

func newTransport() *Transport { return &Transport{http: &http.Transport{}} }

// DropRequests makes the next n requests, streams too, never arrive. Their
// callers get ErrDropped.
func (t *Transport) DropRequests(n int) { t.requests.Add(int64(n)) }

// DropAnswers makes the answers to the next n requests get lost: the server has
// carried them out, or refused them, and their callers get ErrDropped. It is what
// an Idempotency-Key is for. Streams of gRPC have many answers and lose none.
func (t *Transport) DropAnswers(n int) { t.answers.Add(int64(n)) }

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if takeOne(&t.requests) {
		if r.Body != nil {
			return nil, errors.Join(ErrDropped, r.Body.Close())
		}
		return nil, ErrDropped
	}
	response, err := t.http.RoundTrip(r)
	if err == nil && takeOne(&t.answers) {
		return nil, errors.Join(ErrDropped, response.Body.Close())
	}
	return response, err
}

// interceptUnary does for a call of gRPC what RoundTrip does for a request.
func (t *Transport) interceptUnary(
	ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if takeOne(&t.requests) {
		return ErrDropped
	}
	err := invoke(ctx, method, request, answer, conn, options...)
	if status.Code(err) != codes.Unavailable && takeOne(&t.answers) {
		return ErrDropped
	}
	return err
}

func (t *Transport) interceptStream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if takeOne(&t.requests) {
		return nil, ErrDropped
	}
	return open(ctx, description, conn, method, options...)
}

// CloseIdleConnections closes connections that carry nothing.
func (t *Transport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// takeOne takes one off n if there is one.
func takeOne(n *atomic.Int64) bool {
	for {
		left := n.Load()
		if left <= 0 {
			return false
		}
		if n.CompareAndSwap(left, left-1) {
			return true
		}
	}
}
