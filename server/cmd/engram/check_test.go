package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// report runs check, which must end with the code, and returns what it says.
func (s shell) report(code int) engram.CheckReport {
	s.t.Helper()
	r := s.run("check", "-o", "json")
	require.Equal(s.t, code, r.code, r.err)
	require.Empty(s.t, r.err)
	r.code = exitOK
	var report engram.CheckReport
	r.into(&report)
	return report
}

func TestCheck(t *testing.T) {
	sh := newShell(t)
	missing := sh.run("check")
	require.Equal(t, exitNoCheck, missing.code)
	require.Contains(t, missing.err, "no data directory")
	require.NoDirExists(t, sh.dir)

	for _, id := range []string{"alpha", "beta"} {
		for i := range 3 {
			sh.run("remember", "--create", "-s", id, fmt.Sprintf("memory %d of %s", i, id)).ok()
		}
	}
	report := sh.report(0)
	require.Equal(t, engram.CheckClean, report.Verdict)
	require.Len(t, report.Spaces, 2)
	require.Equal(t, int64(3), report.Spaces[0].Memories)
	require.Contains(t, sh.run("check").ok().out, "2 spaces  clean    6")

	flipContent(t, sh.dir, "beta", "memory 1 of beta")
	report = sh.report(2)
	require.Equal(t, engram.CheckCorrupt, report.Verdict)
	require.Equal(t, engram.CheckClean, report.Spaces[0].Verdict)
	require.Equal(t, engram.CheckCorrupt, report.Spaces[1].Verdict)
	require.NotEmpty(t, report.Spaces[1].Damage)

	table := sh.run("check")
	require.Equal(t, 2, table.code)
	require.Contains(t, table.out, "beta")
	require.NotContains(t, table.out, "alpha")
	sh.run("recall", "memory", "-s", "alpha").ok()
	sh.run("remember", "more", "-s", "beta").failed("beta", "engram check")
}

// flipContent changes one byte of a stored text in the space's log.
func flipContent(t *testing.T, dir, space, text string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, space, "wal", "*.wal"))
	require.NoError(t, err)
	for _, segment := range segments {
		content, err := os.ReadFile(segment)
		require.NoError(t, err)
		if at := bytes.Index(content, []byte(text)); at >= 0 {
			content[at] ^= 1
			require.NoError(t, os.WriteFile(segment, content, 0o600))
			return
		}
	}
	require.FailNow(t, "no segment holds the text")
}

// TestNoVerdictOnAWrongCommandLine: where 1 is a verdict, a command line that is not
// understood has another code.
func TestNoVerdictOnAWrongCommandLine(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	for _, args := range [][]string{
		{"check", "--nothing"},
		{"check", "alpha"},
		{"check", "--addr", "http://127.0.0.1:1"},
		{"dump", "alpha"},
		{"dump", "--space", "alpha", "--journal"},
		{"salvage"},
		{"salvage", "--out", t.TempDir(), "alpha"},
	} {
		r := sh.run(args...)
		require.Equal(t, exitNoCheck, r.code, args)
		require.Contains(t, r.err, "engram: ")
	}
}

// TestWrongCommandLine: the message says where the right one stands.
func TestWrongCommandLine(t *testing.T) {
	sh := newShell(t)
	sh.run("remember", "two", "words").failed("received 2", "`engram remember --help`")
	sh.run("space", "info").failed("received 0", "`engram space info --help`")
	sh.run("recall", "--limt", "3", "x").failed("--limt", "`engram recall --help`")
	sh.run("list", "--limit", "many").failed("many", "`engram list --help`")
	sh.run("remembr", "x").failed("remember", "`engram --help`")
	require.NotContains(t, sh.run("space", "list").failed("no data directory").err, "--help")
}

func TestCheckOfALockedDirectory(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	registry, err := engram.Open(sh.dir, engram.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, registry.Close()) }()
	r := sh.run("check")
	require.Equal(t, exitNoCheck, r.code)
	require.Contains(t, r.err, "in use by")
}
