package verify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
)

const maxRawBytes = 64 << 20 // of an answer that is read as it is

// web is a server over HTTP, its events as server-sent events.
type web struct {
	*httpclient.Client

	base string
	http *http.Client
}

// openWeb returns the server at an address such as http://127.0.0.1:7432. An
// empty key shows none.
func openWeb(address, key string, config *tls.Config) (*web, error) {
	carrier := &keyed{key: key, next: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 64}}
	client, err := httpclient.New(address, carrier)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return &web{Client: client, base: u.Scheme + "://" + u.Host, http: &http.Client{Transport: carrier}}, nil
}

// keyed shows a key with each request.
type keyed struct {
	key  string
	next *http.Transport
}

func (k *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.key != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+k.key)
	}
	return k.next.RoundTrip(r)
}

func (k *keyed) CloseIdleConnections() { k.next.CloseIdleConnections() }

func (w *web) name() string { return overHTTP }

func (w *web) create(ctx context.Context, id engram.SpaceID) error {
	_, err := w.Create(ctx, id, engram.SpaceConfig{})
	return err
}

func (w *web) space(id engram.SpaceID) space { return webSpace{w.Space(id), w} }

// webSpace is a space over HTTP.
type webSpace struct {
	*httpclient.Space

	web *web
}

func (s webSpace) remember(ctx context.Context, m engram.Memory, how write) (receipt engram.Receipt, err error) {
	if how.version == "" {
		return s.Remember(ctx, m, how.requestID)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return receipt, err
	}
	header := map[string]string{"If-Match": how.version}
	if how.requestID != "" {
		header["Idempotency-Key"] = how.requestID
	}
	got, err := s.web.ask(ctx, request{http.MethodPost, scoped(s.ID(), "/memories"), header, string(body)})
	if err != nil {
		return receipt, err
	}
	return receipt, got.decode(&receipt)
}

func (s webSpace) version(ctx context.Context) (string, error) {
	got, err := s.web.ask(ctx, request{method: http.MethodGet, path: scoped(s.ID(), "")})
	if err != nil {
		return "", err
	}
	return got.header.Get("ETag"), got.problem()
}

func (s webSpace) page(ctx context.Context, cursor string, limit int) ([]engram.Memory, string, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	got, err := s.web.ask(ctx, request{method: http.MethodGet, path: scoped(s.ID(), "/memories?"+query.Encode())})
	if err != nil {
		return nil, "", err
	}
	var page struct {
		Memories []engram.Memory `json:"memories"`
		Next     string          `json:"next"`
	}
	err = got.decode(&page)
	return page.Memories, page.Next, err
}

// scoped returns the path of something in a space.
func scoped(id engram.SpaceID, rest string) string {
	return "/v1/spaces/" + url.PathEscape(string(id)) + rest
}

// request is one that is sent as it stands.
type request struct {
	method string
	path   string // with the query
	header map[string]string
	body   string // JSON; empty: none
}

// answer is all that a client sees.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request and returns whatever is answered. An error says that
// nothing was.
func (w *web) ask(ctx context.Context, r request) (answer, error) {
	sent, err := w.prepare(ctx, r)
	if err != nil {
		return answer{}, err
	}
	response, err := w.http.Do(sent)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxRawBytes))
	err = errors.Join(err, response.Body.Close())
	return answer{response.StatusCode, response.Header, string(body)}, err
}

func (w *web) prepare(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	sent, err := http.NewRequestWithContext(ctx, r.method, w.base+r.path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		sent.Header.Set("Content-Type", "application/json")
	}
	for name, value := range r.header {
		sent.Header.Set(name, value)
	}
	return sent, nil
}

// problem returns the error that the answer is, nil where it is none.
func (a answer) problem() error {
	if a.status < http.StatusMultipleChoices {
		return nil
	}
	var problem httpclient.Problem
	if err := json.Unmarshal([]byte(a.body), &problem); err != nil || problem.Type == "" {
		return fmt.Errorf("%w: it answers with status %d", httpclient.ErrNoServer, a.status)
	}
	return &problem
}

func (a answer) decode(v any) error {
	if err := a.problem(); err != nil {
		return err
	}
	return json.Unmarshal([]byte(a.body), v)
}

// public words what two requests that mean the same must have in common: all but
// the date and the request's id.
func (a answer) public() string {
	header := a.header.Clone()
	for _, name := range []string{"Date", requestIDHeader} {
		header.Del(name)
	}
	var lines strings.Builder
	_ = header.Write(&lines) // a strings.Builder takes everything; the names come in order
	return fmt.Sprintf("%d\n%s\n%s", a.status, lines.String(), a.body)
}
