package embed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

type call struct {
	Model string   `json:"model"`
	Input []string `json:"input"`
}

// service serves answer, and keeps what it was asked.
func service(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, c call)) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c call
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, r, c)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// vectorOf is a vector that says which text it is of.
func vectorOf(text string) []float32 { return []float32{float32(len(text)), 1} }

func openAIAnswer(texts []string) any {
	var data []any
	for i := len(texts) - 1; i >= 0; i-- { // the order is not promised
		data = append(data, map[string]any{"index": i, "embedding": vectorOf(texts[i])})
	}
	return map[string]any{"data": data}
}

func ollamaAnswer(texts []string) any {
	var list [][]float32
	for _, text := range texts {
		list = append(list, vectorOf(text))
	}
	return map[string]any{"embeddings": list}
}

func write(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) } // the client says what it got

// paused makes a client note its pauses instead of waiting.
func paused(e engram.Embedder) *[]time.Duration {
	list := new([]time.Duration)
	e.(*client).pause = func(_ context.Context, d time.Duration) error {
		*list = append(*list, d)
		return nil
	}
	return list
}

func TestServices(t *testing.T) {
	for name, s := range map[string]struct {
		make   func(Config) (engram.Embedder, error)
		path   string
		answer func([]string) any
	}{
		"openai": {NewOpenAI, "/base/v1/embeddings", openAIAnswer},
		"ollama": {NewOllama, "/base/api/embed", ollamaAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			var calls []int
			var seen []string
			url := service(t, func(w http.ResponseWriter, r *http.Request, c call) {
				calls = append(calls, len(c.Input))
				seen = append(seen, r.URL.Path, r.Method, r.Header.Get("Authorization"), c.Model)
				write(w, s.answer(c.Input))
			})
			e, err := s.make(Config{URL: url + "/base/", Model: "m", Dimension: 2, Key: "secret", Batch: 3})
			require.NoError(t, err)
			require.Equal(t, name+"/m/2", e.ID())
			require.Equal(t, 2, e.Dimension())
			require.Empty(t, calls, "making a client makes no request")
			texts := []string{"", "a", "bb", "ccc", "dddd", "eeeee", "ffffff"}
			vectors, err := e.EmbedDocuments(context.Background(), texts)
			require.NoError(t, err)
			require.Len(t, vectors, len(texts))
			for i, text := range texts {
				require.Equal(t, vectorOf(text), vectors[i])
			}
			require.Equal(t, []int{3, 3, 1}, calls)
			require.Equal(t, []string{s.path, http.MethodPost, "Bearer secret", "m"}, seen[:4])
			v, err := e.EmbedQuery(context.Background(), "four")
			require.NoError(t, err)
			require.Equal(t, vectorOf("four"), v)
		})
	}
}

func TestRetries(t *testing.T) {
	var n atomic.Int32
	url := service(t, func(w http.ResponseWriter, _ *http.Request, c call) {
		switch n.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case 3:
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			write(w, openAIAnswer(c.Input))
		}
	})
	e, err := NewOpenAI(Config{URL: url, Model: "m", Dimension: 2})
	require.NoError(t, err)
	pauses := paused(e)
	_, err = e.EmbedQuery(context.Background(), "x")
	require.NoError(t, err)
	require.Equal(t, []time.Duration{firstPause, 7 * time.Second, maxPause}, *pauses)
}

// However often a request is repeated, no pause is shorter than the one before.
func TestManyRetries(t *testing.T) {
	url := service(t, func(w http.ResponseWriter, _ *http.Request, _ call) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	e, err := NewOpenAI(Config{URL: url, Model: "m", Dimension: 2, Retries: 100})
	require.NoError(t, err)
	pauses := paused(e)
	_, err = e.EmbedQuery(context.Background(), "x")
	require.ErrorIs(t, err, ErrService)
	require.Len(t, *pauses, 100)
	require.IsNonDecreasing(t, *pauses)
	require.Equal(t, maxPause, (*pauses)[99])
}

func TestRefusals(t *testing.T) {
	for name, x := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, c call)
		tries  int32
	}{
		"a client error is not repeated": {func(w http.ResponseWriter, r *http.Request, _ call) {
			http.Error(w, "bad "+r.Header.Get("Authorization"), http.StatusUnauthorized)
		}, 1},
		"a long answer is cut, not the key in it": {func(w http.ResponseWriter, r *http.Request, _ call) {
			key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			http.Error(w, key+strings.Repeat("-", maxErrorBytes-len(key)-3)+key+"-", http.StatusUnauthorized)
		}, 1},
		"the texts, which are not told": {func(w http.ResponseWriter, _ *http.Request, c call) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			write(w, c)
		}, 1},
		"the texts, as a server's error": {func(w http.ResponseWriter, _ *http.Request, c call) {
			w.WriteHeader(http.StatusInternalServerError)
			write(w, c)
		}, 3},
		"a server error is, and ends": {func(w http.ResponseWriter, _ *http.Request, _ call) {
			w.WriteHeader(http.StatusBadGateway)
		}, 3},
		"another dimension": {func(w http.ResponseWriter, _ *http.Request, _ call) {
			write(w, map[string]any{"data": []any{map[string]any{"index": 0, "embedding": []float32{1, 2, 3}}}})
		}, 1},
		"no vector": {func(w http.ResponseWriter, _ *http.Request, _ call) { write(w, map[string]any{}) }, 1},
		"an index":  {func(w http.ResponseWriter, _ *http.Request, _ call) { write(w, openAIAnswer([]string{"a", "b"})) }, 1},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request, _ call) { _, _ = w.Write([]byte("<html>")) }, 1},
		"a redirect": {func(w http.ResponseWriter, r *http.Request, _ call) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, 1},
		"without end": {func(w http.ResponseWriter, _ *http.Request, _ call) {
			for range 64 {
				if _, err := w.Write([]byte(strings.Repeat(" ", 64<<10))); err != nil {
					return
				}
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			url := service(t, func(w http.ResponseWriter, r *http.Request, c call) {
				n.Add(1)
				x.answer(w, r, c)
			})
			e, err := NewOpenAI(Config{URL: url, Model: "m", Dimension: 2, Key: "secret", Retries: 2})
			require.NoError(t, err)
			paused(e)
			_, err = e.EmbedQuery(context.Background(), "canary")
			require.ErrorIs(t, err, ErrService)
			require.NotContains(t, fmt.Sprint(err), "sec")
			require.NotContains(t, fmt.Sprint(err), "canary")
			require.Equal(t, x.tries, n.Load())
		})
	}
}

// What a service says of the model helps, and what stands in its URL is for it alone.
func TestErrors(t *testing.T) {
	unknown := service(t, func(w http.ResponseWriter, _ *http.Request, c call) {
		http.Error(w, "pull "+c.Model+" first", http.StatusNotFound)
	})
	closed := httptest.NewServer(nil)
	closed.Close()
	for url, says := range map[string]string{unknown: "pull m first", closed.URL: strings.TrimPrefix(closed.URL, "http://")} {
		e, err := NewOllama(Config{URL: url + "?key=secret", Model: "m", Dimension: 2, Retries: -1})
		require.NoError(t, err)
		_, err = e.EmbedQuery(context.Background(), "x")
		require.ErrorIs(t, err, ErrService)
		require.Contains(t, fmt.Sprint(err), says)
		require.NotContains(t, fmt.Sprint(err), "secret")
	}
}

// A null is no number: of a vector with one nothing is known.
func TestNullsAreRefused(t *testing.T) {
	for name, answer := range map[string]string{
		"openai": `{"data": [{"index": 0, "embedding": [1, null]}], "usage": null}`,
		"ollama": `{"embeddings": [[1, null]], "model": null}`,
	} {
		newEmbedder := map[string]func(Config) (engram.Embedder, error){"openai": NewOpenAI, "ollama": NewOllama}[name]
		body := answer
		url := service(t, func(w http.ResponseWriter, _ *http.Request, _ call) { _, _ = w.Write([]byte(body)) })
		e, err := newEmbedder(Config{URL: url, Model: "m", Dimension: 2})
		require.NoError(t, err)
		_, err = e.EmbedQuery(context.Background(), "x")
		require.ErrorIs(t, err, ErrService, name)
		body = strings.Replace(answer, "1, null", "1, 2", 1)
		v, err := e.EmbedQuery(context.Background(), "x")
		require.NoError(t, err)
		require.Equal(t, []float32{1, 2}, v, name)
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	url := service(t, func(_ http.ResponseWriter, r *http.Request, _ call) {
		cancel()
		<-r.Context().Done()
	})
	e, err := NewOllama(Config{URL: url, Model: "m", Dimension: 2})
	require.NoError(t, err)
	_, err = e.EmbedQuery(ctx, "x")
	require.ErrorIs(t, err, context.Canceled)

	done, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, wait(done, time.Hour), context.Canceled)
	past, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	require.ErrorIs(t, wait(past, time.Hour), context.DeadlineExceeded)
	require.NoError(t, wait(context.Background(), time.Nanosecond))
}

// What a pause would outlast is not waited for, and what ends one does not hide what it
// was for.
func TestPausesEndWithTheirContext(t *testing.T) {
	url := service(t, func(w http.ResponseWriter, _ *http.Request, _ call) {
		w.Header().Set("Retry-After", "20")
		http.Error(w, "quota is used up", http.StatusTooManyRequests)
	})
	e, err := NewOpenAI(Config{URL: url, Model: "m", Dimension: 2})
	require.NoError(t, err)
	pauses := paused(e)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = e.EmbedQuery(ctx, "x")
	require.ErrorIs(t, err, ErrService)
	require.ErrorContains(t, err, "quota is used up")
	require.Empty(t, *pauses)

	e.(*client).pause = func(context.Context, time.Duration) error { return context.Canceled }
	_, err = e.EmbedQuery(context.Background(), "x")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "quota is used up")
}

// What says nothing of vectors says nothing of their dimension.
func TestAnswersWithoutVectors(t *testing.T) {
	for name, newEmbedder := range map[string]func(Config) (engram.Embedder, error){"openai": NewOpenAI, "ollama": NewOllama} {
		url := service(t, func(w http.ResponseWriter, _ *http.Request, _ call) { write(w, map[string]any{"error": "overloaded"}) })
		e, err := newEmbedder(Config{URL: url, Model: "m", Dimension: 2})
		require.NoError(t, err)
		_, err = e.EmbedQuery(context.Background(), "x")
		require.ErrorIs(t, err, ErrService, name)
		require.ErrorContains(t, err, "0 vectors for 1 texts", name)
	}
}

// Answers may be indented, and have more digits than are of use.
func TestIndentedAnswers(t *testing.T) {
	const dimension = 256
	vector := make([]float64, dimension)
	for i := range vector {
		vector[i] = -1 / float64(3000+i)
	}
	url := service(t, func(w http.ResponseWriter, _ *http.Request, c call) {
		var data []any
		for i := range c.Input {
			data = append(data, map[string]any{"index": i, "embedding": vector})
		}
		to := json.NewEncoder(w)
		to.SetIndent("", "    ")
		_ = to.Encode(map[string]any{"data": data})
	})
	e, err := NewOpenAI(Config{URL: url, Model: "m", Dimension: dimension})
	require.NoError(t, err)
	_, err = e.EmbedDocuments(context.Background(), slices.Repeat([]string{"x"}, defaultBatch))
	require.NoError(t, err)
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{URL: "http://127.0.0.1:1", Model: "m", Dimension: 2}
	for name, change := range map[string]func(*Config){
		"no URL":     func(c *Config) { c.URL = "" },
		"scheme":     func(c *Config) { c.URL = "file:///etc/passwd" },
		"a password": func(c *Config) { c.URL = "http://a:b@localhost" },
		"model":      func(c *Config) { c.Model = "" },
		"long model": func(c *Config) { c.Model = strings.Repeat("m", 128) },
		"key":        func(c *Config) { c.Key = "k3y\n" },
		"dimension":  func(c *Config) { c.Dimension = engram.MaxDimension + 1 },
		"batch":      func(c *Config) { c.Batch = maxBatch + 1 },
	} {
		c := good
		change(&c)
		e, err := NewOpenAI(c)
		require.ErrorIs(t, err, ErrService, name)
		isNil := e == nil // as a caller would ask, which require.Nil does not
		require.True(t, isNil, name)
		require.NotContains(t, fmt.Sprint(err), "k3y")
	}
	_, err := NewOllama(good)
	require.NoError(t, err)
}
