package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// result is what one command line did.
type result struct {
	t        *testing.T
	code     int
	out, err string
}

// shell runs command lines on one data directory, or on a server.
type shell struct {
	t    *testing.T
	dir  string
	args []string // that each command line begins with
}

// newShell returns a shell on a directory that does not exist yet, without a
// space chosen by the environment.
func newShell(t *testing.T) shell {
	t.Helper()
	t.Setenv(spaceVariable, "")
	t.Setenv(addressVariable, "")
	t.Setenv(dataVariable, "")
	t.Setenv(defaultsVariable, t.TempDir()+"/none.json")
	dir := t.TempDir() + "/data"
	return shell{t: t, dir: dir, args: []string{"--data", dir}}
}

func (s shell) run(args ...string) result { return s.runInput("", args...) }

// runInput runs a command line with text on the standard input.
func (s shell) runInput(input string, args ...string) result {
	s.t.Helper()
	var out, errOut bytes.Buffer
	args = append(slices.Clone(s.args), args...)
	code := newApp(strings.NewReader(input), &out, &errOut).run(s.t.Context(), args)
	return result{t: s.t, code: code, out: out.String(), err: errOut.String()}
}

// ok asserts that the command succeeded.
func (r result) ok() result {
	r.t.Helper()
	require.Equal(r.t, exitOK, r.code, r.err)
	return r
}

// failed asserts that the command failed, with all of the texts in its message.
func (r result) failed(texts ...string) result {
	r.t.Helper()
	require.Equal(r.t, exitFailed, r.code, r.out)
	for _, text := range texts {
		require.Contains(r.t, r.err, text)
	}
	return r
}

// into decodes the output of a command that was run with -o json.
func (r result) into(v any) {
	r.t.Helper()
	r.ok()
	require.NoError(r.t, json.Unmarshal([]byte(r.out), v), r.out)
}

// contents returns what a space remembers, in time order.
func (s shell) contents(space engram.SpaceID) []string {
	s.t.Helper()
	registry, err := engram.Open(s.dir, engram.Options{})
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, registry.Close()) }()
	opened, err := registry.Get(s.t.Context(), space)
	require.NoError(s.t, err)
	var contents []string
	for m, err := range opened.Memories(s.t.Context(), engram.Filter{}) {
		require.NoError(s.t, err)
		contents = append(contents, m.Content)
	}
	return contents
}
