package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
)

// backends runs a test on a directory and on a server.
func backends(t *testing.T, test func(t *testing.T, sh shell)) {
	t.Helper()
	t.Run("directory", func(t *testing.T) { test(t, newShell(t)) })
	t.Run("server", func(t *testing.T) {
		sh := newShell(t)
		sh.args = []string{"--addr", engramtest.Start(t, engramtest.Options{}).URL()}
		test(t, sh)
	})
}

// TestEveryOperation does all there is to do, the same way on both.
func TestEveryOperation(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		for _, id := range []string{"alpha", "alpha-b"} {
			sh.run("space", "create", id).ok()
			for _, memory := range []string{"tea", "cake"} {
				sh.run("remember", "-s", id, "--id", memory, "--episode", memory+"-time", memory+" of "+id).ok()
			}
		}
		require.Contains(t, sh.run("lookup", "-s", "alpha", "tea").ok().out, "tea of alpha")
		sh.run("associate", "-s", "alpha", "tea", "cake", "--weight", "0.5").ok()
		require.Contains(t, sh.run("associations", "-s", "alpha", "tea").ok().out, "0.500")
		require.NotContains(t, sh.run("associations", "-s", "alpha-b", "tea").ok().out, "0.500")
		var recall engram.Recall
		sh.run("-o", "json", "recall", "-s", "alpha", "tea").into(&recall)
		require.Equal(t, "tea of alpha", recall.Recollections[0].Memory.Content)
		sh.run("dissociate", "-s", "alpha", "tea", "cake").ok()
		require.NotContains(t, sh.run("associations", "-s", "alpha", "tea").ok().out, "0.500")

		sh.run("space", "configure", "alpha", "--max-memories", "2").ok()
		sh.run("space", "configure", "alpha", "--auto-associate", "3").ok()
		var info engram.SpaceInfo
		sh.run("-o", "json", "space", "info", "alpha").into(&info)
		require.Equal(t, engram.SpaceConfig{MaxMemories: 2, AutoAssociate: 3}, info.Config)
		sh.run("remember", "-s", "alpha", "one too many").failed("quota", "forget something")
		sh.run("space", "configure", "alpha").failed("what to change")

		require.Contains(t, sh.run("forget-where", "-s", "alpha", "--episode", "cake-time", "--dry-run").ok().out, "WOULD FORGET")
		require.Equal(t, 2, strings.Count(sh.run("-o", "json", "list", "-s", "alpha").ok().out, "\n"))
		sh.run("forget-where", "-s", "alpha", "--episode", "cake-time").ok()
		require.Equal(t, 1, strings.Count(sh.run("-o", "json", "list", "-s", "alpha").ok().out, "\n"))
		require.Equal(t, 1, strings.Count(sh.run("-o", "json", "list", "-s", "alpha-b", "--limit", "1").ok().out, "\n"))
		sh.run("forget", "-s", "alpha-b", "tea").ok()

		events := sh.run("-o", "json", "events", "-s", "alpha").ok()
		var last engram.Event
		lines := strings.Split(strings.TrimSpace(events.out), "\n")
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		require.NotNil(t, last.Filter)
		require.Equal(t, "cake-time", last.Filter.Episode)
		require.Empty(t, sh.run("events", "-s", "alpha", "--after", "999").out)

		sh.run("checkpoint", "-s", "alpha").ok()
		sh.run("settle").ok()
		require.Contains(t, sh.run("space", "verify").ok().out, "none")
		require.Contains(t, sh.run("space", "stats", "alpha").ok().out, "memories")
		sh.run("space", "rename", "alpha", "omega").ok()
		sh.run("space", "delete", "alpha-b", "--yes").ok()
		require.Equal(t, "ID\nomega\n", sh.run("space", "list").ok().out)
		sh.run("space", "list", "--after", "Not an id").failed("space id")
		sh.run("lookup", "-s", "alpha-b", "cake").failed("create it with")
		sh.run("lookup", "-s", "../omega", "cake").failed("space id")
	})
}

// TestExportImport takes a space from one place to another.
func TestExportImport(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		sh.run("remember", "-s", "alpha", "--create", "--id", "tea", "green tea").ok()
		file := filepath.Join(t.TempDir(), "alpha.jsonl")
		sh.run("export", "-s", "alpha", file).ok()
		sh.run("export", "-s", "alpha", file).failed("exists")
		sh.run("import", "--new", "-s", "beta", file).ok()
		sh.run("import", "--new", "-s", "beta", file).failed("exists")
		require.Equal(t, sh.run("export", "-s", "alpha", "-").ok().out, sh.run("export", "-s", "beta", "-").ok().out)
		m := sh.run("lookup", "-s", "beta", "tea").ok()
		require.Contains(t, m.out, "green tea")

		absent := filepath.Join(t.TempDir(), "absent.jsonl")
		sh.run("export", "-s", "gamma", absent).failed("create it with")
		_, err := os.Stat(absent)
		require.ErrorIs(t, err, os.ErrNotExist)

		sh.runInput(`{"id":"a","content":"one"}`+"\n"+`{"id":"b","content":""}`+"\n", "import", "-s", "alpha", "-").failed("line 2")
		sh.run("lookup", "-s", "alpha", "a").ok()
	})
}

// TestOddNames: ids that a path takes for steps, and attributes that a query
// cannot tell apart, mean the same on both, or are refused.
func TestOddNames(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		for i, id := range []string{".", "..", "a/../b", "%2e%2e", "ä ?#"} {
			sh.run("remember", "-s", "alpha", "--create", "--id", id, "memory "+strconv.Itoa(i)).ok()
			require.Contains(t, sh.run("lookup", "-s", "alpha", id).ok().out, "memory "+strconv.Itoa(i))
			sh.run("associations", "-s", "alpha", id).ok()
		}
		sh.run("remember", "-s", "alpha", "--id", "meant", "--attribute", "a:b=c", "x").ok()
		sh.run("remember", "-s", "alpha", "--id", "other", "--attribute", "a=b:c", "x").ok()
		require.NotContains(t, sh.run("list", "-s", "alpha", "--attribute", "a:b=c").out, "other")
		require.NotContains(t, sh.run("list", "-s", "alpha", "--attribute", "a=b:c").ok().out, "meant")
	})
}

// TestNoText: what is not UTF-8 is refused on both, and nothing else is named or
// stored in its place.
func TestNoText(t *testing.T) {
	const bad, replaced = "\xff", "\ufffd"
	backends(t, func(t *testing.T, sh shell) {
		sh.run("remember", "-s", "alpha", "--create", "--id", replaced, "--episode", replaced, "kept").ok()
		sh.run("remember", "-s", "alpha", "--id", "other", "other").ok()
		for _, args := range [][]string{
			{"remember", "-s", "alpha", bad},
			{"remember", "-s", "alpha", "--id", bad, "x"},
			{"remember", "-s", "alpha", "--episode", bad, "x"},
			{"remember", "-s", "alpha", "--attribute", bad + "=x", "x"},
			{"remember", "-s", "alpha", "--attribute", "x=" + bad, "x"},
			{"recall", "-s", "alpha", bad},
			{"recall", "-s", "alpha", "--id", bad},
			{"lookup", "-s", "alpha", bad},
			{"list", "-s", "alpha", "--episode", bad},
			{"associate", "-s", "alpha", "other", bad},
			{"dissociate", "-s", "alpha", "other", bad},
			{"associations", "-s", "alpha", bad},
			{"forget", "-s", "alpha", bad},
			{"forget-where", "-s", "alpha", "--episode", bad},
		} {
			sh.run(args...).failed("not valid UTF-8")
		}
		sh.runInput(bad, "remember", "-s", "alpha", "-").failed("not valid UTF-8")
		require.Equal(t, 2, strings.Count(sh.run("-o", "json", "list", "-s", "alpha").ok().out, "\n"))
	})
}

// TestNoID: a memory without an id is asked for by nobody.
func TestNoID(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		sh.run("space", "create", "alpha").ok()
		sh.run("lookup", "-s", "alpha", "").failed("id: is empty")
		sh.run("associations", "-s", "alpha", "").failed("id: is empty")
	})
}

// TestEventsNeedTheVerbRead and no other.
func TestEventsNeedTheVerbRead(t *testing.T) {
	sh, keys := newShell(t), filepath.Join(t.TempDir(), "keys.json")
	sh.run("space", "create", "alpha").ok()
	var key createdKey
	sh.run("key", "create", "--keys", keys, "--scope", "alpha:read", "-o", "json").into(&key)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, printed := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, io.Discard).run(ctx,
			[]string{"serve", "--data", sh.dir, "--http", "127.0.0.1:0", "--grpc", "off", "--keys", keys})
	}()
	sh.args = []string{"--addr", announced(t, out), "--key", key.Key}
	require.Contains(t, sh.run("events", "-s", "alpha").ok().out, "configure")
	sh.run("remember", "-s", "alpha", "--create", "--id", "tea", "x").failed("write")
	stop()
	require.Equal(t, exitOK, <-code)
}

// TestSpaceByPrecedence: flag, environment, file, in that order, and what is
// written lands there, over --addr too.
func TestSpaceByPrecedence(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		for _, id := range []string{"by-flag", "by-env", "by-file", "default"} {
			sh.run("space", "create", id).ok()
		}
		require.Contains(t, sh.run("remember", "--id", "default", "x").ok().err, "space: default")
		path := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(path, []byte(`{"space": "by-file"}`), 0o600))
		t.Setenv(defaultsVariable, path)
		require.Contains(t, sh.run("remember", "--id", "by-file", "x").ok().err, "space: by-file")
		t.Setenv(spaceVariable, "by-env")
		require.Contains(t, sh.run("remember", "--id", "by-env", "x").ok().err, "space: by-env")
		require.Empty(t, sh.run("remember", "--space", "by-flag", "--id", "by-flag", "x").ok().err)
		for _, id := range []string{"by-flag", "by-env", "by-file", "default"} {
			var m engram.Memory
			sh.run("-o", "json", "list", "--space", id).into(&m) // one line: one memory
			require.Equal(t, id, m.ID)
			require.Equal(t, engram.SpaceID(id), m.Space)
		}
		sh.run("remember", "--space", "", "x").failed("space id")

		require.NoError(t, os.WriteFile(path, []byte(`{"spaces": "by-file"}`), 0o600))
		t.Setenv(spaceVariable, "")
		sh.run("remember", "x").failed("config.json", "spaces")
	})
}

// TestAddress: a flag counts more than the environment, and two flags are a doubt.
func TestAddress(t *testing.T) {
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"served"}})
	sh := newShell(t)
	sh.run("space", "create", "stored").ok()
	t.Setenv(addressVariable, server.URL())
	require.Equal(t, "ID\nstored\n", sh.run("space", "list").ok().out)
	bare := sh
	bare.args = nil
	require.Equal(t, "ID\nserved\n", bare.run("space", "list").ok().out)
	sh.run("space", "list", "--addr", server.URL()).failed("either --addr or --data")
	bare.run("space", "list", "--addr", "http://127.0.0.1:1").failed("no server at", "engram serve")
	bare.run("space", "list", "--addr", "7432").failed("address of a server")
	bare.run("space", "list", "--addr", server.URL()+"/").ok()
	for _, more := range []string{"/other", "/?x=y", "/#x"} { // which must not be passed over
		bare.run("space", "list", "--addr", server.URL()+more).failed("address of a server")
		bare.run("mcp", "--addr", server.URL()+more).failed("address of a server")
	}
}

// TestAnswersOfSomethingElse: nothing is said to be done that a login page answered to.
func TestAnswersOfSomethingElse(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>Log in.</html>")
	}))
	defer page.Close()
	sh := newShell(t)
	sh.args = []string{"--addr", page.URL}
	for _, args := range [][]string{
		{"space", "list"},
		{"space", "rename", "alpha", "beta"},
		{"space", "delete", "alpha", "--yes"},
		{"checkpoint", "-s", "alpha"},
		{"settle"},
		{"export", "-s", "alpha", "-"},
		{"events", "-s", "alpha", "--follow"},
	} {
		require.Empty(t, sh.run(args...).failed("no Engram server", "text/html").out, args)
	}
}

// TestAnswersOfAnotherAPI: JSON that an Engram server does not answer with is no empty
// result.
func TestAnswersOfAnotherAPI(t *testing.T) {
	for _, answer := range []string{`{"message":"log in"}`, `{}`, `null`} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		}))
		sh := newShell(t)
		sh.args = []string{"--addr", other.URL}
		for _, args := range [][]string{
			{"space", "list"},
			{"space", "create", "alpha"},
			{"space", "info", "alpha"},
			{"space", "stats", "alpha"},
			{"space", "verify", "alpha"},
			{"space", "configure", "alpha", "--max-memories", "1"},
			{"space", "rename", "alpha", "beta"},
			{"space", "delete", "alpha", "--yes"},
			{"remember", "-s", "alpha", "x"},
			{"lookup", "-s", "alpha", "x"},
			{"list", "-s", "alpha"},
			{"recall", "-s", "alpha", "x"},
			{"forget", "-s", "alpha", "x"},
			{"forget-where", "-s", "alpha", "--episode", "x"},
			{"forget-where", "-s", "alpha", "--episode", "x", "--dry-run"},
			{"associate", "-s", "alpha", "x", "y"},
			{"dissociate", "-s", "alpha", "x", "y"},
			{"associations", "-s", "alpha", "x"},
			{"checkpoint", "-s", "alpha"},
			{"settle"},
		} {
			require.Empty(t, sh.run(args...).failed("no Engram server").out, args)
		}
		sh.runInput(`{"content":"x"}`, "import", "-s", "alpha", "-").failed("no Engram server")
		sh.runInput(`{"format":"engram-export","version":1,"config":{}}`, "import", "-s", "alpha", "--new", "-").failed("no Engram server")
		other.Close()
	}
}

// TestFreshSpace: what is empty is no answer of another API.
func TestFreshSpace(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		sh.run("space", "create", "alpha").ok()
		for _, args := range [][]string{
			{"space", "stats", "alpha"},
			{"space", "configure", "alpha", "--max-memories", "0"},
			{"list", "-s", "alpha"},
			{"recall", "-s", "alpha", "x"},
			{"forget-where", "-s", "alpha", "--episode", "x"},
			{"forget-where", "-s", "alpha", "--episode", "x", "--dry-run"},
		} {
			sh.run(args...).ok()
		}
		sh.run("space", "delete", "alpha", "--yes").ok()
		sh.run("space", "list").ok()
		sh.run("space", "verify").ok()
	})
}

// TestProblemsCommandNoTerminal: what a server says of an error is somebody else's text,
// as what is stored is.
func TestProblemsCommandNoTerminal(t *testing.T) {
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"type":"urn:engram:problem:conflict","detail":"one\u001b]0;owned\u0007\ntwo","hint":"three\u001b[2J"}`)
	}))
	defer hostile.Close()
	sh := newShell(t)
	sh.args = []string{"--addr", hostile.URL}
	require.Equal(t, "engram: one\ufffd]0;owned\ufffd\ntwo\nhint: three\ufffd[2J\n", sh.run("settle").failed().err)
}

// TestFollow sees events of others as they come, of one space.
func TestFollow(t *testing.T) {
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alpha", "beta"}})
	newShell(t).run("events", "--follow").failed("--addr")
	ctx, interrupt := context.WithCancel(t.Context())
	out, printed := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), printed, io.Discard).run(ctx,
			[]string{"--addr", server.URL(), "-o", "json", "events", "-s", "alpha", "--follow"})
	}()
	lines := json.NewDecoder(out)
	for _, id := range []string{"beta", "alpha"} {
		_, err := server.Space(engram.SpaceID(id)).Remember(t.Context(), engram.Memory{ID: id, Content: "x"})
		require.NoError(t, err)
	}
	for {
		var e engram.Event
		require.NoError(t, lines.Decode(&e))
		require.NotEqual(t, []string{"beta"}, e.IDs)
		if e.Memory != nil {
			require.Equal(t, []string{"alpha"}, e.IDs)
			break
		}
	}
	interrupt()
	require.Equal(t, exitOK, <-code)
}
