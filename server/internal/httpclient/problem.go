package httpclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/wire"
)

// ErrNoServer says that what answers at the address is not an Engram server.
var ErrNoServer = errors.New("no Engram server")

const typePrefix = "urn:engram:problem:"

// Problem is an answer that is an error. It matches, with errors.Is, the error of
// the library that it stands for.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
	Quota  string `json:"quota"`
	Floor  uint64 `json:"floor"` // of history-trimmed: the last seq that is not kept
	// Near are spaces that may have been meant, of space-not-found.
	Near []engram.SpaceID `json:"near"`

	document string
}

// Document returns the problem document as the server sent it.
func (p *Problem) Document() string { return p.document }

// Slug returns the part of the type that tells kinds of problems apart.
func (p *Problem) Slug() string { return strings.TrimPrefix(p.Type, typePrefix) }

// Unauthenticated reports whether the server knows no credential of the caller.
func (p *Problem) Unauthenticated() bool { return p.Slug() == "unauthenticated" }

// Error returns the detail: what a caller of the library would read.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Is reports whether target is the error for this problem, the library's or that of a context.
func (p *Problem) Is(target error) bool {
	sentinel := wire.Sentinel(p.Slug())
	return sentinel != nil && errors.Is(sentinel, target)
}

// problemOf reads the problem document of an answer.
func problemOf(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProblemBytes))
	if err != nil {
		return fmt.Errorf("read problem: %w", err)
	}
	p := Problem{document: string(text)}
	if err := json.Unmarshal(text, &p); err != nil || !strings.HasPrefix(p.Type, typePrefix) {
		return fmt.Errorf("%w: it answers with status %s", ErrNoServer, response.Status)
	}
	return &p
}

// Refusing is a transport that returns the problem document of an answer as an error,
// a *Problem: some clients keep only the status of an answer that is one.
type Refusing struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t Refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(r)
	if err != nil || response.Header.Get("Content-Type") != "application/problem+json" {
		return response, err
	}
	return nil, errors.Join(problemOf(response), response.Body.Close())
}
