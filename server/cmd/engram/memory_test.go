package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestRememberLookupRecallForget(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	var receipt engram.Receipt
	sh.run("remember", "-s", "alpha", "-o", "json", "Anna drinks green tea", "--id", "tea", "--time", "2026-03-01T12:00:00Z",
		"--episode", "chat", "--attribute", "who=anna", "--attribute", "note=a=b,c", "--confidence", "0.5", "--kind", "semantic").into(&receipt)
	require.Equal(t, "tea", receipt.ID)

	var memory engram.Memory
	sh.run("lookup", "tea", "-s", "alpha", "-o", "json").into(&memory)
	require.False(t, memory.StoredAt.IsZero())
	memory.StoredAt = time.Time{}
	require.Equal(t, engram.Memory{
		ID: "tea", Content: "Anna drinks green tea", Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Episode: "chat",
		Attributes: map[string]string{"who": "anna", "note": "a=b,c"}, Confidence: 0.5, Kind: engram.Semantic,
		Space: "alpha", Seq: receipt.Seq,
	}, memory)
	require.Contains(t, sh.run("lookup", "tea", "-s", "alpha").ok().out, "Anna drinks green tea")
	sh.run("lookup", "coffee", "-s", "alpha").failed("memory not found")

	require.Contains(t, sh.run("remember", "-s", "alpha", "Ben drinks coffee", "--id", "coffee").ok().out, "coffee")
	var recall engram.Recall
	sh.run("recall", "tea", "-s", "alpha", "-o", "json").into(&recall)
	require.Len(t, recall.Recollections, 1)
	require.Equal(t, "tea", recall.Recollections[0].Memory.ID)
	sh.run("recall", "drinks", "--limit", "1", "-s", "alpha", "-o", "json").into(&recall)
	require.Len(t, recall.Recollections, 1)
	sh.run("recall", "drinks", "--attribute", "who=anna", "-s", "alpha", "-o", "json").into(&recall)
	require.Len(t, recall.Recollections, 1)
	sh.run("recall", "--before", "2026-03-02T00:00:00Z", "-s", "alpha", "-o", "json").into(&recall)
	require.Len(t, recall.Recollections, 1)
	table := sh.run("recall", "drinks", "-s", "alpha").ok().out
	require.Contains(t, table, "ACTIVATION")
	require.Contains(t, table, "text ")
	require.Contains(t, sh.run("recall", "zebra", "-s", "alpha", "-o", "json").ok().out, `"recollections":[]`)

	var forgotten engram.ForgetReceipt
	sh.run("forget", "tea", "nothing", "-s", "alpha", "-o", "json").into(&forgotten)
	require.Equal(t, 1, forgotten.Forgotten)
	sh.run("lookup", "tea", "-s", "alpha").failed("memory not found")
	require.Equal(t, []string{"Ben drinks coffee"}, sh.contents("alpha"))
}

func TestForgetWhere(t *testing.T) {
	sh := newShell(t)
	for _, m := range [][]string{{"one", "e1"}, {"two", "e1"}, {"three", "e2"}, {"four", "e3"}} {
		sh.run("remember", "--create", "-s", "alpha", m[0], "--episode", m[1]).ok()
	}
	sh.run("forget", "-s", "alpha").failed("delete the space")
	sh.run("forget", "-s", "alpha", "x", "--episode", "e1").failed("either")
	for _, command := range []string{"forget", "forget-where", "recall", "list"} {
		sh.run(command, "-s", "alpha", "--episode", "e1", "--before", "0001-01-01T00:00:00Z").failed("--before", "zero time")
		sh.run(command, "-s", "alpha", "--before", "2100-01-01T00:00:00Z", "--episode", "").failed("--episode", "empty")
		sh.run(command, "-s", "alpha", "--before", "2100-01-01T00:00:00Z", "--kind", "").failed("--kind", "empty")
	}
	require.Len(t, sh.contents("alpha"), 4)
	sh.run("forget", "-s", "alpha", "--episode", "e1").ok()
	require.Equal(t, []string{"three", "four"}, sh.contents("alpha"))
	sh.run("forget", "-s", "alpha", "--after", "2000-01-01T00:00:00Z").ok()
	require.Empty(t, sh.contents("alpha"))
}

// TestWhichSpace: the flag, then the environment, then the default space, which
// is never taken in silence.
func TestWhichSpace(t *testing.T) {
	sh := newShell(t)
	for _, id := range []string{"default", "by-flag", "by-env"} {
		sh.run("space", "create", id).ok()
	}
	require.Contains(t, sh.run("remember", "to the default").ok().err, "space: default")
	t.Setenv(spaceVariable, "by-env")
	require.Contains(t, sh.run("remember", "to the environment's").ok().err, "space: by-env")
	require.Empty(t, sh.run("remember", "to the flag's", "--space", "by-flag").ok().err)
	require.Equal(t, []string{"to the default"}, sh.contents("default"))
	require.Equal(t, []string{"to the environment's"}, sh.contents("by-env"))
	require.Equal(t, []string{"to the flag's"}, sh.contents("by-flag"))
}

func TestRememberCreatesOnlyWhenTold(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	sh.run("remember", "x", "-s", "beta").failed("not found", "engram space create beta")
	sh.run("remember", "x", "-s", "beta", "--create").ok()
	sh.run("remember", "y", "-s", "beta", "--create").ok()
	require.Equal(t, []string{"x", "y"}, sh.contents("beta"))
}

func TestRememberFromStandardInput(t *testing.T) {
	sh := newShell(t)
	sh.runInput("two\nlines\n", "remember", "--create", "-s", "alpha", "-").ok()
	require.Equal(t, []string{"two\nlines\n"}, sh.contents("alpha"))
	sh.runInput(strings.Repeat("x", engram.MaxContentBytes+1), "remember", "-s", "alpha", "-").failed("content bytes")
}

func TestRememberRequestID(t *testing.T) {
	sh := newShell(t)
	sh.run("remember", "--create", "-s", "alpha", "once", "--request-id", "r1").ok()
	sh.run("remember", "-s", "alpha", "once", "--request-id", "r1").ok()
	require.Equal(t, []string{"once"}, sh.contents("alpha"))
}

// TestTablesCannotCommandATerminal: stored text is somebody else's.
func TestTablesCannotCommandATerminal(t *testing.T) {
	sh := newShell(t)
	hostile := "red \x1b[31m bell \a right-to-left \u202e\ttab\r\nnext " + strings.Repeat("long ", 50)
	sh.run("remember", "--create", "-s", "alpha", hostile, "--id", "h").ok()
	for _, args := range [][]string{{"recall", "red", "-s", "alpha"}, {"lookup", "h", "-s", "alpha"}} {
		out := sh.run(args...).ok().out
		require.Contains(t, out, "red")
		require.NotContains(t, out, "\x1b")
		require.NotContains(t, out, "\a")
		require.NotContains(t, out, "\u202e")
		require.NotContains(t, out, "\r")
	}
	require.Equal(t, 2, strings.Count(sh.run("recall", "red", "-s", "alpha").out, "\n"), "a memory is one line of the table")
	require.Contains(t, sh.run("recall", "red", "-s", "alpha").out, "...")
	require.Contains(t, sh.run("lookup", "h", "-s", "alpha").out, strings.Repeat("long ", 50))
}
