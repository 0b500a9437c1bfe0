package server

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// Metadata of requests: the headers of HTTP, as HTTP/2 writes them.
const (
	authorizationMetadata = "authorization"
	keyMetadata           = "x-api-key"
	spaceMetadata         = "x-engram-memory-space"
	spaceMetadataAlias    = "x-memory-space"
)

// Metadata of answers.
const (
	fallbackMetadata    = "engram-space-fallback" // the default space, where the request named none
	incarnationMetadata = "engram-incarnation"    // of the space whose events a subscription has
)

// call is one RPC, or one message of a stream whose messages each name a space.
type call struct {
	request

	method string // registered: there are no calls of others
	rule   rule
	remote net.Addr // nil: not known
	err    error    // that it was answered with
	one    bool     // it is one message of a stream
	unread bool     // its request could not be read, which is no fault of the server
}

type callKey struct{}

// callOf returns the call of the context.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// spaceOf returns the space that the call of the context means.
func spaceOf(ctx context.Context) engram.SpaceID { return callOf(ctx).space }

// address returns the caller's address, empty where it is not known.
func (c *call) address() string {
	if c.remote == nil {
		return ""
	}
	return c.remote.String()
}

// answerCall carries out a call and tells the trace, the log and the metrics of it. It
// finds the rule of its method, without which it is not answered, and who calls it,
// before it runs what is to be done.
func (s *Server) answerCall(ctx context.Context, method string, streamed bool, run func(context.Context, *call) error) error {
	defer streamEnded(ctx)
	c := &call{method: method}
	c.began, c.streamed = time.Now(), streamed
	if p, ok := peer.FromContext(ctx); ok {
		c.remote = p.Addr
	}
	ctx, c.span = s.traceCall(ctx, method)
	defer s.finish(c)
	c.err = s.guard(c, func() error {
		var known bool
		if c.rule, known = s.rules[method]; !known {
			return refuse(kindRouteNotFound, "nothing is served under this name")
		}
		if err := s.authenticateCall(ctx, c); err != nil {
			return err
		}
		if err := s.take(&c.request, c.host()); err != nil {
			return err
		}
		return run(ctx, c)
	})
	return c.err
}

// holdMessage counts a request that has been received until its call ends.
func (s *Server) holdMessage(c *call, request any) error {
	if message, ok := request.(proto.Message); ok {
		return s.hold(&c.request, int64(proto.Size(message)))
	}
	return nil
}

// host returns by what name the caller's address is counted.
func (c *call) host() string {
	if metered, ok := c.remote.(meteredAddr); ok {
		return metered.conn.address
	}
	return addressOf(c.address())
}

// outcome tells how it ended.
func (c *call) outcome() outcome {
	code := status.Code(c.err)
	o := outcome{transport: transportGRPC, route: c.method, status: code.String()}
	if c.unread {
		return o
	}
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		o.fault = o.status
	}
	return o
}

func (c *call) spanAttributes() []attribute.KeyValue {
	return []attribute.KeyValue{attribute.Int(attributeRPCStatus, int(status.Code(c.err)))}
}

func (c *call) logFields() []zap.Field {
	if c.one {
		return nil
	}
	return []zap.Field{zap.Stringer("code", status.Code(c.err)), zap.String("remote", c.address())}
}

// admitMessage decides whether a message of a call may be acted upon, and notes
// the space that it means. Every request of every RPC passes here before the
// registry is asked for the space: whoever may not do what c.rule.verb says
// learns nothing, not even whether the space exists.
func (s *Server) admitMessage(ctx context.Context, c *call, request any) error {
	if message, ok := request.(proto.Message); ok && c.rule.verb != verbPublic {
		if err := refuseUnknown(message.ProtoReflect()); err != nil {
			return err
		}
	}
	if err := c.stillAdmitted(); err != nil {
		return err
	}
	if c.rule.about == aboutRegistry || c.rule.about == aboutVisible {
		return nil
	}
	var named selector
	if field := request.(interface{ GetMemorySpaceId() string }).GetMemorySpaceId(); field != "" {
		named.add("the field "+spaceField, field)
	}
	for _, key := range [...]string{spaceMetadata, spaceMetadataAlias} {
		for _, value := range metadata.ValueFromIncomingContext(ctx, key) {
			named.add("the metadata "+key, value)
		}
	}
	if c.rule.about == aboutNamed && named.where == "" {
		named.add("the field "+spaceField, "") // an id that no space has: no fall-back is taken
	}
	id, fallback, err := s.resolve(&named, c.principal, c.address, c.method)
	if err != nil {
		return err
	}
	if renamed, ok := request.(*engramv1.RenameSpaceRequest); ok {
		to := engram.SpaceID(renamed.GetTo())
		if err := to.Validate(); err != nil {
			return refuseSpaceID("the field to", err)
		}
		if err := s.meanIn(c, id); err != nil {
			return err
		}
		return s.authoriseNew(c.principal, c.rule.verb, to)
	}
	c.fallback = fallback
	if _, ok := request.(*engramv1.CreateSpaceRequest); ok {
		c.space = id
		return s.authoriseNew(c.principal, c.rule.verb, id)
	}
	return s.meanIn(c, id)
}

// meanIn is mean for a call.
func (s *Server) meanIn(c *call, id engram.SpaceID) error {
	c.space = id
	return s.authorise(c.principal, c.rule.verb, id)
}

// refuseUnknown refuses fields that this server does not know: a newer client
// must not believe that they took effect.
func refuseUnknown(m protoreflect.Message) error {
	if len(m.GetUnknown()) > 0 {
		return refuse(kindMalformedRequest, fmt.Sprintf("%s has a field that this server does not know", m.Descriptor().Name()))
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Kind() != protoreflect.MessageKind || field.IsMap() || !m.Has(field) {
			continue
		}
		if !field.IsList() {
			if err := refuseUnknown(m.Get(field).Message()); err != nil {
				return err
			}
			continue
		}
		for i, list := 0, m.Get(field).List(); i < list.Len(); i++ {
			if err := refuseUnknown(list.Get(i).Message()); err != nil {
				return err
			}
		}
	}
	return nil
}

// interceptStream wraps an RPC with a stream of requests or answers.
func (s *Server) interceptStream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	return s.answerCall(stream.Context(), info.FullMethod, true, func(ctx context.Context, c *call) error {
		ctx, cancel := c.admittedContext(ctx)
		defer cancel()
		return c.wordEnd(handle(service, &admittedStream{
			ServerStream: stream, ctx: ctx, server: s, call: c, latest: c, several: info.IsClientStream,
		}))
	})
}

// guard runs one call, whose error becomes a status. What is the server's own fault is
// logged in full: the client is not told.
func (s *Server) guard(c *call, run func() error) error {
	err := s.survive(zap.String("method", c.method), run)
	if err == nil {
		return nil
	}
	if _, transport := status.FromError(err); !transport {
		k, _ := classify(err)
		c.problem = k.slug
	}
	told := statusOf(s.withNear(c.principal, err))
	switch code := told.Code(); {
	case c.unread:
	case code == codes.Internal, code == codes.DataLoss, code == codes.Unknown:
		s.options.Logger.Error("request failed", zap.String("method", c.method),
			zap.String("space", string(c.space)), zap.Error(err))
	}
	return told.Err()
}

// refusedMessage is the error of a message of a stream that goes on.
type refusedMessage struct {
	message any
	call    *call
	cause   error
}

func (e *refusedMessage) Error() string { return e.cause.Error() }
func (e *refusedMessage) Unwrap() error { return e.cause }

// admittedStream hands on only what was admitted.
type admittedStream struct {
	grpc.ServerStream

	ctx      context.Context //nolint:containedctx // of the stream, which is one call
	server   *Server
	call     *call
	latest   *call // what the message received last is, where each names its space; else the same
	several  bool  // messages may come
	received bool  // one has

	announced bool // that a message named no space
}

// Context returns the context of the message received last.
func (a *admittedStream) Context() context.Context {
	return context.WithValue(a.ctx, callKey{}, a.latest)
}

// RecvMsg receives a message and admits it.
func (a *admittedStream) RecvMsg(message any) error {
	if err := a.receive(message); err != nil {
		return err
	}
	switch {
	case a.call.rule.about == aboutEach:
		own := call{method: a.call.method, rule: a.call.rule, remote: a.call.remote, one: true}
		own.principal, own.held.by = a.call.principal, a.call.held.by
		if err := a.admitEach(&own, message); err != nil {
			a.announceFallback(&own)
			return &refusedMessage{message, &own, err}
		}
		a.latest = &own
	case a.received:
		return a.sameSpace(message)
	default:
		err := a.server.admitMessage(a.ServerStream.Context(), a.call, message)
		if err == nil {
			err = a.server.holdMessage(a.call, message)
		}
		if err != nil {
			a.announceFallback(a.call)
			return err
		}
	}
	a.received = true
	a.announceFallback(a.latest)
	return nil
}

// receive receives a message. Of a stream whose client writes when it has something to
// write it may take as long as it likes; of an import a chunkReader sees to all but the
// first.
func (a *admittedStream) receive(message any) error {
	if a.call.rule.verb != verbPublic && (a.received || a.call.rule.about == aboutEach) {
		return receiveBounded(message, a.ServerStream.RecvMsg)
	}
	return a.server.receive(a.ctx, a.call, message, !a.several, a.ServerStream.RecvMsg)
}

// admitEach admits a message that names its own space. For the first, the stream has
// counted as a request of the caller.
func (a *admittedStream) admitEach(own *call, message any) error {
	first := !a.received
	a.received = true
	if !first {
		if err := a.server.limitCaller(own.principal); err != nil {
			return err
		}
	}
	return a.server.admitMessage(a.ServerStream.Context(), own, message)
}

// sameSpace lets a later message of a stream repeat what the first one named.
func (a *admittedStream) sameSpace(message any) error {
	if err := a.call.stillAdmitted(); err != nil {
		return err
	}
	named, ok := message.(interface{ GetMemorySpaceId() string })
	if ok && named.GetMemorySpaceId() != "" && named.GetMemorySpaceId() != string(a.call.space) {
		return refuse(kindSpaceAmbiguous, "two messages of the stream name different spaces")
	}
	if unknown, ok := message.(proto.Message); ok && a.call.rule.verb != verbPublic {
		return refuseUnknown(unknown.ProtoReflect())
	}
	return nil
}

// announceFallback says once that a message named no space, in the header or, where
// that has been sent, in the trailer.
func (a *admittedStream) announceFallback(c *call) {
	if !c.fallback || a.announced {
		return
	}
	a.announced = true
	said := metadata.Pairs(fallbackMetadata, string(c.space))
	if a.SetHeader(said) != nil {
		a.SetTrailer(said)
	}
}
