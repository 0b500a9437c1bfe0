package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// errorDomain is the domain of the ErrorInfo of every error of this server.
const errorDomain = "engram"

// grpcCode returns the code of a kind: its own, or what its status means.
func (k kind) grpcCode() codes.Code {
	if k.code != codes.OK {
		return k.code
	}
	switch k.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusRequestTimeout:
		return codes.DeadlineExceeded
	case http.StatusConflict:
		return codes.AlreadyExists
	case http.StatusGone:
		return codes.OutOfRange
	case http.StatusPreconditionFailed:
		return codes.FailedPrecondition
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case statusClientClosed:
		return codes.Canceled
	}
	return codes.Internal
}

// statusOf returns what a client is told about err: the code, what a problem
// document says, and the coordinates of a typed error. A status, which only the
// transport makes, stays as it is.
func statusOf(err error) *status.Status {
	var transport interface{ GRPCStatus() *status.Status }
	if errors.As(err, &transport) {
		return transport.GRPCStatus()
	}
	k, detail := classify(err)
	p := describe(err)
	info := &errdetails.ErrorInfo{Reason: wire.FromSlug(k.slug), Domain: errorDomain, Metadata: map[string]string{}}
	if p.Hint != "" {
		info.Metadata["hint"] = p.Hint
	}
	if p.Quota != "" {
		info.Metadata["quota"] = p.Quota
	}
	if len(p.Near) > 0 {
		info.Metadata["near"] = joinIDs(p.Near)
	}
	if p.Limit != "" {
		info.Metadata["limit"] = p.Limit
	}
	if p.Floor != 0 {
		info.Metadata["floor"] = strconv.FormatUint(p.Floor, 10)
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(info)}
	if typed := detailMessage(err); typed != nil {
		details = append(details, protoadapt.MessageV1Of(typed))
	}
	if p.retryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{
			RetryDelay: durationpb.New(time.Duration(p.retryAfter) * time.Second),
		}))
	}
	bare := status.New(k.grpcCode(), strings.ToValidUTF8(detail, "\uFFFD"))
	full, err := bare.WithDetails(details...)
	if err != nil { // a text that is not UTF-8 stands in a detail
		return bare
	}
	return full
}

// joinIDs returns the ids with commas between them, which no id has.
func joinIDs(ids []engram.SpaceID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	return strings.Join(names, ",")
}

// detailMessage returns the coordinates of a typed error whose text a client may
// see, nil of any other.
func detailMessage(err error) *engramv1.ErrorDetail {
	var (
		conflict *engram.ConflictError
		quota    *engram.QuotaError
		limit    *engram.LimitError
		notFound *engram.SpaceNotFoundError
		invalid  *engram.InvalidError
		trimmed  *engram.TrimmedError
	)
	switch {
	case errors.As(err, &conflict):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_Conflict{
			Conflict: &engramv1.Conflict{Expected: conflict.Expected, Actual: conflict.Actual},
		}}
	case errors.As(err, &quota):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_Quota{
			Quota: &engramv1.QuotaExceeded{Space: string(quota.Space), Quota: quota.Quota, Used: quota.Used, Max: quota.Max},
		}}
	case errors.As(err, &limit):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_Limit{
			Limit: &engramv1.LimitExceeded{What: limit.What, Got: limit.Got, Max: limit.Max},
		}}
	case errors.As(err, &notFound):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_SpaceNotFound{
			SpaceNotFound: &engramv1.SpaceNotFound{Space: string(notFound.Space)},
		}}
	case errors.As(err, &invalid):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_Invalid{
			Invalid: &engramv1.Invalid{Field: invalid.Field, Reason: invalid.Reason},
		}}
	case errors.As(err, &trimmed):
		return &engramv1.ErrorDetail{Error: &engramv1.ErrorDetail_Trimmed{
			Trimmed: &engramv1.Trimmed{Space: string(trimmed.Space), After: trimmed.After, Floor: trimmed.Floor},
		}}
	}
	return nil
}
