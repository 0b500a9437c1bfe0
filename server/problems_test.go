package server

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/wire"
)

// TestEverySentinelHasARow compares the table with the source of the library:
// a sentinel that is added there must be given a status here.
func TestEverySentinelHasARow(t *testing.T) {
	sentinels := sentinelsOf(t, "../errors.go")
	require.Contains(t, sentinels, "ErrSpaceNotFound", "the list must come from the right place")
	require.ElementsMatch(t, sentinels, rowsOf(t, "problems.go"))
}

// sentinelsOf returns the exported error variables that the file declares.
func sentinelsOf(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	for _, decl := range parse(t, file).Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok || general.Tok != token.VAR {
			continue
		}
		for _, spec := range general.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if strings.HasPrefix(name.Name, "Err") {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// rowsOf returns the names of the library's errors that libraryKinds lists.
func rowsOf(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	ast.Inspect(parse(t, file), func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || spec.Names[0].Name != "libraryKinds" {
			return true
		}
		for _, row := range spec.Values[0].(*ast.CompositeLit).Elts {
			selector := row.(*ast.CompositeLit).Elts[0].(*ast.SelectorExpr)
			if selector.X.(*ast.Ident).Name == "engram" {
				names = append(names, selector.Sel.Name)
			}
		}
		return false
	})
	return names
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	return parsed
}

// TestClientsKnowTheLibrarysErrors holds the table of the clients to the server's.
func TestClientsKnowTheLibrarysErrors(t *testing.T) {
	for _, row := range libraryKinds {
		known := wire.Sentinel(row.kind.slug)
		require.ErrorIs(t, known, row.sentinel)
		require.Equal(t, row.kind.slug, wire.ToSlug(wire.FromSlug(row.kind.slug)))
		for _, other := range libraryKinds {
			both := other.kind.slug == row.kind.slug || row.kind.slug == "space-foreign" && other.kind.slug == "space-damaged"
			require.Equal(t, both, errors.Is(known, other.sentinel), "%s, %v", row.kind.slug, other.sentinel)
		}
	}
	require.NoError(t, wire.Sentinel(kindMalformed.slug), "what only the server knows")
}

// TestEveryRowIsReached: no row is hidden by one above it, and each is whole.
func TestEveryRowIsReached(t *testing.T) {
	slugs := map[string]bool{}
	for _, row := range libraryKinds {
		t.Run(row.kind.slug, func(t *testing.T) {
			p := describe(fmt.Errorf("memory 2: %w", row.sentinel))
			require.Equal(t, problemTypePrefix+row.kind.slug, p.Type)
			require.Equal(t, row.kind.status, p.Status)
			require.NotEmpty(t, p.Title)
			require.Contains(t, p.Detail, row.sentinel.Error())
			require.False(t, slugs[row.kind.slug], "a type must mean one thing")
			slugs[row.kind.slug] = true
		})
	}
}

func TestStatusOfTypedErrors(t *testing.T) {
	cases := []struct {
		err    error
		slug   string
		status int
		detail string
	}{
		{&engram.InvalidError{Field: "embedding", Reason: "is the zero vector"}, "invalid", 422, "memory 2: embedding: is the zero vector"},
		{&engram.LimitError{What: "content bytes", Got: 3, Max: 2}, "limit-exceeded", 422, "memory 2: content bytes: 3, at most 2"},
		{&engram.ConflictError{Expected: 1, Actual: 2}, "conflict", 412, "space is at seq 2, not 1: read it again and retry"},
		{&engram.SpaceNotFoundError{Space: "mine", Near: []engram.SpaceID{"canary"}}, "space-not-found", 404, `space "mine" not found, create it first`},
		{&engram.CorruptionError{Space: "mine", File: "canary", Reason: "canary"}, "space-damaged", 500, "stored data is damaged"},
		{&engram.CorruptionError{Space: "mine", File: "canary", Foreign: true}, "space-foreign", 500, "file belongs to another space"},
		{&engram.LockedError{Dir: "canary", PID: 1}, "locked", 503, "data directory is locked"},
		{&engram.VersionError{Space: "mine", File: "canary"}, "unknown-version", 500, "unknown format version"},
		{engram.SpaceID("!").Validate(), "invalid-space-id", 400, "invalid space id"},
		{context.DeadlineExceeded, "timeout", 503, "context deadline exceeded"},
		{errors.New("open canary: permission denied"), "internal", 500, "the request could not be carried out"},
	}
	for _, c := range cases {
		t.Run(c.slug, func(t *testing.T) {
			p := describe(fmt.Errorf("memory 2: %w", c.err))
			require.Equal(t, problem{
				Type: problemTypePrefix + c.slug, Title: p.Title, Status: c.status,
				Detail: c.detail, Hint: p.Hint, retryAfter: p.retryAfter,
			}, p)
		})
	}
}

func TestQuotaProblemNamesTheQuota(t *testing.T) {
	f := newFixture(t, Options{})
	_, err := f.registry.Create(t.Context(), "small", engram.SpaceConfig{MaxMemories: 1})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, f.call("POST", "/v1/spaces/small/memories", `{"content":"a"}`).status)
	reply := f.call("POST", "/v1/spaces/small/memories", `{"content":"b"}`)
	require.Equal(t, "memories", reply.problem(429, "quota-exceeded").Quota)
	require.NotEmpty(t, reply.header.Get("Retry-After"))
}

// TestAnswersNeverNameFiles sends every error of the library that names files
// through the answer, whole: headers, body, nothing but the log may say "canary".
func TestAnswersNeverNameFiles(t *testing.T) {
	s := newFixture(t, Options{}).server
	for _, err := range []error{
		&engram.CorruptionError{File: "canary", Offset: 1, Reason: "canary"},
		&engram.LockedError{Dir: "canary"},
		&engram.VersionError{File: "canary"},
		&engram.SpaceNotFoundError{Space: "mine", Near: []engram.SpaceID{"canary"}},
		fmt.Errorf("rename canary: %w", engram.ErrUnknownOutcome),
		errors.New("canary"),
	} {
		w := httptest.NewRecorder()
		s.answerError(&exchange{w: w, r: httptest.NewRequest("GET", "/", nil)}, fmt.Errorf("canary: %w", err))
		require.NotContains(t, w.Body.String(), "canary")
		require.NotContains(t, fmt.Sprint(w.Header()), "canary")
	}
}

// TestPanicsEndOneRequest: who sent it is told that it failed, or, where a part of the
// answer is on its way, that this is not whole.
func TestPanicsEndOneRequest(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	s := newFixture(t, Options{Logger: zap.New(core)}).server
	handler := func(part string) http.Handler {
		return s.handler(route{path: "/panics", verb: verbPublic, handle: func(_ *Server, x *exchange) error {
			if part != "" {
				_, err := x.Write([]byte(part))
				require.NoError(t, err)
			}
			panic("canary")
		}})
	}
	answer := httptest.NewRecorder()
	handler("").ServeHTTP(answer, httptest.NewRequest("GET", "http://localhost/", nil))
	require.Equal(t, http.StatusInternalServerError, answer.Code)
	require.Contains(t, answer.Body.String(), "urn:engram:problem:internal")
	require.NotContains(t, answer.Body.String(), "canary")
	logged := logs.FilterMessage("panic in a request").All()
	require.Len(t, logged, 1)
	require.Equal(t, zap.ErrorLevel, logged[0].Level)
	require.Contains(t, logged[0].ContextMap()["stack"], "TestPanicsEndOneRequest")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		handler("a part").ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://localhost/", nil))
	})
}
