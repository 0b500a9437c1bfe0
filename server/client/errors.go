package client

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// ErrUnavailable says that no server was reached, or the connection broke before the
// answer came. A write may have taken effect.
var ErrUnavailable = errors.New("server is unavailable")

// Error is an error that the server answered. It matches what the library would have
// returned, as the package says.
type Error struct {
	Code       codes.Code
	Reason     string // stable, for programs: "QUOTA_EXCEEDED"; empty: the transport's own error
	Message    string
	Hint       string        // what to do
	RetryAfter time.Duration // 0: retrying without a change does not help

	cause error
}

// Error returns the server's message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the library's error.
func (e *Error) Unwrap() error { return e.cause }

// errorOf returns the error that a call's err stands for; request is what was
// sent, nil where that is not known.
func (c *Client) errorOf(err error, request proto.Message) error {
	if err == nil {
		return nil
	}
	told, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := fromStatus(told)
	if e.Reason == "" && e.Code == codes.Canceled && c.closed.Load() {
		e.cause = engram.ErrClosed
	}
	if e.Reason == "" && request != nil && (e.Code == codes.Internal || e.Code == codes.ResourceExhausted) {
		if refused := sendable(request); refused != nil {
			return refused
		}
	}
	return e
}

// sendable returns why a request cannot reach a server, as the library words it.
func sendable(request proto.Message) error {
	if field := notText(request.ProtoReflect(), ""); field != "" {
		return &engram.InvalidError{Field: field, Reason: "is not UTF-8"}
	}
	if size := proto.Size(request); size > maxRequestBytes {
		return &engram.LimitError{What: "request bytes", Got: int64(size), Max: maxRequestBytes}
	}
	return nil
}

// fromStatus builds the error of a status.
func fromStatus(told *status.Status) *Error {
	e := &Error{Code: told.Code(), Message: told.Message()}
	var near []engram.SpaceID
	for _, detail := range told.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Hint = d.GetReason(), d.GetMetadata()["hint"]
			if names := d.GetMetadata()["near"]; names != "" {
				for _, name := range strings.Split(names, ",") {
					near = append(near, engram.SpaceID(name))
				}
			}
			if e.cause == nil {
				e.cause = wire.Sentinel(wire.ToSlug(d.GetReason()))
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		case *engramv1.ErrorDetail:
			if typed := typedError(d); typed != nil {
				e.cause = typed
			}
		}
	}
	if notFound := new(engram.SpaceNotFoundError); errors.As(e.cause, &notFound) {
		notFound.Near = near
	}
	if e.Reason == "" {
		switch e.Code {
		case codes.DeadlineExceeded:
			e.cause = context.DeadlineExceeded
		case codes.Canceled:
			e.cause = context.Canceled
		case codes.Unavailable:
			e.cause = ErrUnavailable
		}
	}
	return e
}

// typedError returns the library's error with its coordinates.
func typedError(detail *engramv1.ErrorDetail) error {
	switch d := detail.GetError().(type) {
	case *engramv1.ErrorDetail_Conflict:
		return &engram.ConflictError{Expected: d.Conflict.GetExpected(), Actual: d.Conflict.GetActual()}
	case *engramv1.ErrorDetail_Quota:
		return &engram.QuotaError{
			Space: engram.SpaceID(d.Quota.GetSpace()), Quota: d.Quota.GetQuota(), Used: d.Quota.GetUsed(), Max: d.Quota.GetMax(),
		}
	case *engramv1.ErrorDetail_Limit:
		return &engram.LimitError{What: d.Limit.GetWhat(), Got: d.Limit.GetGot(), Max: d.Limit.GetMax()}
	case *engramv1.ErrorDetail_SpaceNotFound:
		return &engram.SpaceNotFoundError{Space: engram.SpaceID(d.SpaceNotFound.GetSpace())}
	case *engramv1.ErrorDetail_Invalid:
		return &engram.InvalidError{Field: d.Invalid.GetField(), Reason: d.Invalid.GetReason()}
	case *engramv1.ErrorDetail_Trimmed:
		return &engram.TrimmedError{
			Space: engram.SpaceID(d.Trimmed.GetSpace()), After: d.Trimmed.GetAfter(), Floor: d.Trimmed.GetFloor(),
		}
	}
	return nil
}

// notText returns the name of a string that is not UTF-8, which protobuf refuses
// to send without saying which it is; "" where all are.
func notText(m protoreflect.Message, path string) (found string) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(field.Name())
		switch {
		case field.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				if !utf8.ValidString(key.String()) || !utf8.ValidString(value.String()) {
					found = name
				}
				return found == ""
			})
		case field.IsList() && field.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				if !utf8.ValidString(v.List().Get(i).String()) {
					found = name
				}
			}
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			for i := 0; found == "" && i < v.List().Len(); i++ {
				found = notText(v.List().Get(i).Message(), name)
			}
		case field.Kind() == protoreflect.MessageKind:
			found = notText(v.Message(), name)
		case field.Kind() == protoreflect.StringKind && !utf8.ValidString(v.String()):
			found = name
		}
		return found == ""
	})
	if found != "" && path == "filter" {
		return path + "." + found
	}
	return found
}
