package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

// timeFlag is a point in time on the command line.
type timeFlag struct{ time.Time }

// String implements pflag.Value.
func (f *timeFlag) String() string {
	if f.IsZero() {
		return ""
	}
	return f.Format(time.RFC3339Nano)
}

// Set implements pflag.Value.
func (f *timeFlag) Set(s string) error {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("must look like 2026-01-31T15:04:05Z")
	}
	if t.IsZero() {
		return fmt.Errorf("is the zero time, which stands for none")
	}
	f.Time = t
	return nil
}

// Type implements pflag.Value.
func (f *timeFlag) Type() string { return "time" }

// pairsFlag collects KEY=VALUE pairs. A value may contain anything, commas too,
// which pflag's own type would split at.
type pairsFlag map[string]string

// String implements pflag.Value.
func (f *pairsFlag) String() string { return "" }

// Set implements pflag.Value.
func (f *pairsFlag) Set(s string) error {
	key, value, found := strings.Cut(s, "=")
	if !found || key == "" {
		return fmt.Errorf("must be KEY=VALUE")
	}
	if _, twice := (*f)[key]; twice {
		return fmt.Errorf("%q is given twice", key)
	}
	if *f == nil {
		*f = pairsFlag{}
	}
	(*f)[key] = value
	return nil
}

// Type implements pflag.Value.
func (f *pairsFlag) Type() string { return "KEY=VALUE" }

// narrowFlag is a text to narrow by. An empty one, as of a variable that is not set,
// would not narrow.
type narrowFlag string

// String implements pflag.Value.
func (f *narrowFlag) String() string { return string(*f) }

// Set implements pflag.Value.
func (f *narrowFlag) Set(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	*f = narrowFlag(s)
	return nil
}

// Type implements pflag.Value.
func (f *narrowFlag) Type() string { return "string" }

// completes makes the shell offer the values that a flag takes.
func completes(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is there
	}
}

// filterFlags are the flags of a filter.
type filterFlags struct {
	after, before timeFlag
	episode       narrowFlag
	attributes    pairsFlag
	kind          narrowFlag
}

func (f *filterFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(&f.after, "after", "only memories at this time or later")
	flags.Var(&f.before, "before", "only memories before this time")
	flags.Var(&f.episode, "episode", "only memories of this episode")
	flags.Var(&f.attributes, "attribute", "only memories with this attribute; may be repeated")
	flags.Var(&f.kind, "kind", "only memories of this kind: episodic or semantic")
	completes(cmd, "kind", string(engram.Episodic), string(engram.Semantic))
}

func (f *filterFlags) filter() engram.Filter {
	return engram.Filter{
		After: f.after.Time, Before: f.before.Time, Episode: string(f.episode),
		Attributes: f.attributes, Kind: engram.Kind(f.kind),
	}
}
