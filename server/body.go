package server

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/internal/strictjson"
)

// decode reads the whole body, at most limit bytes, as strict JSON into v. A null is
// refused: clients send it for what they have not set, and it would say all defaults.
func (s *Server) decode(x *exchange, v any, limit int64) error {
	text, err := s.readBody(x, limit)
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(text)) == "null" {
		return refuse(kindMalformed, "the body is null")
	}
	return unmarshal(text, v)
}

// unmarshal reads strict JSON into v. The zero time is refused as the other times are
// that no memory has: v would take it for none, and a filter would not narrow.
func unmarshal(text []byte, v any) error {
	err := strictjson.UnmarshalBounded(text, v, maxElements)
	var malformed *strictjson.Error
	switch {
	case !errors.As(err, &malformed):
		return err
	case malformed.Zero:
		return &engram.InvalidError{Field: malformed.Path, Reason: malformed.Reason}
	}
	return refuse(kindMalformed, malformed.Error())
}

// readBody returns the whole body, at most limit bytes. It is counted as it comes,
// until the request ends.
func (s *Server) readBody(x *exchange, limit int64) ([]byte, error) {
	b, err := s.openBody(x, limit)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(keptBody{b})
}

type keptBody struct{ *body }

func (b keptBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > 0 {
		if full := b.server.hold(&b.x.request, b.x.held.bytes+int64(n)); full != nil {
			b.err = full
			return 0, full
		}
	}
	return n, err
}

// body reads what a client sends, decompressed. Its errors are for the client,
// and the first one stays: whoever hands the body on finds it there.
type body struct {
	server *Server
	x      *exchange
	source io.Reader // of the bytes as sent, bounded
	zipped bool
	plain  io.Reader // of what they mean; nil before the first read
	limit  int64     // of both
	left   int64     // of what they may mean
	err    error
}

// openBody returns a reader of the body, which refuses more than limit bytes
// both as they are sent and as they are once decompressed.
func (s *Server) openBody(x *exchange, limit int64) (*body, error) {
	if x.r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	zipped := false
	switch encoding := strings.ToLower(strings.Join(x.r.Header.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
	case "gzip":
		zipped = true
	default:
		x.w.Header().Set("Accept-Encoding", "gzip")
		return nil, refuse(kindEncoding, "the body's Content-Encoding is neither gzip nor identity")
	}
	return &body{
		server: s, x: x,
		source: http.MaxBytesReader(x.w, x.r.Body, limit), zipped: zipped,
		limit: limit, left: limit,
	}, nil
}

// awaitBody gives the client the body's timeout, from now on, for what it has to send,
// whether a handler reads it or not: net/http waits for the rest before it answers. It
// lifts that deadline when the body has ended, and goes on reading to notice that the
// client leaves.
func (s *Server) awaitBody(x *exchange) error {
	if x.r.Body == http.NoBody {
		return nil // it is being read already
	}
	deadline := time.Now().Add(s.bodyTimeout)
	if err := supported(http.NewResponseController(x.w).SetReadDeadline(deadline)); err != nil {
		return fmt.Errorf("set read deadline: %w", err)
	}
	return nil
}

// openStream is openBody for a body that may take as long as it likes, as long
// as it keeps coming: each read has the timeout for itself. What is read after
// the client's credentials have ended is refused.
func (s *Server) openStream(x *exchange, limit int64) (streamedBody, error) {
	b, err := s.openBody(x, limit)
	return streamedBody{b}, err
}

type streamedBody struct{ *body }

func (b streamedBody) Read(p []byte) (int, error) {
	if b.err == nil {
		b.err = b.server.awaitBody(b.x)
	}
	n, err := b.body.Read(p)
	if ended := b.x.principal.Check(); ended != nil {
		n, b.err = 0, refuseCredentials(b.x, ended)
		err = b.err
	}
	return n, err
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = 0, tooLarge(b.limit)
	}
	if err != nil {
		b.err = b.word(err)
	}
	return n, b.err
}

func (b *body) read(p []byte) (int, error) {
	if b.plain == nil {
		b.plain = b.source
		if b.zipped {
			unzipped, err := gzip.NewReader(b.source)
			if err != nil {
				return 0, unexpected(err)
			}
			b.plain = unzipped
		}
	}
	return b.plain.Read(p)
}

// unexpected: a compressed body that is empty is no body.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// word says of an error what the client should know.
func (b *body) word(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	var (
		tooMany *http.MaxBytesError
		known   *refusal
	)
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &tooMany):
		return tooLarge(b.limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(kindBodyTimeout, fmt.Sprintf("the body did not arrive within %s", b.server.bodyTimeout))
	}
	return refuse(kindBodyIncomplete, "the body ended early or is malformed")
}

// refused returns why the body could not be read to its end, nil if it was, or
// if nobody tried.
func (b *body) refused() error {
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

func tooLarge(limit int64) error {
	return refuse(kindBodyTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit))
}
