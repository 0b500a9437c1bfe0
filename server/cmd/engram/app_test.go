package main

import (
	"context"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// TestVersion says what the program was built from, for a report of a bug.
func TestVersion(t *testing.T) {
	require.Contains(t, newShell(t).run("--version").ok().out, runtime.Version())
}

// TestInterruptedInput: a command that waits for its input ends when it is told to.
func TestInterruptedInput(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	for _, command := range [][]string{
		{"remember", "-s", "alpha", "-"},
		{"import", "-s", "alpha", "-"},
		{"import", "-s", "beta", "--new", "-"},
	} {
		in, given := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		code := make(chan int, 1)
		go func() {
			code <- newApp(in, io.Discard, io.Discard).run(ctx, append(slices.Clone(sh.args), command...))
		}()
		_, err := given.Write([]byte("{")) // it is read, so it is waited for more
		require.NoError(t, err)
		interrupt()
		require.Equal(t, exitFailed, <-code, command)
		require.NoError(t, given.Close())
	}
	require.Empty(t, sh.contents("alpha"))
	require.Equal(t, "ID\nalpha\n", sh.run("space", "list").ok().out)
}

// TestHints: where a message alone does not say how to go on, a hint does.
func TestHints(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		sh.run("remember", "-s", "alpha", "--create", "--id", "tea", "green tea").ok()
		exported := sh.run("export", "-s", "alpha", "-").ok().out
		sh.runInput(exported, "import", "-s", "alpha", "-").failed("line 1", "--new")
		for range 3 { // a checkpoint keeps what is recent
			sh.run("remember", "-s", "alpha", "--id", "tea", strings.Repeat("tea ", 1<<17)).ok()
			sh.run("checkpoint", "-s", "alpha").ok()
		}
		trimmed := sh.run("events", "-s", "alpha").failed("--after")
		position := regexp.MustCompile(`--after (\d+)`).FindStringSubmatch(trimmed.err)
		require.Len(t, position, 2, trimmed.err)
		sh.run("events", "-s", "alpha", "--after", position[1]).ok()
	})
	sh := newShell(t)
	require.NoError(t, os.Mkdir(sh.dir, 0o700))
	sh.run("space", "list").failed("--data")
	require.Contains(t, sh.run("check").err, "--data")
	sh.run("serve", "--http", "127.0.0.1:0", "--grpc", "off", "--keys", "keys.json", "--admin", "0.0.0.0:0").failed("--admin", "asks nobody")
}

// TestZeroIsNoConfidence: the library takes 0 for the default, nobody else does.
func TestZeroIsNoConfidence(t *testing.T) {
	backends(t, func(t *testing.T, sh shell) {
		sh.run("remember", "-s", "alpha", "--create", "--confidence", "0", "x").failed("confidence")
		sh.run("remember", "-s", "alpha", "--create", "--confidence", "0.5", "x").ok()
	})
}

// TestDirectoryOfTheEnvironment: the variable that names the directory of a server
// names that of every command.
func TestDirectoryOfTheEnvironment(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	bare := sh
	bare.args = nil
	t.Setenv(dataVariable, sh.dir)
	require.Equal(t, "ID\nalpha\n", bare.run("space", "list").ok().out)
	require.Contains(t, bare.run("check").ok().out, "\n1 space  clean")
	require.Contains(t, bare.run("config", "check").ok().out, sh.dir+"  environment")
	sh.args = []string{"--data", t.TempDir() + "/other"}
	sh.run("space", "list").failed("other")
}

// TestCompletions: a flag that takes one of a few values completes to them.
func TestCompletions(t *testing.T) {
	sh := newShell(t)
	for _, completed := range []struct {
		args   []string
		values string
	}{
		{[]string{"list", "-o", ""}, "table\njson\n"},
		{[]string{"remember", "--kind", ""}, "episodic\nsemantic\n"},
		{[]string{"recall", "--kind", ""}, "episodic\nsemantic\n"},
		{[]string{"space", "create", "--analyzer", ""}, "english\nenglish-all\nplain\ncjk\n"},
	} {
		require.Contains(t, sh.run(append([]string{"__complete"}, completed.args...)...).ok().out, completed.values+":", completed.args)
	}
}

// TestEventsSayWhat: a line says what was forgotten by, and what was configured.
func TestEventsSayWhat(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha", "--max-memories", "7").ok()
	sh.run("remember", "-s", "alpha", "--id", "tea", "--episode", "trial", "green tea").ok()
	sh.run("forget-where", "-s", "alpha", "--episode", "trial").ok()
	out := sh.run("events", "-s", "alpha").ok().out
	require.Contains(t, out, `configured {"max_memories":7}`)
	require.Contains(t, out, `{"episode":"trial"}`)
}

// TestTimesOfTables are those of no place, and say so.
func TestTimesOfTables(t *testing.T) {
	sh := newShell(t)
	sh.run("remember", "-s", "alpha", "--create", "--time", "2026-01-31T23:30:00-08:00", "green tea").ok()
	for _, args := range [][]string{{"list"}, {"recall", "tea"}} {
		out := sh.run(append(args, "-s", "alpha")...).ok().out
		require.Contains(t, out, "TIME (UTC)")
		require.Contains(t, out, "2026-02-01 07:30:00")
	}
}

// TestFlagsOfHelp: quotes in the help of a flag name its value, so one without a value
// has none.
func TestFlagsOfHelp(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			name, _ := pflag.UnquoteUsage(flag)
			require.NotContains(t, name, " ", cmd.CommandPath()+" --"+flag.Name)
			if flag.Value.Type() == "bool" {
				require.Empty(t, name, cmd.CommandPath()+" --"+flag.Name)
			}
		})
		for _, below := range cmd.Commands() {
			visit(below)
		}
	}
	visit(newApp(nil, nil, nil).rootCommand())
}
