package verify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/engramv1"
)

// leaky is a server that is right, behind something that is not. Each leak is a
// handler before it.
type leaky struct {
	next http.Handler

	mu      sync.Mutex // guards the fields below
	seen    map[string]bool
	count   int
	cached  map[string]answer
	exports map[string]string // of deleted spaces
	streams map[string][]byte // the last event of each space
	flying  int
}

func newLeaky(next http.Handler) *leaky {
	return &leaky{
		next: next, seen: map[string]bool{}, cached: map[string]answer{}, exports: map[string]string{}, streams: map[string][]byte{},
	}
}

// parts returns the space that a path names and what follows it.
func parts(r *http.Request) (space, rest string) {
	path, found := strings.CutPrefix(r.URL.EscapedPath(), "/v1/spaces/")
	if !found {
		return "", r.URL.EscapedPath()
	}
	space, rest, found = strings.Cut(path, "/")
	if found {
		rest = "/" + rest
	}
	return space, rest
}

// sibling returns another space that was asked for with the same rest.
func (l *leaky) sibling(space string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[space] = true
	for _, other := range slices.Sorted(maps.Keys(l.seen)) {
		if other != space && other != "" {
			return other
		}
	}
	return space
}

// all returns every space that was asked for.
func (l *leaky) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.seen))
}

// every reports whether this is one of so many.
func (l *leaky) every(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return l.count%n == 0
}

// fly counts the requests that are under way.
func (l *leaky) fly(change int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying += change
	return l.flying
}

// record has the server answer a request.
func (l *leaky) record(r *http.Request) answer {
	w := httptest.NewRecorder()
	l.next.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// ask has the server answer a request of the leak's own.
func (l *leaky) ask(r *http.Request, method, path, body string) answer {
	own := httptest.NewRequest(method, path, strings.NewReader(body))
	own.Host = r.Host
	return l.record(own)
}

func send(w http.ResponseWriter, a answer) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// answerCached answers as it did what had the same key before.
func (l *leaky) answerCached(w http.ResponseWriter, r *http.Request, key string) {
	got := l.record(r)
	l.mu.Lock()
	if kept, here := l.cached[key]; here {
		got = kept
	} else if got.status == http.StatusOK {
		l.cached[key] = got
	}
	l.mu.Unlock()
	send(w, got)
}

// redirect asks for the same in another space.
func (l *leaky) redirect(w http.ResponseWriter, r *http.Request, space, rest string) {
	if named, _ := parts(r); named == space {
		l.next.ServeHTTP(w, r)
		return
	}
	target := "/v1/spaces/" + space + rest
	r.URL.Path, _ = url.PathUnescape(target)
	r.URL.RawPath = target
	l.next.ServeHTTP(w, r)
}

func isLookup(r *http.Request, rest string) bool {
	return r.Method == http.MethodGet && strings.HasPrefix(rest, "/memories/") && !strings.HasSuffix(rest, "/associations")
}

// leak is one thing that the server does wrong, and the assertion that says so.
type leak struct {
	name  string
	found string
	says  string // in the failure
	serve func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string)
}

// leaksOfMemories show or keep what they should not.
func leaksOfMemories() []leak {
	return []leak{
		{"swapped lookups", "http/isolation/lookup", "of space verify-", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if isLookup(r, rest) && l.every(5) {
				space = l.sibling(space)
			}
			l.redirect(w, r, space, rest)
		}},
		{"a cache without the space", "http/isolation/lookup", "of space verify-", func(l *leaky, w http.ResponseWriter, r *http.Request, _, rest string) {
			if !isLookup(r, rest) {
				l.next.ServeHTTP(w, r)
				return
			}
			l.answerCached(w, r, rest)
		}},
		{"recalls of another space", "http/isolation/recall-text", "of space verify-", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if rest == "/memories" || rest == "/recall" {
				if other := l.sibling(space); rest == "/recall" && l.every(3) {
					space = other
				}
			}
			l.redirect(w, r, space, rest)
		}},
		{"an export without a memory", "http/isolation/export", "lacks", func(l *leaky, w http.ResponseWriter, r *http.Request, _, rest string) {
			r.Header.Del("Accept-Encoding") // its lines are read here
			got := l.record(r)
			if rest == "/export" && got.status == http.StatusOK {
				lines := strings.SplitAfter(got.body, "\n")
				got.body = strings.Join(slices.Delete(lines, 3, 4), "")
			}
			send(w, got)
		}},
		{"figures of another space", "http/isolation/figures", "counts", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if r.Method != http.MethodGet || space == "" || rest != "" {
				l.next.ServeHTTP(w, r)
				return
			}
			got := l.record(r)
			got.header.Del("Content-Length")
			l.sibling(space)
			for _, other := range l.all() {
				if its := l.ask(r, http.MethodGet, "/v1/spaces/"+other, ""); its.status == http.StatusOK {
					got.body = strings.ReplaceAll(its.body, `"`+other+`"`, `"`+space+`"`)
					break
				}
			}
			send(w, got)
		}},
		{"existence told by status", "http/isolation/foreign-memory", "tells apart", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			l.sibling(space)
			got := l.record(r)
			if isLookup(r, rest) && got.status == http.StatusNotFound {
				for _, other := range l.all() {
					if l.ask(r, http.MethodGet, "/v1/spaces/"+other+rest, "").status == http.StatusOK {
						got.body = strings.ReplaceAll(got.body, "404", "403")
						got.status = http.StatusForbidden
						break
					}
				}
			}
			send(w, got)
		}},
	}
}

// leaksOfPlaces confuse streams, positions and lives of spaces.
func leaksOfPlaces() []leak {
	return []leak{
		{"events to all streams", "http/events/sequence", "of space verify-", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if strings.HasPrefix(rest, "/events") {
				w = &broadcast{ResponseWriter: w, leaky: l, space: space}
			}
			l.next.ServeHTTP(w, r)
		}},
		{"a lost event", "http/events/sequence", "in place", func(l *leaky, w http.ResponseWriter, r *http.Request, _, rest string) {
			if strings.HasPrefix(rest, "/events") {
				w = &forgetful{ResponseWriter: w, leaky: l}
			}
			l.next.ServeHTTP(w, r)
		}},
		{"cursors of any space", "http/events/foreign-cursor", "goes on from a cursor of space", func(l *leaky, w http.ResponseWriter, r *http.Request, _, _ string) {
			got := l.record(r.Clone(r.Context()))
			if strings.Contains(got.body, "cursor-foreign") {
				r.URL.RawQuery = "limit=5"
				got = l.record(r)
			}
			send(w, got)
		}},
		{"a deleted space that comes back", "http/lifecycle/recreate", "took the id of a deleted one", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if r.Method == http.MethodDelete && rest == "" {
				l.exports[space] = l.ask(r, http.MethodGet, "/v1/spaces/"+space+"/memories", "").body
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			l.next.ServeHTTP(w, r)
			for deleted, page := range l.exports {
				if r.Method == http.MethodPost && r.URL.Path == "/v1/spaces" && bytes.Contains(body, []byte(`"`+deleted+`"`)) {
					_, memories, _ := strings.Cut(page, `"memories":`)
					l.ask(r, http.MethodPost, "/v1/spaces/"+deleted+"/memories", `{"memories":`+memories)
					delete(l.exports, deleted)
				}
			}
		}},
	}
}

// leaksOfRequests do something else than they were told.
func leaksOfRequests() []leak {
	return []leak{
		{"forgetting that is not stored", "http/lifecycle/forget", "forgot", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if rest == "/forget" {
				send(w, answer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, `{"seq":1,"forgotten":1}`})
				return
			}
			l.next.ServeHTTP(w, r)
		}},
		{"recalls from a cache that forgetting leaves as it is", "http/lifecycle/forget", "forgot", func(l *leaky, w http.ResponseWriter, r *http.Request, space, rest string) {
			if rest != "/recall" {
				l.next.ServeHTTP(w, r)
				return
			}
			cue, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(cue))
			l.answerCached(w, r, space+string(cue))
		}},
		{"the first of two names counts", "http/routing/disagreement", "not refused as ambiguous", func(l *leaky, w http.ResponseWriter, r *http.Request, space, _ string) {
			if space != "" {
				r.Header.Del("X-Memory-Space")
				r.Header.Del("X-Engram-Memory-Space")
			}
			l.next.ServeHTTP(w, r)
		}},
		{"a header that is ignored", "http/routing/writes", "space", func(l *leaky, w http.ResponseWriter, r *http.Request, _, _ string) {
			if named := r.Header.Get("X-Memory-Space"); named != "" {
				r.Header.Set("X-Memory-Space", l.sibling(named))
			}
			l.sibling(r.Header.Get("X-Engram-Memory-Space"))
			l.next.ServeHTTP(w, r)
		}},
		{"a silent fall-back", "http/routing/fallback", "does not say", func(l *leaky, w http.ResponseWriter, r *http.Request, _, _ string) {
			got := l.record(r)
			got.header.Del("Engram-Space-Fallback")
			send(w, got)
		}},
		{"a write that is acknowledged and lost", "http/consistency/read-your-writes", "acknowledged a write", func(l *leaky, w http.ResponseWriter, r *http.Request, _, rest string) {
			if r.Method == http.MethodPost && rest == "/memories" && l.every(7) {
				send(w, answer{http.StatusCreated, http.Header{"Content-Type": {"application/json"}}, `{"id":"b1","seq":3}`})
				return
			}
			l.next.ServeHTTP(w, r)
		}},
		{"a retry that is done again", "http/consistency/request-id", "sent", func(l *leaky, w http.ResponseWriter, r *http.Request, _, _ string) {
			r.Header.Del("Idempotency-Key")
			l.next.ServeHTTP(w, r)
		}},
		{"a condition that is ignored", "http/consistency/conditional-write", "is not refused", func(l *leaky, w http.ResponseWriter, r *http.Request, _, _ string) {
			r.Header.Del("If-Match")
			l.next.ServeHTTP(w, r)
		}},
		{"a limit for all together", "http/noise/neighbours", "429", func(l *leaky, w http.ResponseWriter, r *http.Request, _, rest string) {
			if rest == "/memories" {
				defer l.fly(-1)
				if l.fly(1) > politeSpaces {
					send(w, answer{http.StatusTooManyRequests, http.Header{}, `{"type":"urn:engram:problem:rate-limited","status":429}`})
					return
				}
			}
			l.next.ServeHTTP(w, r)
		}},
	}
}

// broadcast sends, with each event of a stream, the last one of another space.
type broadcast struct {
	http.ResponseWriter

	leaky *leaky
	space string
}

func (b *broadcast) Write(text []byte) (int, error) {
	if bytes.HasPrefix(text, []byte("id: ")) {
		b.leaky.mu.Lock()
		b.leaky.streams[b.space] = bytes.Clone(text)
		var foreign []byte
		for space, event := range b.leaky.streams {
			if space != b.space && bytes.Contains(event, []byte(`"memory"`)) {
				foreign = event
			}
		}
		b.leaky.mu.Unlock()
		if _, err := b.ResponseWriter.Write(foreign); err != nil {
			return 0, err
		}
	}
	return b.ResponseWriter.Write(text)
}

func (b *broadcast) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// forgetful leaves out an event now and then.
type forgetful struct {
	http.ResponseWriter

	leaky *leaky
}

func (f *forgetful) Write(text []byte) (int, error) {
	if bytes.HasPrefix(text, []byte("id: ")) && !bytes.Contains(text, []byte(`"end-`)) && f.leaky.every(10) {
		return len(text), nil
	}
	return f.ResponseWriter.Write(text)
}

func (f *forgetful) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// TestLeaksAreFoundAndNamed verifies servers that are wrong in one way each.
func TestLeaksAreFoundAndNamed(t *testing.T) {
	for _, leak := range slices.Concat(leaksOfMemories(), leaksOfPlaces(), leaksOfRequests()) {
		t.Run(leak.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, server.Options{}, func(next http.Handler) http.Handler {
				l := newLeaky(next)
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					space, rest := parts(r)
					leak.serve(l, w, r, space, rest)
				})
			})
			requireFound(t, s, s.config, leak.found, leak.says)
		})
	}
}

// requireFound requires that an assertion fails and says how.
func requireFound(t *testing.T, s *served, config Config, name, says string) {
	t.Helper()
	report, err := Run(t.Context(), only(config, "^"+name+"$"))
	require.NoError(t, err)
	require.Equal(t, Failed, report.Verdict)
	result := find(t, report, name)
	require.Equal(t, Failed, result.Verdict)
	require.Contains(t, strings.Join(result.Failures, "\n"), says)
	require.Empty(t, s.spaces())
}

// TestLeakOverGRPC verifies a server whose lookups are cached by the id alone.
func TestLeakOverGRPC(t *testing.T) {
	t.Parallel()
	var cached sync.Map
	s := serve(t, server.Options{}, nil, func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		answer, err := handle(ctx, request)
		if lookup, ok := request.(*engramv1.LookupRequest); ok && err == nil {
			answer, _ = cached.LoadOrStore(lookup.GetId(), answer)
		}
		return answer, err
	})
	requireFound(t, s, s.config, "grpc/isolation/lookup", "of space verify-")
}

// TestLeakOfExistenceToKeys verifies a server that tells whether a space exists to
// keys that may not see it.
func TestLeakOfExistenceToKeys(t *testing.T) {
	t.Parallel()
	gate, shown := keys(t)
	s := serve(t, server.Options{Auth: gate}, func(next http.Handler) http.Handler {
		l := newLeaky(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			space, _ := parts(r)
			l.sibling(space)
			got := l.record(r)
			if got.status == http.StatusNotFound && strings.Contains(got.body, "space-not-found") {
				asked := httptest.NewRequest(http.MethodGet, "/v1/spaces/"+space, nil)
				asked.Host = r.Host
				asked.Header.Set("Authorization", "Bearer "+shown[0].Key)
				if l.record(asked).status == http.StatusOK {
					got.body = strings.ReplaceAll(got.body, "space-not-found", "forbidden")
				}
			}
			send(w, got)
		})
	})
	config := s.config
	config.Keys = shown
	requireFound(t, s, config, "http/keys/foreign-space", "tells apart")
}

// TestFalseAcknowledgementIsFound verifies a process that acknowledges what it has not
// written.
func TestFalseAcknowledgementIsFound(t *testing.T) {
	t.Parallel()
	config := Config{Dir: t.TempDir() + "/data", Spaces: MinSpaces, Seed: 7, Child: writerChild}
	config.Child = func(order WriterOrder) (child *exec.Cmd, err error) {
		order.Seed++ // it writes something else than what it acknowledges
		return writerChild(order)
	}
	report, err := Run(t.Context(), only(config, "kill"))
	require.NoError(t, err)
	require.Equal(t, Failed, find(t, report, "library/durability/kill").Verdict)
	require.Contains(t, fmt.Sprint(report.Assertions), "acknowledged writes and a kill")

	config.Child = func(order WriterOrder) (child *exec.Cmd, err error) {
		order.Done = []int{1, 1, 1} // it begins behind a write that was never made
		return writerChild(order)
	}
	report, err = Run(t.Context(), only(config, "kill"))
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(report.Assertions), "write 2 is acknowledged after 0")
}
