package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// Bounds on what a gRPC connection may cost. A request holds at most a batch,
// which is half of maxRequestBytes.
const (
	maxStreams       = 100 // under way on one connection
	maxRequestBytes  = 2 * engram.MaxBatchBytes
	maxAnswerBytes   = 32 << 20
	handshakeTimeout = 10 * time.Second
	minPing          = 10 * time.Second // between two pings of a client
	pingAfter        = 2 * time.Minute  // of silence the server asks whether the client is there
	pingTimeout      = 20 * time.Second

	workersPerProcessor = 4
)

// ServeGRPC answers the RPCs of a listener, which it closes. It ends as Serve
// does: streams are told to go elsewhere, requests that are under way finish, and
// what takes longer than Options.DrainTimeout is cut off, which is an error.
// The options come last, and may add credentials.
func (s *Server) ServeGRPC(ctx context.Context, listener net.Listener, options ...grpc.ServerOption) error {
	rpc := s.newGRPC(options...)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(meteredListener{boundedListener{listener, s}}) }()

	select {
	case err := <-served:
		rpc.Stop()
		s.receivers.Wait()
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	s.Drain()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		rpc.GracefulStop()
	}()
	deadline := time.NewTimer(s.options.DrainTimeout)
	defer deadline.Stop()
	var err error
	select {
	case <-ended:
	case <-deadline.C:
		rpc.Stop()
		<-ended
		err = errors.New("drain gRPC: calls were cut off")
	}
	s.receivers.Wait()
	if end := <-served; !errors.Is(end, grpc.ErrServerStopped) { // which it is where the end came first
		err = errors.Join(err, end)
	}
	return err
}

// connectionOptions returns what holds of a connection, whatever is called.
func connectionOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newBoundedCodec()),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(maxAnswerBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WaitForHandlers(true),
		// Goroutines that stay have their stacks already; a call beyond them gets
		// one of its own, so that none waits.
		grpc.NumStreamWorkers(uint32(workersPerProcessor * runtime.GOMAXPROCS(0))),
	}
}

func (s *Server) newGRPC(options ...grpc.ServerOption) *grpc.Server {
	rpc := grpc.NewServer(slices.Concat(connectionOptions(), []grpc.ServerOption{
		grpc.ChainStreamInterceptor(s.interceptStream),
		grpc.InTapHandle(s.admitStream),
	}, options)...)
	services := registrar{rpc, s}
	engramv1.RegisterMemoryServiceServer(services, memoryService{s: s})
	engramv1.RegisterSpaceServiceServer(services, spaceService{s: s})
	engramv1.RegisterAdminServiceServer(services, adminService{s: s})
	grpc_health_v1.RegisterHealthServer(services, healthService{s: s})
	reflection.Register(rpc)
	return rpc
}

// untilDrained returns a context that ends when the server drains, and a
// function that words the error of what used it.
func (s *Server) untilDrained(ctx context.Context) (context.Context, func(error) error, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.drained, func() { cancel(engram.ErrClosed) })
	word := func(err error) error {
		if errors.Is(err, context.Canceled) {
			return context.Cause(ctx)
		}
		return err
	}
	return ctx, word, func() {
		stop()
		cancel(nil)
	}
}
