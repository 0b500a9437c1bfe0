package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestDump(t *testing.T) {
	sh := twoSpaces(t)
	text := sh.run("dump", "-s", "beta").ok().out
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, want := range []string{
		`^beta/SPACE 0\+4096 identity incarnation=[0-9a-f]{32}$`,
		`^beta/SPACE 4096\+4096 state space=beta number=\d+ seq=\d segment=1 end=\d+ sum=[0-9a-f]{8}$`,
		`^beta/SPACE 8192\+4096 state space=beta `,
		`^beta/SPACE 12288\+4096 identity `,
		`^beta/wal/00000001.wal 0\+128 segment incarnation=[0-9a-f]{32} number=1 first=1 previous=00000000$`,
		`^beta/wal/00000001.wal 128\+96 frame first=1 count=1 epoch=\d+ sum=[0-9a-f]{8} previous=00000000 \[1 configure\]$`,
		`^beta/wal/00000001.wal 224\+\d+ frame first=2 count=1 epoch=\d+ sum=[0-9a-f]{8} previous=[0-9a-f]{8} \[2 remember "m0"\]$`,
	} {
		require.Regexp(t, want, lines[i])
	}
	require.NotContains(t, text, "memory 1 of beta")
	require.Contains(t, sh.run("dump", "-s", "beta", "--contents").ok().out, `[3 remember "m1": "memory 1 of beta"]`)

	flipContent(t, sh.dir, "beta", "memory 1 of beta")
	damaged := sh.run("dump", "-s", "beta")
	require.Equal(t, exitNotIntact, damaged.code)
	require.Contains(t, damaged.out, " damage NOT INTACT")
	require.NotContains(t, damaged.out, "[3 ")
	require.Contains(t, damaged.out, "[4 remember")
	sh.run("dump", "-s", "alpha").ok()
}

func TestDumpAsJSON(t *testing.T) {
	sh := twoSpaces(t)
	for _, args := range [][]string{{"-s", "alpha", "--contents"}, {"--journal"}} {
		out := sh.run(append([]string{"dump", "-o", "json"}, args...)...).ok().out
		for line := range strings.Lines(out) {
			var record engram.DumpRecord
			decoder := json.NewDecoder(strings.NewReader(line))
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(&record), line)
			require.True(t, record.Intact)
			require.NotEmpty(t, record.Kind)
			require.Positive(t, record.Length)
		}
	}
	require.Contains(t, sh.run("dump", "--journal").ok().out, ".journal/HEAD 0+4096 head number=")
}

func TestDumpRefuses(t *testing.T) {
	sh := newShell(t)
	missing := sh.run("dump", "-s", "alpha")
	require.Equal(t, exitNoCheck, missing.code)
	require.NoDirExists(t, sh.dir)
	sh.run("space", "create", "alpha").ok()
	require.Equal(t, exitNoCheck, sh.run("dump", "-s", "beta").code)
	registry, err := engram.Open(sh.dir, engram.Options{})
	require.NoError(t, err)
	require.Equal(t, exitNoCheck, sh.run("dump", "-s", "alpha").code)
	require.NoError(t, registry.Close())
}

func TestDumpLine(t *testing.T) {
	line := dumpLine(engram.DumpRecord{
		File: "f", Kind: engram.DumpFrame, Intact: true, Bodies: true, Generation: 2,
		Operations: []engram.DumpOperation{{Seq: 7, Kind: "forget", IDs: []string{"a b", "c"}}},
	})
	require.Equal(t, `f 0+0 frame generation=2 bodies=true [7 forget NOT INTACT "a b" "c"]`, line)
}
