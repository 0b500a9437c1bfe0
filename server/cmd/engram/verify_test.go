package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
	"github.com/engramdb/engram/server/internal/verify"
)

// verified runs verify on a few assertions and returns its report, from the file.
func (s shell) verified(code int, args ...string) (verify.Report, result) {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "report")
	got := s.run(append([]string{"verify", "--spaces", "3", "--seed", "7", "--report", dir}, args...)...)
	require.Equal(s.t, code, got.code, got.out+got.err)
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(s.t, err)
	var report verify.Report
	require.NoError(s.t, json.Unmarshal(text, &report))
	for _, name := range []string{"junit.xml", "report.html"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(s.t, err)
		require.Contains(s.t, string(text), "engram verify")
	}
	return report, got
}

// TestVerifyInATemporaryDirectory needs nothing and leaves nothing.
func TestVerifyInATemporaryDirectory(t *testing.T) {
	sh := newShell(t)
	sh.args = nil
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Setenv("TMP", temporary)
	report, got := sh.verified(exitOK, "--only", "isolation/(lookup|list)")
	require.Equal(t, verify.Passed, report.Verdict)
	require.Equal(t, "engram verify --spaces 3 --seed 7 --only '^library/isolation/lookup$'", report.Assertions[0].Reproduce)
	require.Contains(t, got.out, "ok    library/isolation/lookup")
	require.Contains(t, got.out, "passed: 2 passed, 0 failed")
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestVerifyGivenDirectory keeps what was there, and removes what was not.
func TestVerifyGivenDirectory(t *testing.T) {
	sh := newShell(t)
	sh.verified(exitOK, "--only", "isolation/lookup")
	_, err := os.Stat(sh.dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	sh.run("remember", "-s", "alpha", "--create", "--id", "tea", "green tea").ok()
	report, _ := sh.verified(exitOK, "--only", "isolation/lookup|kill")
	require.Equal(t, 1, report.Totals.Skipped)
	require.Equal(t, "ID\nalpha\n", sh.run("space", "list").ok().out)
	require.Equal(t, []string{"green tea"}, sh.contents("alpha"))
}

func TestVerifyServer(t *testing.T) {
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alpha"}})
	sh := newShell(t)
	sh.args = []string{"--addr", server.URL()}
	report, _ := sh.verified(exitOK, "--only", "isolation/lookup|routing|durability/retry", "--restart", "exit 0")
	require.Equal(t, verify.Passed, report.Verdict)
	require.Equal(t, verify.Target{Kind: "server", HTTP: server.URL(), Restarts: true}, report.Target)
	require.Contains(t, report.Assertions[0].Reproduce, "--addr "+server.URL()+" --restart 'exit 0' --spaces 3")
	require.Equal(t, "ID\nalpha\n", sh.run("space", "list").ok().out)

	var shown verify.Report
	sh.run("-o", "json", "verify", "--report", "", "--only", "isolation/lookup").into(&shown)
	require.Equal(t, verify.ReportVersion, shown.Version)

	tools := server.URL() + "/mcp"
	report, _ = sh.verified(exitOK, "--only", "^mcp/routing", "--mcp-addr", tools)
	require.Equal(t, verify.Target{Kind: "server", HTTP: server.URL(), MCP: tools}, report.Target)
	require.Contains(t, report.Assertions[0].Reproduce, "--mcp-addr "+tools)

	// A restart that fails is a failure, with what the command said.
	report, got := sh.verified(exitNotVerified, "--only", "durability/retry", "--restart", "echo no such unit; exit 3")
	require.Equal(t, verify.Failed, report.Verdict)
	require.Contains(t, got.out, "no such unit")
	require.Contains(t, got.out, "again: engram verify --addr")
}

// watched tells of what is written, once it is.
type watched struct {
	lockedBuffer

	written func(text string)
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.lockedBuffer.Write(p)
	w.written(w.String())
	return n, err
}

// TestVerifyThatFailsAndEndsEarly has the exit code of its verdict, and says why it
// ended.
func TestVerifyThatFailsAndEndsEarly(t *testing.T) {
	server := engramtest.Start(t, engramtest.Options{})
	newShell(t) // without what the environment names
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var errOut lockedBuffer
	out := watched{written: func(text string) {
		if strings.Contains(text, "FAIL") {
			interrupt()
		}
	}}
	code := newApp(strings.NewReader(""), &out, &errOut).run(ctx, []string{
		"verify", "--addr", server.URL(), "--spaces", "3", "--report", "", "--duration", "1h",
		"--only", "durability/retry", "--restart", "exit 3",
	})
	require.Contains(t, out.String(), "failed: ")
	require.Equal(t, exitNotVerified, code)
	require.Contains(t, errOut.String(), context.Canceled.Error())
}

func TestVerifyRefusals(t *testing.T) {
	sh := newShell(t)
	for _, args := range [][]string{
		{"--spaces", "2"},
		{"--only", "("},
		{"--only", "nothing-is-called-so"},
		{"--keys", "any"},
		{"--restart", "true"},
		{"--grpc-addr", "127.0.0.1:1"},
		{"--mcp-addr", "http://127.0.0.1:1/mcp"},
	} {
		sh.run(append([]string{"verify", "--report", ""}, args...)...).failed("engram:")
	}
	_, err := os.Stat(sh.dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	sh.args = []string{"--addr", "http://127.0.0.1:1"}
	report, _ := sh.verified(exitFailed)
	require.Equal(t, verify.Incomplete, report.Verdict)
	keys := filepath.Join(t.TempDir(), "keys.jsonl")
	sh.run("verify", "--report", "", "--keys", keys).failed("--keys")
	require.NoError(t, os.WriteFile(keys, []byte(`{"id":"x"}`), 0o600))
	sh.run("verify", "--report", "", "--keys", keys).failed("engram key create")
	sh.run("verify", "--report", "", "--tls-ca", keys).failed("no certificate")
}

// TestVerifyWriter is the child that verify kills, told to end instead.
func TestVerifyWriter(t *testing.T) {
	sh := newShell(t)
	sh.run("verify-writer", "nonsense").failed("invalid character")
	sh.run("space", "create", "alpha").ok()
	order, err := json.Marshal(verify.WriterOrder{Dir: sh.dir, Spaces: []engram.SpaceID{"alpha"}, Done: []int{0}})
	require.NoError(t, err)
	sh.run("verify-writer", string(order)).failed("the parent has ended")
}

// TestVerifyTakesKeysOfItsOwn: a key that it would not use is refused, and a server
// that asks for one says which flag is meant.
func TestVerifyTakesKeysOfItsOwn(t *testing.T) {
	sh, keys := newShell(t), filepath.Join(t.TempDir(), "keys.json")
	sh.run("key", "create", "--keys", keys, "--scope", "*:read").ok()
	sh.args = []string{"--addr", serveDirectory(t, sh, "--keys", keys).web}
	for _, flag := range []string{"--key", "--key-file", "--cacert", "--cert", "--cert-key"} {
		sh.run("verify", "--report", "", flag, "x").failed(flag, "--keys", "--tls-ca")
	}
	asked := sh.run("verify", "--report", "").failed("no credential", "--keys")
	require.NotContains(t, asked.err, "--key-file")
}
