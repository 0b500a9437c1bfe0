package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/local"
)

// file writes lines to a file and returns its name.
func (s shell) file(lines ...string) string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "memories.jsonl")
	require.NoError(s.t, os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600))
	return name
}

// numbered returns n lines with the ids and contents m1 to mN, a second apart.
func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":"m%d","content":"m%d","time":"2026-01-01T%02d:%02d:%02dZ"}`, i+1, i+1, i/3600, i/60%60, i%60)
	}
	return lines
}

func TestImport(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	lines := numbered(3)
	lines = append(lines, "", "  \r", `{"content":"with all","time":"2027-01-01T00:00:00+01:00","episode":"e","attributes":{"a":"b"},"embedding":[1,2],"confidence":0.5,"kind":"semantic"}`+"\r")
	var got importResult
	sh.run("import", sh.file(lines...), "-s", "alpha", "-o", "json").into(&got)
	require.Equal(t, importResult{Space: "alpha", Stored: 4, LastLine: 6, Seq: got.Seq}, got)
	require.Equal(t, []string{"m1", "m2", "m3", "with all"}, sh.contents("alpha"))

	sh.runInput(`{"content":"from stdin","time":"2028-01-01T00:00:00Z"}`, "import", "-", "-s", "alpha", "-o", "json").into(&got)
	require.Equal(t, 1, got.Stored)
	require.Equal(t, []string{"m1", "m2", "m3", "with all", "from stdin"}, sh.contents("alpha"))

	sh.runInput("\n\n", "import", "-", "-s", "alpha", "-o", "json").into(&got)
	require.Equal(t, 0, got.Stored)
	sh.run("import", sh.dir+"/nothing.jsonl", "-s", "alpha").failed("nothing.jsonl")
}

func TestImportNeedsItsSpace(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	sh.runInput(`{"content":"x"}`, "import", "-", "-s", "beta").failed("not found")
	sh.runInput(`{"content":"x"}`, "import", "-", "-s", "beta", "--create").ok()
	require.Equal(t, []string{"x"}, sh.contents("beta"))
}

// TestImportStopsAtABadLine: wherever the bad line stands and whatever is wrong
// with it, exactly the lines before it are stored, it is named, and the import
// can be taken up there.
func TestImportStopsAtABadLine(t *testing.T) {
	bad := map[string]string{
		"no JSON":       `{"content":`,
		"not an object": `[]`,
		"unknown field": `{"content":"x","contents":"y"}`,
		"given twice":   `{"content":"x","content":"y"}`,
		"two values":    `{"content":"x"} {"content":"y"}`,
		"invalid":       `{"content":"x","confidence":7}`,
		"empty":         `{"content":""}`,
		"over a limit":  fmt.Sprintf(`{"content":%q}`, strings.Repeat("x", engram.MaxContentBytes+1)),
		"wrong space":   `{"content":"x","space":"beta"}`,
		"too long":      `{"content":"` + strings.Repeat("x", maxLineBytes) + `"}`,
	}
	const n = maxImportBatch + 20 // the last line stands in the second batch
	positions := []int{1, 2, maxImportBatch, maxImportBatch + 1, n}
	if testing.Short() {
		positions = []int{1, n}
	}
	for name, line := range bad {
		for _, at := range positions {
			t.Run(fmt.Sprintf("%s/%d", name, at), func(t *testing.T) {
				sh := newShell(t)
				lines := numbered(n)
				lines[at-1] = line
				file := sh.file(lines...)
				r := sh.run("import", file, "-s", "alpha", "--create", "-o", "json")
				r.failed(fmt.Sprintf("line %d:", at), fmt.Sprintf("--from %d", at))
				var got importResult
				require.NoError(t, json.Unmarshal([]byte(r.out), &got))
				require.Equal(t, importResult{Space: "alpha", Stored: at - 1, LastLine: at - 1, Seq: got.Seq, FailedLine: at}, got)
				require.Len(t, sh.contents("alpha"), at-1)

				lines[at-1] = numbered(n)[at-1]
				sh.run("import", sh.file(lines...), "-s", "alpha", "--from", fmt.Sprint(at), "-o", "json").into(&got)
				require.Equal(t, n-at+1, got.Stored)
				require.Len(t, sh.contents("alpha"), n)
			})
		}
	}
}

// TestImportAgain: memories with ids are replaced, so running an import again
// from the start is safe.
func TestImportAgain(t *testing.T) {
	sh := newShell(t)
	file := sh.file(numbered(700)...)
	sh.run("import", file, "-s", "alpha", "--create").ok()
	sh.run("import", file, "-s", "alpha").ok()
	require.Len(t, sh.contents("alpha"), 700)
	sh.run("import", file, "--from", "0").failed("--from")
}

func TestImportStopsAtTheQuota(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha", "--max-memories", "5").ok()
	sh.run("import", sh.file(numbered(9)...), "-s", "alpha").failed("line 6:", "quota")
	require.Len(t, sh.contents("alpha"), 5)
}

// TestImportOfLargeMemories: batches stay below the library's limit on bytes, so
// that none falls back to memory by memory, a flush each.
func TestImportOfLargeMemories(t *testing.T) {
	registry, space := openSpace(t)
	content := fmt.Sprintf(`{"content":%q}`, strings.Repeat("x", engram.MaxContentBytes))
	vector := `{"content":"v","embedding":[1` + strings.Repeat(",1", engram.MaxDimension-1) + `]}`
	const contents, vectors = 8, 400
	lines := strings.Repeat(content+"\n", contents) + strings.Repeat(vector+"\n", vectors)
	im := importer{space: space}
	require.NoError(t, im.run(t.Context(), strings.NewReader(lines), 1))
	require.Equal(t, contents+vectors, im.result.Stored)
	require.Less(t, registry.Stats().Frames, uint64(40))
}

func openSpace(t *testing.T) (*local.Registry, local.Space) {
	t.Helper()
	opened, err := engram.Open(t.TempDir(), engram.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, opened.Close()) })
	registry := &local.Registry{Registry: opened}
	_, err = registry.Create(t.Context(), "alpha", engram.SpaceConfig{})
	require.NoError(t, err)
	return registry, registry.Space("alpha")
}

// TestImportReportsAReadError: what was read before it is stored.
func TestImportReportsAReadError(t *testing.T) {
	_, space := openSpace(t)
	broken := errors.New("broken pipe")
	src := iotest.OneByteReader(strings.NewReader(`{"content":"x"}` + "\n"))
	im := importer{space: space}
	err := im.run(t.Context(), readers{src, iotest.ErrReader(broken)}, 1)
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, im.result.Stored)
}

// readers is io.MultiReader of two, which passes on the error of the second.
type readers [2]interface{ Read([]byte) (int, error) }

func (r readers) Read(p []byte) (int, error) {
	n, err := r[0].Read(p)
	if n == 0 && err != nil {
		return r[1].Read(p)
	}
	return n, nil
}
