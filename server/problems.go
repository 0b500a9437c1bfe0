package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
)

// problemTypePrefix and a kind's slug make the type of a problem document. Types
// are part of the protocol: clients decide by them.
const problemTypePrefix = "urn:engram:problem:"

// statusClientClosed is what the log says of a request whose client has left.
// Nobody receives it.
const statusClientClosed = 499

// kind is a sort of error as a client sees it.
type kind struct {
	slug       string
	status     int
	title      string
	hint       string
	code       codes.Code // over gRPC; 0: what the status means there
	retryAfter int        // seconds; 0: retrying without a change does not help
	verbatim   bool       // found before a file is touched: the error's whole text is for the client
}

// What can be wrong with a request before the library sees it.
var (
	kindRouteNotFound = kind{
		slug: "route-not-found", status: http.StatusNotFound, code: codes.Unimplemented, title: "No such route",
		hint: "Check the path. Ids in it must be percent-encoded.",
	}
	kindMethodNotAllowed = kind{
		slug: "method-not-allowed", status: http.StatusMethodNotAllowed, code: codes.Unimplemented, title: "Method not allowed",
		hint: "Use a method of the Allow header.",
	}
	kindCrossOrigin = kind{
		slug: "cross-origin", status: http.StatusForbidden, title: "Cross-origin request refused",
		hint: "Send the request from a program, or from a page of this server's origin.",
	}
	kindHost = kind{
		slug: "host-not-allowed", status: http.StatusMisdirectedRequest, code: codes.PermissionDenied, title: "Host not allowed",
		hint: "Ask by address or as localhost, or have the server's operator allow the name.",
	}
	kindFraming = kind{
		slug: "framed-twice", status: http.StatusBadRequest, title: "Length given twice",
		hint: "Send either Content-Length or Transfer-Encoding.",
	}
	kindEncoding = kind{
		slug: "unsupported-encoding", status: http.StatusUnsupportedMediaType, title: "Unsupported encoding",
		hint: "Send the body as it is, or compressed with gzip.",
	}
	kindChanged = kind{
		slug: "precondition-failed", status: http.StatusPreconditionFailed, code: codes.Aborted, title: "Precondition failed",
		hint: "Read it again and retry with the ETag that it has now.",
	}
	kindPosition = kind{
		slug: "position-unknown", status: http.StatusGone, code: codes.OutOfRange, title: "Position unknown",
		hint: "The position is none of this space's: take an export of it, and subscribe after the seq that comes with it.",
	}
	kindCursor = kind{
		slug: "cursor-foreign", status: http.StatusBadRequest, title: "Cursor does not fit",
		hint: "Start the listing again without a cursor.",
	}
	kindMalformed = kind{
		slug: "malformed-body", status: http.StatusBadRequest, title: "Malformed body",
		hint: "Send one JSON object with the documented fields, each at most once.",
	}
	kindMessage = kind{
		slug: "malformed-message", status: http.StatusBadRequest, title: "Malformed message",
		hint: "Send a message of the Model Context Protocol as JSON, with the header that its transport asks for.",
	}
	kindBodyTooLarge = kind{
		slug: "body-too-large", status: http.StatusRequestEntityTooLarge, title: "Body too large",
		hint: "Split the batch, or shorten the content.",
	}
	kindBodyTimeout = kind{
		slug: "body-timeout", status: http.StatusRequestTimeout, title: "Body too slow",
		hint: "Nothing was stored. Send the request again.",
	}
	kindBodyIncomplete = kind{
		slug: "body-incomplete", status: http.StatusBadRequest, title: "Body incomplete",
		hint: "Nothing was stored. Send the request again.",
	}
	kindMalformedRequest = kind{
		slug: "malformed-request", status: http.StatusBadRequest, title: "Malformed request",
		hint: "Correct the query parameter, header or field that is named.",
	}
	kindUnauthenticated = kind{
		slug: "unauthenticated", status: http.StatusUnauthorized, title: "Not authenticated",
		hint: "Send a valid key as Authorization: Bearer KEY or as X-API-Key. The server's operator makes one with engram key create.",
	}
	kindForbidden = kind{
		slug: "forbidden", status: http.StatusForbidden, title: "Not allowed",
		hint: "Use a credential whose scopes allow it.",
	}
	kindRateLimited = kind{
		slug: "rate-limited", status: http.StatusTooManyRequests, title: "Too many requests",
		hint: "Nothing was done. Send the request again after the time in Retry-After.",
	}
	kindUnderWay = kind{
		slug: "too-much-under-way", status: http.StatusTooManyRequests, title: "Too much under way",
		hint: "Nothing was done. Send the request again when others have ended; close streams that nobody reads.",
	}
	kindSpaceAmbiguous = kind{
		slug: "space-ambiguous", status: http.StatusBadRequest, title: "More than one space named",
		hint: "Name the space once, best in the path.",
	}
	kindSpaceRequired = kind{
		slug: "space-required", status: http.StatusBadRequest, title: "No space named",
		hint: "Name the space in the path, /v1/spaces/{space}/..., in the header " + spaceHeader + ", or in the field " + spaceField + ".",
	}
)

// What an ErrVersion is that an import met: the caller's to mend, where every other is the
// operator's.
var kindExportVersion = kind{
	slug: "export-version", status: http.StatusUnprocessableEntity, title: "Unknown version of export",
	hint: "The export is of a later version: import it into a server of that version.",
}

// What an error of the library looks like that the table does not list.
var kindInternal = kind{
	slug: "internal", status: http.StatusInternalServerError, title: "Internal error",
	hint: "Nothing is known about the effect of the request. The server's log says more.",
}

// libraryKinds is the one table from errors of the library to what a client
// sees. The first row that matches counts, so the special stand above the general.
var libraryKinds = [...]struct {
	sentinel error
	kind     kind
}{
	{engram.ErrInvalidSpaceID, kind{
		slug: "invalid-space-id", status: http.StatusBadRequest, title: "Invalid space id",
		hint: "Use 3 to 64 of a-z, 0-9, '_' and '-', the first one a letter or digit, and no device name such as con or nul.",
	}},
	{engram.ErrSpaceNotFound, kind{
		slug: "space-not-found", status: http.StatusNotFound, title: "Space not found",
		hint: "Create it with POST /v1/spaces, or check the name.",
	}},
	{engram.ErrSpaceDeleted, kind{
		slug: "space-deleted", status: http.StatusNotFound, title: "Space deleted",
		hint: "It was deleted while the request was under way. Create it again if you need it.",
	}},
	{engram.ErrSpaceExists, kind{
		slug: "space-exists", status: http.StatusConflict, title: "Space exists",
		hint: "Use it as it is, or choose another id.",
	}},
	{engram.ErrWrongSpace, kind{
		slug: "wrong-space", status: http.StatusBadRequest, title: "Memory belongs to another space",
		hint:     "Send the memory to the space it names, or leave its field space out to copy it.",
		verbatim: true,
	}},
	{engram.ErrMemoryNotFound, kind{
		slug: "memory-not-found", status: http.StatusNotFound, title: "Memory not found",
		hint: "Check the id and the space.",
	}},
	{engram.ErrEmbedderMismatch, kind{
		slug: "embedder-mismatch", status: http.StatusConflict, code: codes.FailedPrecondition, title: "Vectors are of another embedder",
		hint: "The server's embedder is not the one that made the vectors of this space. Only its operator can change that, with engram space reembed.",
	}},
	{engram.ErrInvalid, kind{
		slug: "invalid", status: http.StatusUnprocessableEntity, title: "Invalid argument",
		hint:     "Correct the field that is named.",
		verbatim: true,
	}},
	{engram.ErrLimit, kind{
		slug: "limit-exceeded", status: http.StatusUnprocessableEntity, title: "Limit exceeded",
		hint:     "Split the request, or shorten what is named.",
		verbatim: true,
	}},
	{engram.ErrQuota, kind{
		slug: "quota-exceeded", status: http.StatusTooManyRequests, title: "Quota exceeded", retryAfter: 60,
		hint: "Forget something, or have the space's quota raised.",
	}},
	{engram.ErrConflict, kind{
		slug: "conflict", status: http.StatusPreconditionFailed, code: codes.Aborted, title: "Space has changed",
		hint: "Read it again and retry.",
	}},
	{engram.ErrTrimmed, kind{
		slug: "history-trimmed", status: http.StatusGone, title: "History is trimmed",
		hint: "Take an export of the space, and subscribe after the seq that comes with it.",
	}},
	{engram.ErrLagged, kind{
		slug: "lagged", status: http.StatusGone, code: codes.Aborted, title: "Events were missed",
		hint: "List the spaces again, and go on from there.",
	}},
	{engram.ErrRequestReused, kind{
		slug: "idempotency-key-reused", status: http.StatusUnprocessableEntity, title: "Idempotency key reused",
		hint: "Use a new Idempotency-Key for a new request.",
	}},
	{engram.ErrBusy, kind{
		slug: "busy", status: http.StatusServiceUnavailable, title: "Space is busy", retryAfter: 1,
		hint: "Nothing was stored. Retry shortly.",
	}},
	{engram.ErrDiskFull, kind{
		slug: "disk-full", status: http.StatusInsufficientStorage, title: "Disk full",
		hint: "Nothing was stored. Forgetting and deleting still work.",
	}},
	{engram.ErrReadOnly, kind{
		slug: "read-only", status: http.StatusForbidden, code: codes.FailedPrecondition, title: "Server is read-only",
		hint: "Send writes to a server that takes them.",
	}},
	{engram.ErrUnknownOutcome, kind{
		slug: "unknown-outcome", status: http.StatusInternalServerError, code: codes.Unknown, title: "Outcome unknown",
		hint: "The device failed. Once the server is back, retry with the same Idempotency-Key, or look the memory up.",
	}},
	{engram.ErrClosed, kind{
		slug: "shutting-down", status: http.StatusServiceUnavailable, title: "Server is shutting down", retryAfter: 1,
		hint: "Nothing was stored. Retry when the server is back.",
	}},
	{engram.ErrLocked, kind{
		slug: "locked", status: http.StatusServiceUnavailable, title: "Data is in use elsewhere", retryAfter: 1,
		hint: "Another process holds the server's data.",
	}},
	{engram.ErrForeign, kind{
		slug: "space-foreign", status: http.StatusInternalServerError, code: codes.DataLoss, title: "Space holds foreign data",
		hint: "The space refuses writes until its operator has run engram check.",
	}},
	{engram.ErrCorrupt, kind{
		slug: "space-damaged", status: http.StatusInternalServerError, code: codes.DataLoss, title: "Space is damaged",
		hint: "The space refuses writes until its operator has run engram check.",
	}},
	// Below the damage that may have stopped them, which says more.
	{engram.ErrStopped, kind{
		slug: "writes-stopped", status: http.StatusServiceUnavailable, code: codes.FailedPrecondition, title: "Writes are stopped",
		hint: "Nothing was stored. The server's operator has to look after its device and restart it.",
	}},
	{engram.ErrVersion, kind{
		slug: "unknown-version", status: http.StatusInternalServerError, code: codes.FailedPrecondition, title: "Unknown format version",
		hint: "The data was written by a newer version, which the server's operator has to install.",
	}},
	{context.DeadlineExceeded, kind{
		slug: "timeout", status: http.StatusServiceUnavailable, code: codes.DeadlineExceeded, title: "Timed out", retryAfter: 1,
		hint: "Retry, a write with the same Idempotency-Key.",
	}},
	{context.Canceled, kind{slug: "client-closed", status: statusClientClosed, title: "Client has left"}},
}

// refusal is an error of the request itself. Its detail is for the client.
type refusal struct {
	kind   kind
	detail string
}

func refuse(k kind, detail string) error { return &refusal{k, detail} }

func (e *refusal) Error() string { return e.detail }

// problem is a problem document of RFC 9457.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"` // the request's id, as a URN
	Hint     string `json:"hint,omitempty"`
	Quota    string `json:"quota,omitempty"` // which quota, of quota-exceeded
	Limit    string `json:"limit,omitempty"` // which limit, of rate-limited and too-much-under-way
	Floor    uint64 `json:"floor,omitempty"` // the least position to subscribe after, of history-trimmed

	// Near are spaces that the caller may see and may have meant, of space-not-found.
	Near []engram.SpaceID `json:"near,omitempty"`

	retryAfter int
}

// describe returns what a client is told about err.
func describe(err error) problem {
	k, detail := classify(err)
	p := problem{
		Type: problemTypePrefix + k.slug, Title: k.title, Status: k.status,
		Detail: detail, Hint: k.hint, retryAfter: k.retryAfter,
	}
	var quota *engram.QuotaError
	if errors.As(err, &quota) {
		p.Quota = quota.Quota
	}
	var limited *limitError
	if errors.As(err, &limited) {
		p.Limit, p.retryAfter = limited.limit, int(math.Ceil(limited.wait.Seconds()))
	}
	var near *nearError
	if errors.As(err, &near) {
		p.Near = near.near
	}
	var trimmed *engram.TrimmedError
	if errors.As(err, &trimmed) {
		p.Floor = trimmed.Floor
	}
	return p
}

func classify(err error) (kind, string) {
	var r *refusal
	if errors.As(err, &r) {
		return r.kind, r.detail
	}
	var limited *limitError
	if errors.As(err, &limited) {
		return limited.kind, limited.Error()
	}
	var line *engram.ImportError
	if errors.As(err, &line) && errors.Is(line, engram.ErrVersion) {
		return kindExportVersion, line.Error()
	}
	for _, row := range &libraryKinds {
		if errors.Is(err, row.sentinel) {
			if row.kind.verbatim {
				return row.kind, err.Error()
			}
			return row.kind, detailOf(err, row.sentinel)
		}
	}
	return kindInternal, "the request could not be carried out"
}

// detailOf returns what the library says about the request and the space it
// names. Of all other errors it returns only the sentinel's text: theirs may
// name files of the host.
func detailOf(err, sentinel error) string {
	var (
		quota    *engram.QuotaError
		conflict *engram.ConflictError
		notFound *engram.SpaceNotFoundError
		line     *engram.ImportError
	)
	switch {
	case errors.Is(err, engram.ErrMemoryNotFound) && errors.As(err, &line):
		return line.Error() // which memory an association lacks
	case errors.As(err, &quota):
		return quota.Error()
	case errors.As(err, &conflict):
		return conflict.Error()
	case errors.As(err, &notFound):
		return notFound.Error()
	}
	return sentinel.Error()
}

// problemOf returns the problem document for the error that ends an exchange, and
// logs what is the server's own fault in full: the client is not told.
func (s *Server) problemOf(x *exchange, err error) problem {
	p := describe(s.withNear(x.principal, err))
	p.Instance = instancePrefix + x.requestID
	x.problem = strings.TrimPrefix(p.Type, problemTypePrefix)
	if p.Status >= http.StatusInternalServerError {
		s.options.Logger.Error("request failed",
			zap.String("request_id", x.requestID), zap.String("problem", p.Type), zap.String("space", string(x.space)), zap.Error(err))
	}
	return p
}

// answerError sends the problem document for err.
func (s *Server) answerError(x *exchange, err error) {
	p := s.problemOf(x, err)
	if p.retryAfter > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	body, err := json.Marshal(p)
	if err == nil {
		err = x.send(p.Status, "application/problem+json", append(body, '\n'))
	}
	if err != nil { // impossible: strings and numbers only
		panic(fmt.Sprintf("encode problem: %v", err))
	}
}
