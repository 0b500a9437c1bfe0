// Package httpclient calls the HTTP API of an Engram server. Every call names
// its space in the path, so no call can end in a space that was not named.
package httpclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/wire"
)

// maxAnswerBytes bounds an answer that is decoded as a whole. The longest is a
// recall of the longest contents there can be.
const maxAnswerBytes = 2 << 30

// maxProblemBytes bounds a problem document.
const maxProblemBytes = 64 << 10

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base func() string
	http *http.Client
}

// New returns a client of the server at a URL such as http://127.0.0.1:7432. A
// nil transport is the default one.
func New(base string, transport http.RoundTripper) (*Client, error) {
	u, err := ParseAddress(base)
	if err != nil {
		return nil, err
	}
	return NewMoving(u.String, transport), nil
}

// ParseAddress reads the address of a server. It may not have a path or query: the
// server would not see them, and what is at the address without might be another.
func ParseAddress(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no address of a server: it must look like http://127.0.0.1:7432", base)
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}, nil
}

// NewMoving returns a client of a server whose address may change, as that of a
// server that is restarted does.
func NewMoving(base func() string, transport http.RoundTripper) *Client {
	return &Client{base: base, http: &http.Client{Transport: transport}}
}

// Space returns the client of one space.
func (c *Client) Space(id engram.SpaceID) *Space { return &Space{client: c, id: id} }

// call is one request.
type call struct {
	method  string
	path    string // escaped, below the server's address
	query   url.Values
	body    any       // becomes JSON; nil: none
	stream  io.Reader // the body as it is
	request string    // makes a retry take effect once
	match   string    // the entity tag to insist on
	accept  string
	mayLack bool // an answer may have nothing in it
}

func spacePath(id engram.SpaceID) string { return "/v1/spaces/" + wire.PathSegment(string(id)) }

// send sends the request and returns the answer, whose body is the caller's to
// close. An answer that is no success is a *Problem.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	body := k.stream
	if k.body != nil {
		if err := requireText(k.body); err != nil {
			return nil, err
		}
		text, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	target := c.base() + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"Idempotency-Key": k.request, "If-Match": k.match, "Accept": k.accept} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, errors.Join(problemOf(response), response.Body.Close())
	}
	return response, nil
}

// do sends the request and decodes the answer into v. A nil v is for what is answered
// without a body.
func (c *Client) do(ctx context.Context, k call, v any) (http.Header, error) {
	response, err := c.send(ctx, k)
	if err != nil {
		return nil, err
	}
	if v == nil {
		err = requireEmpty(response)
	} else if err = decode(response, v); err == nil && !k.mayLack && reflect.ValueOf(v).Elem().IsZero() {
		// An Engram server gives an empty list, a seq or an id.
		err = fmt.Errorf("%w: it answers with JSON of something else", ErrNoServer)
	}
	return response.Header, errors.Join(err, response.Body.Close())
}

func decode(response *http.Response, v any) error {
	if err := requireType(response, "application/json"); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// requireEmpty refuses an answer that should have no body and has.
func requireEmpty(response *http.Response) error {
	if response.StatusCode == http.StatusNoContent {
		return nil
	}
	return fmt.Errorf("%w: it answers with %s and %q", ErrNoServer, response.Status, response.Header.Get("Content-Type"))
}

// requireType refuses an answer of another media type: an Engram server gives none, but
// a proxy or a login page may, with a status that looks like success.
func requireType(response *http.Response, want string) error {
	given := response.Header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(given); err != nil || kind != want {
		return fmt.Errorf("%w: it answers with %q", ErrNoServer, given)
	}
	return nil
}
