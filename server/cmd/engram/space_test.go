package main

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestSpaceCommands(t *testing.T) {
	sh := newShell(t)
	var info engram.SpaceInfo
	sh.run("space", "create", "alpha", "--max-memories", "9", "-o", "json").into(&info)
	require.Equal(t, engram.SpaceID("alpha"), info.ID)
	require.Equal(t, int64(9), info.Config.MaxMemories)
	sh.run("space", "create", "beta").ok()
	sh.run("space", "create", "alpha").failed("space exists")
	sh.run("space", "create", "No").failed("space id")

	var list struct{ Spaces []spaceItem }
	sh.run("space", "list", "-o", "json").into(&list)
	require.Equal(t, []spaceItem{{"alpha"}, {"beta"}}, list.Spaces)
	require.Equal(t, "ID\nalpha\nbeta\n", sh.run("space", "list").ok().out)
	require.Equal(t, "ID\nbeta\n", sh.run("space", "list", "--after", "alpha").ok().out)

	var again engram.SpaceInfo
	sh.run("space", "info", "alpha", "-o", "json").into(&again)
	require.Equal(t, info.Incarnation, again.Incarnation)
	require.True(t, info.Created.Equal(again.Created))
	require.Contains(t, sh.run("space", "info", "alpha").ok().out, "memories     0 of 9\n")

	sh.run("space", "rename", "alpha", "gamma").ok()
	sh.run("space", "info", "alpha").failed("not found", "engram space create alpha")
	sh.run("space", "info", "gamma", "-o", "json").into(&again)
	require.Equal(t, info.Incarnation, again.Incarnation)
	sh.run("space", "rename", "gamma", "beta").failed("space exists")

	sh.run("space", "delete", "gamma").failed("--yes")
	sh.run("space", "info", "gamma").ok()
	sh.run("space", "delete", "gamma", "--yes").ok()
	sh.run("space", "info", "gamma").failed("not found")
	require.Equal(t, "ID\nbeta\n", sh.run("space", "list").ok().out)
}

// TestNoCommandMakesADirectoryByMistake: a mistyped --data is an error.
func TestNoCommandMakesADirectoryByMistake(t *testing.T) {
	sh := newShell(t)
	for _, args := range [][]string{
		{"space", "list"},
		{"space", "info", "alpha"},
		{"space", "rename", "alpha", "beta"},
		{"space", "delete", "alpha", "--yes"},
		{"remember", "x"},
		{"lookup", "x"},
		{"recall", "x"},
		{"forget", "x"},
		{"import", "-"},
	} {
		sh.run(args...).failed("no data directory", sh.dir, "--data")
		require.NoDirExists(t, sh.dir)
	}
}

// TestLockedDirectory: while another registry holds the directory every command
// fails at once, names the holder, and says what to do instead.
func TestLockedDirectory(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	registry, err := engram.Open(sh.dir, engram.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, registry.Close()) }()
	for _, args := range [][]string{
		{"space", "list"},
		{"space", "create", "beta"},
		{"remember", "x", "--create"},
		{"recall", "x"},
		{"import", "-"},
		{"serve", "--http", "127.0.0.1:0", "--grpc", "off"},
	} {
		sh.run(args...).failed("in use by", "hint:", "HTTP API")
	}
}

func TestNearNamesAreOffered(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "customer-anna").ok()
	sh.run("recall", "x", "--space", "customer-ana").failed("not found", "customer-anna")
}

func TestUsageErrors(t *testing.T) {
	sh := newShell(t)
	for _, args := range [][]string{
		{"nonsense"},
		{"space", "nonsense"},
		{"key", "nonsense", "id"},
		{"config", "nonsense"},
		{"space", "create"},
		{"space", "create", "a", "b"},
		{"space", "list", "-o", "xml"},
		{"recall", "--after", "yesterday"},
		{"remember", "x", "--attribute", "novalue"},
		{"remember", "x", "--attribute", "a=1", "--attribute", "a=2"},
		{"serve", "--http", "nonsense"},
	} {
		require.NotEmpty(t, sh.run(args...).failed().err)
	}
	_, err := os.Stat(sh.dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestSpaceVerifyHidesNoFailure: that no space is damaged is no error, beside which that
// of closing the directory would not count.
func TestSpaceVerifyHidesNoFailure(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	a := newApp(nil, io.Discard, io.Discard)
	a.dataDir, a.dataGiven = sh.dir, func() bool { return true }
	cmd := a.spaceVerifyCommand()
	cmd.SetContext(t.Context())
	require.NoError(t, cmd.RunE(cmd, nil))
}
