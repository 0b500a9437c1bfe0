package engramtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
	"github.com/engramdb/engram/server/engramv1"
)

// What keeps two spaces apart is tested over each transport, against a server in
// process and a child process:
//
//	equal ids in alpha and beta, recall and look-up   TestEqualIDs                http grpc mcp
//	unknown space, explicit and default space with
//	its signal, selectors that disagree               TestWhichSpace              http sse grpc mcp
//	concurrent subscriptions                          TestSubscriptionsNeverMix   sse grpc
//	crash and restart                                 TestCrashKeepsSpacesApart   http sse grpc mcp
//
// Every route against every kind of key is in package server: TestMatrix (HTTP
// and the opening of event streams), TestRPCMatrix, TestMCPAuthorisesEachCall,
// and for streams that are open TestRevocationEndsStreams and
// TestRPCStreamEndsWithTheKey.

// transport is one way to reach a server. What is nil it does not have.
type transport struct {
	name     string
	remember func(ctx context.Context, space, id, content string) error
	recall   func(ctx context.Context, space, text string) ([]string, error) // contents, in order
	lookup   func(ctx context.Context, space, id string) (string, error)     // content
	events   func(ctx context.Context, space string, after uint64) iter.Seq2[engram.Event, error]
	// which recalls, or subscribes, naming the space outside and inside of the
	// request; "" names none. It returns a content, whether the answer says that
	// the default space was taken, and what is wrong.
	which func(t *testing.T, outside, inside string) (content string, fallback bool, slug string)
}

// transports runs a test over each transport that offers what it needs. Where one fails
// it is over: what comes next may wait for what the test has written.
func transports(t *testing.T, s *engramtest.Server, offers func(transport) bool, test func(t *testing.T, over transport)) {
	t.Helper()
	for _, over := range []transport{overHTTP(s), overSSE(s), overGRPC(t, s), overMCP(t, s)} {
		if offers(over) {
			require.True(t, t.Run(over.name, func(t *testing.T) { test(t, over) }))
		}
	}
}

func contents(recall engram.Recall, err error) ([]string, error) {
	var all []string
	for _, r := range recall.Recollections {
		all = append(all, r.Memory.Content)
	}
	return all, err
}

func overHTTP(s *engramtest.Server) transport {
	return transport{
		name: "http",
		remember: func(ctx context.Context, space, id, content string) error {
			_, err := s.Space(engram.SpaceID(space)).Remember(ctx, engram.Memory{ID: id, Content: content})
			return err
		},
		recall: func(ctx context.Context, space, text string) ([]string, error) {
			return contents(s.Space(engram.SpaceID(space)).Recall(ctx, engram.Cue{Text: text}))
		},
		lookup: func(ctx context.Context, space, id string) (string, error) {
			m, err := s.Space(engram.SpaceID(space)).Lookup(ctx, id)
			return m.Content, err
		},
		which: func(t *testing.T, outside, inside string) (string, bool, string) {
			t.Helper()
			body := map[string]any{"text": "canary"}
			if inside != "" {
				body["memory_space_id"] = inside
			}
			text, err := json.Marshal(body)
			require.NoError(t, err)
			answer, slug := ask(t, s, http.MethodPost, "/v1/recall", outside, bytes.NewReader(text))
			defer func() { require.NoError(t, answer.Body.Close()) }()
			if slug != "" {
				return "", false, slug
			}
			var recall engram.Recall
			require.NoError(t, json.NewDecoder(answer.Body).Decode(&recall))
			return recall.Recollections[0].Memory.Content, answer.Header.Get("Engram-Space-Fallback") == "default", ""
		},
	}
}

// ask sends a request with the space in its header, and returns the slug of the
// problem that is the answer.
func ask(t *testing.T, s *engramtest.Server, method, target, space string, body io.Reader) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL()+target, body)
	require.NoError(t, err)
	if space != "" {
		request.Header.Set("X-Engram-Memory-Space", space)
	}
	answer, err := s.Transport().RoundTrip(request)
	require.NoError(t, err)
	if answer.StatusCode < 300 {
		return answer, ""
	}
	var problem engramtest.Problem
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&problem))
	return answer, problem.Slug()
}

func overSSE(s *engramtest.Server) transport {
	return transport{
		name: "sse",
		events: func(ctx context.Context, space string, after uint64) iter.Seq2[engram.Event, error] {
			return s.Space(engram.SpaceID(space)).Subscribe(ctx, after)
		},
		which: func(t *testing.T, outside, inside string) (string, bool, string) {
			t.Helper()
			target := "/v1/events"
			if inside != "" {
				target += "?space=" + inside
			}
			answer, slug := ask(t, s, http.MethodGet, target, outside, http.NoBody)
			defer func() { require.NoError(t, answer.Body.Close()) }()
			if slug != "" {
				return "", false, slug
			}
			part, all := make([]byte, 512), ""
			for !strings.Contains(all, "canary of") || !strings.HasSuffix(all, "\n\n") {
				n, err := answer.Body.Read(part)
				require.NoError(t, err)
				all += string(part[:n])
			}
			_, data, _ := strings.Cut(all, `"content":"`)
			content, _, _ := strings.Cut(data, `"`)
			return content, answer.Header.Get("Engram-Space-Fallback") == "default", ""
		},
	}
}

func overGRPC(t *testing.T, s *engramtest.Server) transport {
	t.Helper()
	return transport{
		name: "grpc",
		remember: func(ctx context.Context, space, id, content string) error {
			_, err := s.GRPC(engram.SpaceID(space)).Remember(ctx, engram.Memory{ID: id, Content: content})
			return err
		},
		recall: func(ctx context.Context, space, text string) ([]string, error) {
			return contents(s.GRPC(engram.SpaceID(space)).Recall(ctx, engram.Cue{Text: text}))
		},
		lookup: func(ctx context.Context, space, id string) (string, error) {
			m, err := s.GRPC(engram.SpaceID(space)).Lookup(ctx, id)
			return m.Content, err
		},
		events: func(ctx context.Context, space string, after uint64) iter.Seq2[engram.Event, error] {
			return s.GRPC(engram.SpaceID(space)).Subscribe(ctx, after)
		},
		which: func(t *testing.T, outside, inside string) (string, bool, string) {
			t.Helper()
			conn, err := grpc.NewClient(s.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			ctx := t.Context()
			if outside != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-engram-memory-space", outside)
			}
			var header metadata.MD
			answer, err := engramv1.NewMemoryServiceClient(conn).Recall(ctx, &engramv1.RecallRequest{
				MemorySpaceId: inside, Cue: &engramv1.Cue{Text: "canary"},
			}, grpc.Header(&header))
			for _, detail := range status.Convert(err).Details() {
				if info, ok := detail.(*errdetails.ErrorInfo); ok {
					return "", false, strings.ToLower(strings.ReplaceAll(info.GetReason(), "_", "-"))
				}
			}
			require.NoError(t, err)
			return answer.GetRecollections()[0].GetMemory().GetContent(), slices.Equal(header.Get("engram-space-fallback"), []string{"default"}), ""
		},
	}
}

// toolResult is what of a tool's result the tests look at.
type toolResult struct {
	Fallback      bool
	Recollections []engram.Memory
	Memories      []engram.Memory
}

// callTool opens a session, with the space in the header of its requests, and
// calls a tool.
func callTool(ctx context.Context, s *engramtest.Server, outside, tool string, arguments map[string]any) (result toolResult, err error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: s.URL() + "/mcp", DisableStandaloneSSE: true, MaxRetries: -1,
		HTTPClient: &http.Client{Transport: named{s.Transport(), outside}},
	}, nil)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	called, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return result, err
	}
	text := []byte(called.Content[0].(*mcp.TextContent).Text)
	if called.IsError {
		var problem engramtest.Problem
		return result, errors.Join(json.Unmarshal(text, &problem), &problem)
	}
	return result, json.Unmarshal(text, &result)
}

// named sends requests that name a space in their header.
type named struct {
	http.RoundTripper

	space string
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.space != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Engram-Memory-Space", n.space)
	}
	return n.RoundTripper.RoundTrip(r)
}

func overMCP(t *testing.T, s *engramtest.Server) transport {
	t.Helper()
	said := func(list []engram.Memory) (all []string) {
		for _, m := range list {
			all = append(all, m.Content)
		}
		return all
	}
	return transport{
		name: "mcp",
		remember: func(ctx context.Context, space, id, content string) error {
			_, err := callTool(ctx, s, "", "remember", map[string]any{"space": space, "id": id, "content": content})
			return err
		},
		recall: func(ctx context.Context, space, text string) ([]string, error) {
			result, err := callTool(ctx, s, space, "recall", map[string]any{"text": text})
			return said(result.Recollections), err
		},
		lookup: func(ctx context.Context, space, id string) (string, error) { // which agents have no tool for
			result, err := callTool(ctx, s, "", "list", map[string]any{"space": space})
			for _, m := range result.Memories {
				if m.ID == id {
					return m.Content, err
				}
			}
			return "", errors.Join(err, engram.ErrMemoryNotFound)
		},
		which: func(t *testing.T, outside, inside string) (string, bool, string) {
			t.Helper()
			arguments := map[string]any{"text": "canary"}
			if inside != "" {
				arguments["space"] = inside
			}
			result, err := callTool(t.Context(), s, outside, "recall", arguments)
			var problem *engramtest.Problem
			if errors.As(err, &problem) {
				return "", false, problem.Slug()
			}
			require.NoError(t, err)
			return result.Recollections[0].Content, result.Fallback, ""
		},
	}
}

// TestEqualIDs: each space answers from its own, whatever the other has under
// the same id.
func TestEqualIDs(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		transports(t, s, func(over transport) bool { return over.recall != nil }, func(t *testing.T, over transport) {
			id := "same-" + over.name
			for _, space := range []string{"alpha", "beta"} {
				require.NoError(t, over.remember(t.Context(), space, id, over.name+" canary of "+space))
			}
			for _, space := range []string{"alpha", "beta"} {
				content, err := over.lookup(t.Context(), space, id)
				require.NoError(t, err)
				require.Equal(t, over.name+" canary of "+space, content)
				recalled, err := over.recall(t.Context(), space, "canary")
				require.NoError(t, err)
				require.Contains(t, recalled, content)
				for _, content := range recalled {
					require.True(t, strings.HasSuffix(content, " canary of "+space), content)
				}
			}
			_, err := s.Space("beta").Forget(t.Context(), id)
			require.NoError(t, err)
			_, err = over.lookup(t.Context(), "beta", id)
			require.ErrorIs(t, err, engram.ErrMemoryNotFound)
			_, err = over.lookup(t.Context(), "alpha", id)
			require.NoError(t, err)
			_, err = over.recall(t.Context(), "gamma", "canary")
			require.ErrorIs(t, err, engram.ErrSpaceNotFound)
			require.ErrorIs(t, over.remember(t.Context(), "gamma", id, "x"), engram.ErrSpaceNotFound)
		})
		ids, err := s.Spaces(t.Context())
		require.NoError(t, err)
		require.Equal(t, options.Spaces, ids, "no request has made a space")
	})
}

// TestWhichSpace names the space outside and inside of a request.
func TestWhichSpace(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		options.Spaces = append(options.Spaces, engram.DefaultSpace)
		s := engramtest.Start(t, options)
		for _, id := range options.Spaces {
			remember(t, s.Space(id), "same", "canary of "+string(id))
		}
		transports(t, s, func(over transport) bool { return over.which != nil }, func(t *testing.T, over transport) {
			for _, c := range []struct {
				outside, inside string
				space, slug     string
				fallback        bool
			}{
				{outside: "alpha", space: "alpha"},
				{inside: "beta", space: "beta"},
				{outside: "alpha", inside: "alpha", space: "alpha"},
				{outside: "default", space: "default"},
				{inside: "default", space: "default"},
				{space: "default", fallback: true},
				{outside: "alpha", inside: "beta", slug: "space-ambiguous"},
				{outside: "default", inside: "beta", slug: "space-ambiguous"},
				{outside: "gamma", slug: "space-not-found"},
				{inside: "gamma", slug: "space-not-found"},
				{outside: "Alpha", slug: "invalid-space-id"},
				{inside: "..", slug: "invalid-space-id"},
			} {
				what := fmt.Sprintf("outside %q, inside %q", c.outside, c.inside)
				content, fallback, slug := over.which(t, c.outside, c.inside)
				require.Equal(t, c.slug, slug, what)
				require.Equal(t, c.fallback, fallback, what)
				if c.slug == "" {
					require.Equal(t, "canary of "+c.space, content, what)
				}
			}
		})
	})
}

// TestSubscriptionsNeverMix follows both spaces, twice each, while both are
// written over HTTP and gRPC.
func TestSubscriptionsNeverMix(t *testing.T) {
	const writes = 20
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		transports(t, s, func(over transport) bool { return over.events != nil }, func(t *testing.T, over transport) {
			var work sync.WaitGroup
			ctx, fail := context.WithCancelCause(t.Context()) // a write that fails ends who waits for it
			defer fail(nil)
			do := func(f func() error) {
				work.Go(func() {
					if err := f(); err != nil {
						fail(err)
					}
				})
			}
			for _, space := range options.Spaces {
				info, err := s.GRPC(space).Info(t.Context())
				require.NoError(t, err)
				for range 2 {
					do(func() error { return follow(ctx, over, space, info.Seq, 2*writes) })
				}
				for i := range writes {
					content := "canary of " + string(space)
					do(func() error {
						_, err := s.Space(space).Remember(ctx, engram.Memory{ID: fmt.Sprint(i), Content: content})
						return err
					})
					do(func() error {
						_, err := s.GRPC(space).Remember(ctx, engram.Memory{ID: fmt.Sprint(writes + i), Content: content})
						return err
					})
				}
			}
			work.Wait()
			require.NoError(t, context.Cause(ctx))
		})
	})
}

// follow reads n events behind a seq, which must be the space's, in order.
func follow(ctx context.Context, over transport, space engram.SpaceID, after uint64, n int) error {
	for e, err := range over.events(ctx, string(space), after) {
		switch {
		case err != nil:
			return err
		case e.Seq != after+1:
			return fmt.Errorf("event %d follows %d", e.Seq, after)
		case e.Memory != nil && (e.Memory.Space != space || e.Memory.Content != "canary of "+string(space)):
			return fmt.Errorf("an event of %s in the stream of %s", e.Memory.Space, space)
		}
		after = e.Seq
		if n--; n == 0 {
			return nil
		}
	}
	return io.ErrUnexpectedEOF
}

// TestCrashKeepsSpacesApart: what each transport wrote is, after a crash, in its
// space and in no other, for every transport.
func TestCrashKeepsSpacesApart(t *testing.T) {
	kinds(t, func(t *testing.T, options engramtest.Options) {
		s := engramtest.Start(t, options)
		writers := func(over transport) bool { return over.remember != nil }
		transports(t, s, writers, func(t *testing.T, over transport) {
			for _, space := range []string{"alpha", "beta"} {
				require.NoError(t, over.remember(t.Context(), space, over.name, "canary of "+space))
			}
		})
		s.Crash()
		s.Restart()
		transports(t, s, writers, func(t *testing.T, over transport) {
			for _, space := range []string{"alpha", "beta"} {
				for _, id := range []string{"http", "grpc", "mcp"} {
					content, err := over.lookup(t.Context(), space, id)
					require.NoError(t, err)
					require.Equal(t, "canary of "+space, content)
				}
				recalled, err := over.recall(t.Context(), space, "canary")
				require.NoError(t, err)
				require.Equal(t, slices.Repeat([]string{"canary of " + space}, 3), recalled)
			}
		})
		transports(t, s, func(over transport) bool { return over.events != nil }, func(t *testing.T, over transport) {
			for _, space := range options.Spaces {
				require.NoError(t, follow(t.Context(), over, space, 0, 4))
			}
		})
	})
}
