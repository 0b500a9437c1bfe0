package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// salvage runs the command into a new directory, which must end with the code,
// and returns a shell on that and what the command says.
func (s shell) salvage(code int, args ...string) (shell, engram.SalvageReport) {
	s.t.Helper()
	dir := s.t.TempDir() + "/salvaged"
	to := shell{t: s.t, dir: dir, args: []string{"--data", dir}}
	r := s.run(append([]string{"salvage", "-o", "json", "--out", to.dir}, args...)...)
	require.Equal(s.t, code, r.code, r.err)
	require.Empty(s.t, r.err)
	var report engram.SalvageReport
	require.NoError(s.t, json.Unmarshal([]byte(r.out), &report), r.out)
	return to, report
}

// twoSpaces makes a directory with three memories in each of alpha and beta.
func twoSpaces(t *testing.T) shell {
	t.Helper()
	sh := newShell(t)
	for _, id := range []string{"alpha", "beta"} {
		for i := range 3 {
			sh.run("remember", "--create", "-s", id, "--id", fmt.Sprint("m", i), fmt.Sprintf("memory %d of %s", i, id)).ok()
		}
	}
	return sh
}

func TestSalvage(t *testing.T) {
	sh := twoSpaces(t)
	to, report := sh.salvage(0)
	require.Len(t, report.Spaces, 2)
	require.Equal(t, []string{"memory 0 of beta", "memory 1 of beta", "memory 2 of beta"}, to.contents("beta"))

	flipContent(t, sh.dir, "beta", "memory 1 of beta")
	sh.report(2)
	to, report = sh.salvage(1)
	require.Equal(t, []engram.SeqRange{{First: 3, Last: 3}}, report.Spaces[1].Missing)
	require.Equal(t, []string{"memory 0 of beta", "memory 2 of beta"}, to.contents("beta"))
	require.Len(t, to.contents("alpha"), 3)
	to.report(0)

	_, report = sh.salvage(0, "-s", "alpha")
	require.Len(t, report.Spaces, 1)

	table := sh.run("salvage", "--out", t.TempDir()+"/table")
	require.Equal(t, 1, table.code)
	require.Regexp(t, `(?m)^alpha +3 +nothing *$`, table.out)
	require.Regexp(t, `(?m)^beta +2 +operations 3 to 3 +space "beta": wal/00000001.wal at byte`, table.out)
	require.Regexp(t, `(?m)^2 spaces +5`, table.out)

	table = sh.run("salvage", "--out", t.TempDir()+"/one", "-s", "alpha").ok()
	require.Regexp(t, `(?m)^1 space +3`, table.out)
}

func TestSalvageWithoutJournal(t *testing.T) {
	sh := twoSpaces(t)
	require.NoError(t, os.RemoveAll(filepath.Join(sh.dir, ".journal")))
	to, report := sh.salvage(1)
	require.Contains(t, report.Damage, ".journal")
	for _, space := range report.Spaces {
		require.True(t, space.OpenEnd)
		require.Len(t, to.contents(space.Space), 3)
	}
	table := sh.run("salvage", "--out", t.TempDir()+"/table")
	require.Contains(t, table.out, "perhaps operations after 4")
}

func TestSalvageOfNothing(t *testing.T) {
	sh := twoSpaces(t)
	for _, id := range []string{"alpha", "beta"} {
		require.NoError(t, os.RemoveAll(filepath.Join(sh.dir, id, "wal")))
		require.NoError(t, os.Remove(filepath.Join(sh.dir, id, "SPACE")))
	}
	_, report := sh.salvage(2)
	for _, space := range report.Spaces {
		require.NotEmpty(t, space.Failed)
		require.Zero(t, space.Saved)
	}
	table := sh.run("salvage", "--out", t.TempDir()+"/table")
	require.Equal(t, 2, table.code)
	require.Contains(t, table.out, "everything: ")
}

func TestSalvageRefuses(t *testing.T) {
	sh := newShell(t)
	missing := sh.run("salvage", "--out", t.TempDir()+"/out")
	require.Equal(t, exitNoCheck, missing.code)
	require.Contains(t, missing.err, "no data directory")
	require.NoDirExists(t, sh.dir)

	sh.run("space", "create", "alpha").ok()
	for _, out := range []string{sh.dir, sh.dir + "/below"} {
		refused := sh.run("salvage", "--out", out)
		require.Equal(t, exitNoCheck, refused.code)
		require.Contains(t, refused.err, "out: ")
	}
	require.NoDirExists(t, sh.dir+"/below")
	unknown := sh.run("salvage", "--out", t.TempDir()+"/out", "-s", "beta")
	require.Equal(t, exitNoCheck, unknown.code)
}

func TestLosses(t *testing.T) {
	require.Equal(t, "1 memory", losses(engram.SpaceSalvage{Unreadable: []string{"a"}}))
	require.Equal(t, "2 memories, perhaps what was forgotten since the last checkpoint: it may be back",
		losses(engram.SpaceSalvage{Unreadable: []string{"a", "b"}, Returned: true}))
}
