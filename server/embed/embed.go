// Package embed has clients of two common embedding services for
// [engram.Options].Embedder: those that speak OpenAI's /v1/embeddings, and
// Ollama's /api/embed.
//
// Nothing here is used unless it is configured: engram itself knows no network.
// What is sent to the service are the contents of memories and the texts of
// cues, so it is as much a part of a tenant's trust as the data directory is.
package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/engramdb/engram"
)

// Limits and defaults of a client.
const (
	defaultBatch   = 64
	maxBatch       = 2048
	defaultTimeout = 30 * time.Second
	defaultRetries = 3
	firstPause     = 250 * time.Millisecond
	maxPause       = 30 * time.Second
	// bytesPerNumber is more than a number takes in JSON, with all the digits of a
	// float64 and the indentation of a line of its own.
	bytesPerNumber = 64
	maxErrorBytes  = 1 << 10
)

// ErrService is what every failure of the service matches: it could not be
// reached, it refused, or it answered what it should not. None has a text that was sent.
var ErrService = errors.New("embedding service")

// Config of a client.
type Config struct {
	// URL of the service, without the path of the call: "https://api.openai.com",
	// "http://127.0.0.1:11434".
	URL string
	// Model that the service knows.
	Model string
	// Dimension of the model's vectors. An answer of another one is refused.
	Dimension int
	// Key that is sent as bearer token, if there is one. It is in no error.
	Key string
	// Batch is how many texts are sent at a time, 1 to 2048; default 64.
	Batch int
	// Timeout of each request; default 30 s.
	Timeout time.Duration
	// Retries of a request that failed with 429 or 5xx, or was not answered;
	// default 3, negative none. The pause before each is twice the one before, or
	// what the service asks for with Retry-After, at most 30 s. One that the caller's
	// deadline does not leave time for is not begun.
	Retries int
	// Client that makes the requests; default one of its own, which follows no
	// redirect: the key is not shown to whoever it leads to.
	Client *http.Client
}

// client is what both services share.
type client struct {
	Config
	service  string
	endpoint string
	decode   func(body []byte, n int) ([][]float32, error)
	pause    func(ctx context.Context, d time.Duration) error
}

// NewOpenAI returns a client of a service that speaks OpenAI's POST
// /v1/embeddings. It makes no request.
func NewOpenAI(c Config) (engram.Embedder, error) {
	return newClient(c, "openai", "v1/embeddings", decodeOpenAI)
}

// NewOllama returns a client of Ollama's POST /api/embed. It makes no request.
func NewOllama(c Config) (engram.Embedder, error) {
	return newClient(c, "ollama", "api/embed", decodeOllama)
}

func newClient(c Config, service, path string, decode func([]byte, int) ([][]float32, error)) (engram.Embedder, error) {
	base, err := url.Parse(c.URL)
	switch {
	case err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil:
		return nil, fmt.Errorf("%w: its URL is not http or https with a host and nothing secret in it", ErrService)
	case c.Model == "":
		return nil, fmt.Errorf("%w: no model is named", ErrService)
	case strings.ContainsFunc(c.Key, unicode.IsControl):
		return nil, fmt.Errorf("%w: its key has a control character, which no header can have", ErrService)
	case c.Dimension < engram.MinDimension || c.Dimension > engram.MaxDimension:
		return nil, fmt.Errorf("%w: dimension %d is not %d to %d", ErrService, c.Dimension, engram.MinDimension, engram.MaxDimension)
	case c.Batch < 0 || c.Batch > maxBatch:
		return nil, fmt.Errorf("%w: batch %d is not 1 to %d", ErrService, c.Batch, maxBatch)
	}
	if c.Batch == 0 {
		c.Batch = defaultBatch
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Retries == 0 {
		c.Retries = defaultRetries
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	x := &client{Config: c, service: service, endpoint: base.JoinPath(path).String(), decode: decode, pause: wait}
	if len(x.ID()) > engram.MaxEmbedderIDBytes {
		return nil, fmt.Errorf("%w: the model's name is too long", ErrService)
	}
	return x, nil
}

// ID implements [engram.Embedder]. It names the model and its dimension, which
// some services cut to size, and not where the service runs.
func (x *client) ID() string {
	return x.service + "/" + x.Model + "/" + strconv.Itoa(x.Config.Dimension)
}

// Dimension implements [engram.Embedder].
func (x *client) Dimension() int { return x.Config.Dimension }

// EmbedQuery implements [engram.Embedder].
func (x *client) EmbedQuery(ctx context.Context, text string) ([]float32, error) {
	vectors, err := x.EmbedDocuments(ctx, []string{text})
	if err != nil {
		return nil, err
	}
	return vectors[0], nil
}

// EmbedDocuments implements [engram.Embedder].
func (x *client) EmbedDocuments(ctx context.Context, texts []string) ([][]float32, error) {
	var all [][]float32
	for len(texts) > 0 {
		n := min(x.Batch, len(texts))
		vectors, err := x.batch(ctx, texts[:n])
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrService, x.service, err)
		}
		all, texts = append(all, vectors...), texts[n:]
	}
	return all, nil
}

// batch makes one request, and repeats it while that may help.
func (x *client) batch(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := json.Marshal(map[string]any{"model": x.Model, "input": texts})
	if err != nil {
		return nil, err
	}
	pause := firstPause
	for try := 0; ; try++ {
		answer, err := x.post(ctx, body, len(texts))
		if err == nil {
			return x.vectors(answer, len(texts))
		}
		var again *retryable
		if !errors.As(err, &again) || try >= x.Retries || ctx.Err() != nil {
			return nil, err
		}
		after := min(max(pause, again.after), maxPause)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= after {
			return nil, err
		}
		if ended := x.pause(ctx, after); ended != nil {
			return nil, fmt.Errorf("%w, after %w", ended, err)
		}
		pause = min(2*pause, maxPause)
	}
}

// retryable is a failure that may pass.
type retryable struct {
	error
	after time.Duration // what the service asks for; 0: nothing
}

// Unwrap returns the failure.
func (e *retryable) Unwrap() error { return e.error }

// post makes one request and returns what it is answered with.
func (x *client) post(ctx context.Context, body []byte, n int) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if x.Key != "" {
		r.Header.Set("Authorization", "Bearer "+x.Key)
	}
	response, err := x.Client.Do(r)
	var whole *url.Error // which has the URL, and what may be secret in its query
	if errors.As(err, &whole) {
		err = fmt.Errorf("%s: %w", r.URL.Host, whole.Err)
	}
	if err != nil {
		return nil, &retryable{error: err}
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return nil, x.refused(response)
	}
	limit := int64(n)*int64(x.Config.Dimension)*bytesPerNumber + 64<<10
	answer, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, &retryable{error: err}
	case int64(len(answer)) > limit:
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return answer, nil
}

// refused says what the service answered instead of vectors. Errors are logged, and
// services repeat in their answers what they were sent: only what one says of the caller
// or of the model is told.
func (x *client) refused(response *http.Response) error {
	err := fmt.Errorf("status %d", response.StatusCode)
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
		err = fmt.Errorf("%w: %q", err, x.said(response))
	}
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode < http.StatusInternalServerError {
		return err
	}
	return &retryable{error: err, after: retryAfter(response.Header.Get("Retry-After"))}
}

// said returns the beginning of an answer, without the key.
func (x *client) said(response *http.Response) string {
	// As much more as a key that begins in the last byte shown is long: the status says enough.
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes+int64(len(x.Key))))
	text, more := string(said), max(len(said)-maxErrorBytes, 0)
	if x.Key != "" {
		text = strings.ReplaceAll(text, x.Key, "[key]")
	}
	return strings.ToValidUTF8(text[:max(len(text)-more, 0)], "?")
}

// retryAfter reads the header's seconds, or its date.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// vectors decodes and checks an answer.
func (x *client) vectors(answer []byte, n int) ([][]float32, error) {
	vectors, err := x.decode(answer, n)
	if err != nil {
		return nil, err
	}
	if len(vectors) != n {
		return nil, wrongCount(len(vectors), n)
	}
	for _, v := range vectors {
		if len(v) != x.Config.Dimension {
			return nil, fmt.Errorf("a vector of dimension %d, not %d as configured", len(v), x.Config.Dimension)
		}
	}
	return vectors, nil
}

func wrongCount(vectors, texts int) error {
	return fmt.Errorf("%d vectors for %d texts", vectors, texts)
}

// decodeOpenAI puts the vectors in the order of their indexes.
func decodeOpenAI(body []byte, n int) ([][]float32, error) {
	var answer struct {
		Data []struct {
			Index     int     `json:"index"`
			Embedding numbers `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if len(answer.Data) != n { // of those that are missing no dimension is wrong
		return nil, wrongCount(len(answer.Data), n)
	}
	vectors := make([][]float32, n)
	for _, d := range answer.Data {
		if d.Index < 0 || d.Index >= n || vectors[d.Index] != nil {
			return nil, fmt.Errorf("index %d is out of range, or occurs twice", d.Index)
		}
		vectors[d.Index] = d.Embedding
	}
	return vectors, nil
}

func decodeOllama(body []byte, _ int) ([][]float32, error) {
	var answer struct {
		Embeddings []numbers `json:"embeddings"`
	}
	err := json.Unmarshal(body, &answer)
	vectors := make([][]float32, len(answer.Embeddings))
	for i, v := range answer.Embeddings {
		vectors[i] = v
	}
	return vectors, err
}

// numbers is a vector in an answer. Some services write null for what is no number,
// which would be read as 0.
type numbers []float32

// UnmarshalJSON implements [json.Unmarshaler].
func (v *numbers) UnmarshalJSON(text []byte) error {
	if bytes.Contains(text, []byte("null")) {
		return errors.New("a vector has null for a number")
	}
	return json.Unmarshal(text, (*[]float32)(v))
}

// wait waits, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
