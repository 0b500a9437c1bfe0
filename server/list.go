package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// Sizes of a page of GET .../memories.
const (
	defaultPageMemories = 100
	maxPageMemories     = 1000
	maxPageBytes        = 8 << 20 // of contents, attributes and embeddings; one memory more ends the page
)

// memoryPage is the answer of GET .../memories.
type memoryPage struct {
	Memories []engram.Memory `json:"memories"`
	Next     string          `json:"next,omitempty"` // give it as cursor for the next page; absent on the last
}

// listMemories answers with a page of the memories that satisfy the filter, in
// the order of their times, of one snapshot. The next page is of a later one.
func (s *Server) listMemories(x *exchange) error {
	query, err := parseParameters(x.r, spaceQuery, "cursor", "limit", "after", "before", "episode", "kind", "attribute")
	if err != nil {
		return err
	}
	filter, err := filterOf(query)
	if err != nil {
		return err
	}
	limit, err := limitOf(query, defaultPageMemories, maxPageMemories)
	if err != nil {
		return err
	}
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	page, err := s.listPage(x.r.Context(), &x.request, space, filter, query.Get("cursor"), query.Has("cursor"), limit)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, page)
}

// listPage counts the page as it grows: pages of many requests grow at the same time.
func (s *Server) listPage(
	ctx context.Context, r *request, space *engram.Space, filter engram.Filter, after string, goesOn bool, limit int,
) (_ memoryPage, err error) {
	hash, err := hashFilter(filter)
	if err != nil {
		return memoryPage{}, err
	}
	last := cursor{incarnation: space.Info().Incarnation, filter: hash}
	from := cursor{}
	if goesOn {
		if from, err = parseCursor(after, last.incarnation, hash); err != nil {
			return memoryPage{}, err
		}
	}
	ctx, end := inLibrary(ctx, "Memories")
	defer func() { end(err) }()
	page, size := memoryPage{Memories: []engram.Memory{}}, int64(0)
	for memory, err := range space.MemoriesBehind(ctx, filter, from.time, from.seq) {
		if err != nil {
			return memoryPage{}, err
		}
		if len(page.Memories) == limit || size >= maxPageBytes {
			page.Next = last.String()
			break
		}
		page.Memories = append(page.Memories, memory)
		size += sizeOf(&memory)
		if err := s.holdAnswer(r, size); err != nil {
			return memoryPage{}, err
		}
		last.time, last.seq = memory.Time, memory.Seq
	}
	return page, nil
}

// sizeOf returns the bytes of what makes a memory long.
func sizeOf(m *engram.Memory) int64 {
	size := len(m.Content) + 4*len(m.Embedding)
	for key, value := range m.Attributes {
		size += len(key) + len(value)
	}
	return int64(size)
}

// filterOf reads a filter from a query.
func filterOf(query url.Values) (f engram.Filter, err error) {
	if f.After, err = timeOf(query, "after"); err != nil {
		return f, err
	}
	if f.Before, err = timeOf(query, "before"); err != nil {
		return f, err
	}
	for _, name := range []string{"episode", "kind"} {
		if query.Has(name) && query.Get(name) == "" {
			return f, refuse(kindMalformedRequest, "the query parameter "+name+" is empty")
		}
	}
	f.Episode = query.Get("episode")
	f.Kind = engram.Kind(query.Get("kind"))
	for _, pair := range query["attribute"] {
		key, value, ok := strings.Cut(pair, ":")
		if _, twice := f.Attributes[key]; !ok || twice {
			return f, refuse(kindMalformedRequest, "each query parameter attribute must be key:value, with a key of its own")
		}
		if f.Attributes == nil {
			f.Attributes = map[string]string{}
		}
		f.Attributes[key] = value
	}
	return f, nil
}

// filterBody is a filter in a body, or among the arguments of a tool. A null or an empty
// text, as of a variable that is not set, is not taken for what is absent, which does not
// narrow.
type filterBody struct {
	After      time.Time         `json:"after,omitzero" strictjson:"given" jsonschema:"only memories at this time or later, RFC 3339"`
	Before     time.Time         `json:"before,omitzero" strictjson:"given" jsonschema:"only memories before this time, RFC 3339"`
	Episode    string            `json:"episode,omitempty" strictjson:"given" jsonschema:"only memories of this episode; not empty"`
	Attributes map[string]string `json:"attributes,omitempty" strictjson:"given" jsonschema:"only memories with all of these attributes"`
	Kind       engram.Kind       `json:"kind,omitempty" strictjson:"given" jsonschema:"only memories of this kind: episodic or semantic"`
}

func timeOf(query url.Values, name string) (time.Time, error) {
	if !query.Has(name) {
		return time.Time{}, nil
	}
	moment, err := time.Parse(time.RFC3339Nano, query.Get(name))
	if err != nil || moment.IsZero() {
		return time.Time{}, refuse(kindMalformedRequest, "the query parameter "+name+" must be a time of RFC 3339")
	}
	return moment, nil
}

// limitOf reads how long a page may be.
func limitOf(query url.Values, usual, most int) (int, error) {
	if !query.Has("limit") {
		return usual, nil
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 1 || limit > most {
		return 0, refuse(kindMalformedRequest, fmt.Sprintf("the query parameter limit must be 1 to %d", most))
	}
	return limit, nil
}

// parseParameters reads a query that may have the parameters named and no other:
// one that is misspelt would be one that does not narrow. All but attribute and
// the space, which the selector compares, stand at most once.
func parseParameters(r *http.Request, names ...string) (url.Values, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	for name, values := range query {
		switch {
		case !known[name]:
			return nil, refuse(kindMalformedRequest, "the query has a parameter that this route does not know")
		case len(values) > 1 && name != "attribute" && name != spaceQuery:
			return nil, refuse(kindMalformedRequest, "the query parameter "+name+" is given twice")
		}
	}
	return query, nil
}
