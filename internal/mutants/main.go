// Command mutants seeds bugs in the sources and has the tests find them. Each
// mutant is one thing done wrong that would break a promise. One that no test
// notices is a hole in the tests, or it breaks nothing and has to be replaced.
//
//	go run ./internal/mutants [-p 2] [-run regexp] [-table] durability|leaks
//
// It runs in the module's root and changes no file there: the mutated copies
// reach the compiler through an overlay. It prints a line for each mutant and
// ends with status 1 if one survives or could not be tried.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lists are the mutants, by what they endanger.
func lists() map[string][]mutant {
	return map[string][]mutant{
		"durability": durability(),
		"leaks":      leaks(),
	}
}

var errAlive = errors.New("not every mutant was killed")

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	known := lists()
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	parallel := flags.Int("p", 2, "how many are tried at a time")
	only := flags.String("run", "", "regular expression: only those whose name it matches")
	table := flags.Bool("table", false, "print the lines as rows of a table in Markdown")
	if err := flags.Parse(args); err != nil {
		return err
	}
	name := flags.Arg(0)
	selected, found := known[name]
	if !found || flags.NArg() != 1 {
		return fmt.Errorf("name one list of mutants: %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	selected = slices.DeleteFunc(selected, func(m mutant) bool { return !pattern.MatchString(m.name) })
	if len(selected) == 0 {
		return fmt.Errorf("no mutant's name matches %q", *only)
	}
	temporary, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	t := trial{root: ".", temporary: temporary, parallel: max(*parallel, 1)}
	if err := t.unmutated(ctx, selected); err != nil {
		return err
	}
	line := outcome.line
	if *table {
		line = outcome.row
	}
	killed, survived := 0, 0
	for o := range t.outcomes(ctx, selected) {
		switch {
		case o.err != nil:
		case o.killer == "":
			survived++
		default:
			killed++
		}
		if _, err := fmt.Fprintln(out, line(o)); err != nil {
			return err
		}
	}
	if name == "durability" {
		name = "mutants" // of the store
	}
	if _, err := fmt.Fprintf(out, "%s: %d killed, %d survived\n", name, killed, survived); err != nil {
		return err
	}
	if killed < len(selected) {
		return errAlive
	}
	return nil
}
