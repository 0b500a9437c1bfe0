package main

import (
	"runtime"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// TestVersion says what the program was built from, for a report of a bug.
func TestVersion(t *testing.T) {
	require.Contains(t, newShell(t).run("--version").ok().out, runtime.Version())
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
