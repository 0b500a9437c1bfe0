package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// routing are the claims about which space a request means.
func routing() []assertion {
	return []assertion{
		{"routing/selectors", "each way to name a space reaches that space, and answers as its path does", needHTTP, trySelectors},
		{"routing/writes", "a write ends in the space that it names, however it names it, and nowhere else", needHTTP, tryRoutedWrites},
		{"routing/disagreement", "a request that names two spaces is refused and stores nothing", needHTTP, tryDisagreement},
		{"routing/fallback", "a request that names no space says that it means the default one, or is refused", needHTTP, tryFallback},
		{"routing/empty-name", "an empty name of a space is refused, and does not mean the default one", needHTTP, tryEmptyName},
		{"routing/metadata", "a call's field and its metadata reach the same space, and are refused where they disagree", needGRPC, tryMetadata},
		{"routing/fallback", "a call that names no space says that it means the default one, or is refused", needGRPC, tryRPCFallback},
	}
}

const requestIDHeader = "X-Request-Id"

// selector is a way to name a space beside the path.
type selector struct {
	what string
	name func(r *request, id string) // adds the name to a request
}

func byHeader(header string) selector {
	return selector{"the header " + header, func(r *request, id string) { r.header[header] = id }}
}

// selectors returns those of requests with a body, or without one.
func selectors(withBody bool) []selector {
	all := []selector{
		byHeader("X-Engram-Memory-Space"),
		byHeader("X-Memory-Space"),
		{"the query", func(r *request, id string) {
			separator := "?"
			if strings.Contains(r.path, "?") {
				separator = "&"
			}
			r.path += separator + "space=" + url.QueryEscape(id)
		}},
	}
	if withBody {
		all = append(all, selector{"the body", func(r *request, id string) {
			r.body = strings.TrimSuffix(r.body, "}") + `,"memory_space_id":` + quoted(id) + "}"
		}})
	}
	return all
}

// quoted returns a string as JSON.
func quoted(s string) string {
	text, _ := json.Marshal(s) // of a string it never fails
	return string(text)
}

// unscoped returns a request that names no space yet.
func unscoped(method, rest, body string) request {
	return request{method: method, path: "/v1" + rest, header: map[string]string{}, body: body}
}

// readRequests are what is asked in both forms.
func readRequests() []request {
	return []request{
		unscoped(http.MethodGet, "/memories/"+url.PathEscape(memoryID(6)), ""),
		unscoped(http.MethodGet, "/memories/nobody-has-this", ""),
		unscoped(http.MethodGet, "/memories?limit=7", ""),
		unscoped(http.MethodGet, "/memories/"+memoryID(1)+"/associations", ""),
		unscoped(http.MethodGet, "/export", ""),
		unscoped(http.MethodPost, "/recall", `{"text":"`+words()[0]+`"}`),
	}
}

func trySelectors(ctx context.Context, c *check) error {
	server := c.over.(*web)
	for i, s := range c.stage.spaces {
		for _, r := range readRequests() {
			byPath := r
			byPath.path = scoped(s.ID(), strings.TrimPrefix(r.path, "/v1"))
			byPath.header = map[string]string{requestIDHeader: "verify"} // which a problem repeats
			want, err := server.ask(ctx, byPath)
			if err != nil {
				return err
			}
			foreign := c.stage.foreign(i, want.body)
			c.that(foreign == "", "%s %s gives something of space %s", r.method, byPath.path, foreign)
			for _, by := range selectors(r.body != "") {
				asked := r
				asked.header = map[string]string{requestIDHeader: "verify"}
				by.name(&asked, string(s.ID()))
				got, err := server.ask(ctx, asked)
				if err != nil {
					return err
				}
				c.that(got.public() == want.public(), "%s %s with space %s named by %s is not answered as by path: %s, and %s",
					r.method, r.path, s.ID(), by.what, short(got.public()), short(want.public()))
			}
		}
	}
	return nil
}

func tryRoutedWrites(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	server := c.over.(*web)
	held := []map[string]string{{}, {}}
	for i, s := range pair {
		for n, by := range selectors(true) {
			m := engram.Memory{ID: fmt.Sprintf("by-%d", n), Content: fmt.Sprintf("For space %d by %s.", i, by.what)}
			r := unscoped(http.MethodPost, "/memories", fmt.Sprintf(`{"id":%s,"content":%s}`, quoted(m.ID), quoted(m.Content)))
			by.name(&r, string(s.ID()))
			got, err := server.ask(ctx, r)
			if err != nil {
				return err
			}
			c.that(got.status == http.StatusCreated, "a write with space %s named by %s: %s", s.ID(), by.what, answerOf(got.problem()))
			held[i][m.ID] = m.Content
		}
	}
	for i, s := range pair {
		if err := c.holds(ctx, s, held[i], "after writes that name their space in each way"); err != nil {
			return err
		}
	}
	return nil
}

func tryDisagreement(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	server := c.over.(*web)
	all := selectors(true)
	one, other := string(pair[0].ID()), string(pair[1].ID())
	refuse := func(r request, what string) error {
		got, err := server.ask(ctx, r)
		if err != nil {
			return err
		}
		c.that(got.status == http.StatusBadRequest && reasonOf(got.problem()) == "space-ambiguous", "a write that names %s is not refused as ambiguous: status %d, %s",
			what, got.status, answerOf(got.problem()))
		return nil
	}
	const body = `{"id":"stray","content":"Nobody knows where to."}`
	for i, first := range all {
		r := request{method: http.MethodPost, path: scoped(pair[0].ID(), "/memories"), header: map[string]string{}, body: body}
		first.name(&r, other)
		if err := refuse(r, "one space by its path and another by "+first.what); err != nil {
			return err
		}
		for _, second := range all[i+1:] {
			r := unscoped(http.MethodPost, "/memories", body)
			first.name(&r, one)
			second.name(&r, other)
			if err := refuse(r, "one space by "+first.what+" and another by "+second.what); err != nil {
				return err
			}
		}
	}
	for _, s := range pair {
		if err := c.holds(ctx, s, nil, "after ambiguous writes were refused"); err != nil {
			return err
		}
	}
	return nil
}

// tryFallback asks the default space, which is not the run's, for a memory that
// nobody has.
func tryFallback(ctx context.Context, c *check) error {
	server := c.over.(*web)
	for _, r := range []request{
		unscoped(http.MethodGet, "/memories/"+canaryOf(c.random.Uint64(), 0), ""),
		unscoped(http.MethodGet, "/memories/"+canaryOf(c.random.Uint64(), 0)+"/associations", ""),
	} {
		got, err := server.ask(ctx, r)
		if err != nil {
			return err
		}
		said := got.header.Get("Engram-Space-Fallback")
		c.that(said == string(engram.DefaultSpace) || reasonOf(got.problem()) == "space-required",
			"%s %s, which names no space, is answered with status %d and does not say that it means the default space: %q", r.method, r.path, got.status, said)
		r.header["X-Engram-Memory-Space"] = string(c.stage.spaces[0].ID())
		if got, err = server.ask(ctx, r); err != nil {
			return err
		}
		said = got.header.Get("Engram-Space-Fallback")
		c.that(said == "", "a request that names a space is said to have fallen back to %q", said)
	}
	return nil
}

func tryEmptyName(ctx context.Context, c *check) error {
	server := c.over.(*web)
	for _, by := range selectors(true) {
		r := unscoped(http.MethodPost, "/recall", `{"text":"`+canaryOf(c.random.Uint64(), 0)+`"}`)
		by.name(&r, "")
		got, err := server.ask(ctx, r)
		if err != nil {
			return err
		}
		c.that(got.status == http.StatusBadRequest, "a request with an empty name of a space in %s is answered with status %d", by.what, got.status)
	}
	return nil
}

func tryMetadata(ctx context.Context, c *check) error {
	server := c.over.(*rpc)
	lookup := func(field, key, value string) (*engramv1.LookupResponse, error) {
		if key != "" {
			ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(key, value))
		}
		return server.memories.Lookup(ctx, &engramv1.LookupRequest{MemorySpaceId: field, Id: memoryID(0)})
	}
	for i, s := range c.stage.spaces {
		other := string(c.stage.spaces[(i+1)%len(c.stage.spaces)].ID())
		want := c.stage.memory(i, 0).Content
		for _, key := range []string{"x-engram-memory-space", "x-memory-space"} {
			got, err := lookup("", key, string(s.ID()))
			c.that(err == nil && got.GetMemory().GetContent() == want, "a lookup with the metadata %s: %s gives %q, %v", key, s.ID(), short(got.GetMemory().GetContent()), err)
			got, err = lookup(string(s.ID()), key, string(s.ID()))
			c.that(err == nil && got.GetMemory().GetContent() == want, "a lookup that names space %s twice gives %q, %v", s.ID(), short(got.GetMemory().GetContent()), err)
			got, err = lookup(string(s.ID()), key, other)
			c.that(reasonOf(err) == "space-ambiguous", "a lookup in space %s with the metadata %s: %s gives %q, %v", s.ID(), key, other, short(got.GetMemory().GetContent()), err)
		}
	}
	return nil
}

// tryRPCFallback is tryFallback over gRPC.
func tryRPCFallback(ctx context.Context, c *check) error {
	server := c.over.(*rpc)
	for _, space := range []engram.SpaceID{"", c.stage.spaces[0].ID()} {
		var header metadata.MD
		_, err := server.memories.Lookup(ctx, &engramv1.LookupRequest{
			MemorySpaceId: string(space), Id: canaryOf(c.random.Uint64(), 0),
		}, grpc.Header(&header))
		said := strings.Join(header.Get("engram-space-fallback"), ",")
		if space == "" {
			c.that(said == string(engram.DefaultSpace) || reasonOf(err) == "space-required",
				"a call that names no space does not say that it means the default one: %q, %v", said, err)
			continue
		}
		c.that(said == "", "a call that names a space is said to have fallen back to %q", said)
	}
	return nil
}
