package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// registrar registers services whose RPCs with one request and one answer are calls of
// the server. It wraps their handlers, which read the request: an interceptor would come
// behind that, and whoever shows no credential would have it in memory.
type registrar struct {
	grpc.ServiceRegistrar

	server *Server
}

// RegisterService implements [grpc.ServiceRegistrar].
func (r registrar) RegisterService(service *grpc.ServiceDesc, implementation any) {
	wrapped := *service
	wrapped.Methods = slices.Clone(service.Methods)
	for i := range wrapped.Methods {
		method := &wrapped.Methods[i]
		method.Handler = r.server.unary("/"+service.ServiceName+"/"+method.MethodName, method.Handler)
	}
	r.ServiceRegistrar.RegisterService(&wrapped, implementation)
}

// unary wraps the handler of an RPC with one request and one answer.
func (s *Server) unary(method string, handle grpc.MethodHandler) grpc.MethodHandler {
	return func(
		service any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
		var answer any
		if err := s.answerCall(ctx, method, false, func(ctx context.Context, c *call) error {
			ctx, cancel := c.admittedContext(ctx)
			defer cancel()
			admit := func(request any) error { return s.receiveUnary(ctx, c, receive, request) }
			var err error
			answer, err = handle(service, ctx, admit, interceptor)
			return c.wordEnd(err)
		}); err != nil {
			return nil, err
		}
		return answer, nil
	}
}

// receiveUnary receives the one request of a call and admits it.
func (s *Server) receiveUnary(ctx context.Context, c *call, receive func(any) error, request any) error {
	if err := s.receive(ctx, c, request, true, receive); err != nil {
		return err
	}
	return s.admitUnary(ctx, c, request)
}

// admitUnary admits the one request of a call.
func (s *Server) admitUnary(ctx context.Context, c *call, request any) error {
	refused := s.admitMessage(ctx, c, request)
	if refused == nil {
		refused = s.holdMessage(c, request)
	}
	if c.fallback { // said also to who is refused
		if err := grpc.SetHeader(ctx, metadata.Pairs(fallbackMetadata, string(c.space))); err != nil {
			return err
		}
	}
	return refused
}
