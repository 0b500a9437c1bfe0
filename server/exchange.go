package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
)

// exchange is one request and what has been answered so far. Every answer goes
// through it, so that the access log tells the truth.
type exchange struct {
	request

	server *Server

	w     http.ResponseWriter
	r     *http.Request
	route route
	tool  string // that is called, whose arguments are the body; empty: the request is no call of a tool

	writeTimeout time.Duration // of one part of the answer

	requestID string
	status    int   // 0: nothing has been sent
	bytes     int   // of the answer's body
	sendErr   error // of sending it
	broken    bool  // it failed after a part of it was sent
}

// handler wraps a route: the checks that need no body, the answer to an error,
// the access log.
func (s *Server) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{server: s, w: w, route: rt, writeTimeout: s.writeTimeout, requestID: requestIDOf(r)}
		x.began = time.Now()
		x.r, x.span = s.traceRequest(r, rt)
		defer s.finish(x)
		w.Header().Set(requestIDHeader, x.requestID)
		err := s.admit(x)
		if err == nil {
			err = s.survive(zap.String("route", rt.path), func() error { return rt.handle(s, x) })
		}
		x.broken = err != nil && x.status != 0
		switch {
		case x.broken:
			x.sendErr = errors.Join(x.sendErr, err)
		case err != nil:
			s.answerError(x, err)
		}
		if x.broken {
			// Part of the answer is on its way. Only a connection that breaks tells
			// the client that it is not whole.
			panic(http.ErrAbortHandler)
		}
	})
}

// admit refuses what no route may answer, before anything of it is looked at.
func (s *Server) admit(x *exchange) error {
	if err := s.awaitBody(x); err != nil {
		return err
	}
	if err := s.checkFraming(x); err != nil {
		return err
	}
	if err := s.checkHost(x.r); err != nil {
		return err
	}
	if err := s.origins.Check(x.r); err != nil {
		return refuse(kindCrossOrigin, "the request comes from a web page of another origin")
	}
	if err := s.authenticate(x); err != nil {
		return err
	}
	return s.take(&x.request, addressOf(x.r.RemoteAddr))
}

// outcome tells how it ended. An answer that is the server's fault, that broke off, or
// that there is none of, is a fault.
func (x *exchange) outcome() outcome {
	o := outcome{transport: transportHTTP, route: x.route.path, status: strconv.Itoa(x.status)}
	if x.tool != "" {
		o.transport, o.route = transportMCP, x.tool
	}
	switch {
	case x.status == 0:
		o.fault = "no answer"
	case x.status >= http.StatusInternalServerError:
		o.fault = x.problem
	case x.broken:
		o.fault = "the answer is not whole"
	}
	return o
}

func (x *exchange) spanAttributes() []attribute.KeyValue {
	if x.tool != "" {
		return nil
	}
	return []attribute.KeyValue{attribute.Int(attributeStatus, x.status)}
}

func (x *exchange) logFields() []zap.Field {
	fields := []zap.Field{
		zap.String("request_id", x.requestID), zap.Int("status", x.status), zap.String("remote", x.r.RemoteAddr),
	}
	if x.tool != "" {
		return fields
	}
	return append(fields, zap.String("method", x.r.Method), zap.Int("bytes", x.bytes), zap.Error(x.sendErr))
}

// supported ignores that a writer which is no connection, as in tests and
// behind other handlers, has no deadlines.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// answer sends v as JSON. It is encoded before anything is sent, so that an
// answer is whole or an error.
func (x *exchange) answer(status int, v any) error {
	var encoded bytes.Buffer
	if err := json.NewEncoder(&encoded).Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	body := encoded.Bytes()
	if x.route.verb == verbRead { // what is written has been done: its answer is short, and must not be refused
		if err := x.server.holdAnswer(&x.request, int64(len(body))); err != nil {
			return err
		}
	}
	return x.send(status, "application/json", body)
}

// send sends the answer, compressed where that helps. A failure to send is for
// the access log only: what was asked for has been done, and nobody is there to
// be told otherwise.
func (x *exchange) send(status int, contentType string, body []byte) error {
	header := x.begin(contentType)
	if compressed, ok := x.compress(body); ok {
		body = compressed
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.status = status
	if x.sendErr = x.extendWrite(); x.sendErr != nil {
		return nil
	}
	x.w.WriteHeader(status)
	_, x.sendErr = x.Write(body)
	return nil
}

// begin sets what every answer's header says.
func (x *exchange) begin(contentType string) http.Header {
	header := x.w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	if header.Get("Cache-Control") == "" {
		header.Set("Cache-Control", "no-store")
	}
	return header
}

// answerEmpty sends a status without a body.
func (x *exchange) answerEmpty(status int) error {
	x.status = status
	if x.sendErr = x.extendWrite(); x.sendErr == nil {
		x.w.WriteHeader(status)
	}
	return nil
}

// extendWrite gives the client time for what is written next.
func (x *exchange) extendWrite() error {
	return supported(http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.writeTimeout)))
}

// partBytes is the most of an answer that is written within one time-out, but of events.
const partBytes = 64 << 10

// Write sends p, or a part of an answer whose length is not known. The client has the
// time-out for each partBytes of it: who takes longer is cut off, and who is slow is not.
func (x *exchange) Write(p []byte) (n int, err error) {
	for {
		part := p[n:min(len(p), n+partBytes)]
		written, err := x.writePart(part)
		if n += written; err != nil || n == len(p) {
			return n, err
		}
	}
}

// writePart sends p within one time-out.
func (x *exchange) writePart(p []byte) (int, error) {
	if err := x.extendWrite(); err != nil {
		return 0, err
	}
	if x.status == 0 {
		x.status = http.StatusOK
		x.w.WriteHeader(http.StatusOK)
	}
	n, err := x.w.Write(p)
	x.bytes += n
	return n, err
}
