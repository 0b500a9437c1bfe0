// Command quality measures what recall finds: it loads LoCoMo, with one space
// for each conversation, and Cranfield, asks all their questions, and compares
// the answers with the judgements that come with the data.
//
// The same run proves that the answers do not depend on what happened to the
// process: all questions are asked again after the registry was closed and
// reopened, and of a second registry whose loading was killed half-way and
// resumed. It fails if a recall returns anything of another space, if an
// acknowledged write is lost, or if an answer differs.
//
// It also says how much figures depend on which questions were asked (intervals),
// whether confidence can be relied on, what all that costs in time, heap and disk,
// and what each part of recall gives (ablation): what users of the engine can set
// is changed in the engine, the rest in the reference implementation, whose answers
// to all questions must be the engine's.
//
//	go run ./benchmarks/quality -data DIR -json
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
)

// dataVariable names the environment variable with the directory of the data sets.
const dataVariable = "ENGRAM_DATA"

// defaultData is where the data sets are, seen from the project's root.
const defaultData = "../shared/data"

// childFlag makes this process the one that is killed. It is not for users.
const childFlag = "load-until-killed"

type options struct {
	data string // directory of the data sets
	dir  string // directory of the registries; empty for a temporary one
	json bool
	seed uint64
	// ablate also measures recall without each of its parts.
	ablate  bool
	diagram string // file for the diagram of the held-out half; empty for none
	child   string // directory of the registry to load as the child; empty for the parent
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quality:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr *os.File) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	locomo, err := readLocomo(o.data)
	if err != nil {
		return err
	}
	cranfield, err := readCranfield(o.data)
	if err != nil {
		return err
	}
	if o.child != "" {
		return loadAsChild(ctx, o.child, append(locomo, cranfield), os.Stdin, stdout)
	}
	progress := newProgress(stderr)
	result, err := measure(ctx, o, progress, locomo, cranfield)
	progress.done()
	if err != nil {
		return err
	}
	if o.json {
		err = result.writeJSON(stdout)
	} else {
		err = result.writeTable(stdout)
	}
	if o.diagram != "" {
		err = errors.Join(err, result.Reliability.Locomo[groupHeldOut].writeDiagramFile(o.diagram, "LoCoMo, held out"))
	}
	return errors.Join(err, result.failure())
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	data := os.Getenv(dataVariable)
	if data == "" {
		data = defaultData
	}
	var o options
	flags := flag.NewFlagSet("quality", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.data, "data", data, "`directory` of the data sets; "+dataVariable+" changes the default")
	flags.StringVar(&o.dir, "dir", "", "`directory` to keep the registries in; default a temporary one")
	flags.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	flags.BoolVar(&o.ablate, "ablate", true, "also measure recall without each of its parts")
	flags.StringVar(&o.diagram, "diagram", "", "SVG `file` to draw the reliability of confidence in, of LoCoMo's held-out half")
	flags.Uint64Var(&o.seed, "seed", 0, "when to kill the loading process; 0 draws a `seed`")
	flags.StringVar(&o.child, childFlag, "", "")
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		return o, errors.Join(err, usage(stderr, flags))
	}
	for o.seed == 0 {
		o.seed = uint64(rand.Uint32()) // short enough to type again
	}
	return o, nil
}

func usage(w io.Writer, flags *flag.FlagSet) error {
	shown := flag.NewFlagSet(flags.Name(), flag.ContinueOnError)
	shown.SetOutput(w)
	flags.VisitAll(func(f *flag.Flag) {
		if f.Name != childFlag {
			shown.Var(f.Value, f.Name, f.Usage)
		}
	})
	_, err := fmt.Fprintln(w, "Usage: go run ./benchmarks/quality [flags]")
	shown.PrintDefaults()
	return err
}

// measure loads the data sets and asks their questions, three times over.
func measure(ctx context.Context, o options, progress *progress, locomo []collection, cranfield collection) (_ *report, err error) {
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "engram-quality-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	loaded, killed := filepath.Join(dir, "loaded"), filepath.Join(dir, "killed")
	for _, fresh := range []string{loaded, killed} {
		if err := os.Mkdir(fresh, 0o700); err != nil {
			return nil, fmt.Errorf("choose a directory without registries of an earlier run: %w", err)
		}
	}
	all := append(locomo[:len(locomo):len(locomo)], cranfield)

	progress.say("loading")
	cost := newCostReport(all)
	first, err := cost.loadAndAsk(ctx, loaded, all)
	if err != nil {
		return nil, err
	}
	progress.say("asking again after a restart")
	restarted, err := cost.reopenAndAsk(ctx, loaded, all)
	if err != nil {
		return nil, err
	}
	progress.say("killing a second load")
	crash, err := killLoad(ctx, o, killed, all)
	if err != nil {
		return nil, err
	}
	progress.say("resuming it")
	resumed, err := resumeAndAsk(ctx, killed, all, crash)
	if err != nil {
		return nil, err
	}

	result := newReport(first)
	result.Cost = cost
	result.Locomo.ForeignHits += foreignHits(restarted) + foreignHits(resumed)
	result.RestartIdentical = sameAnswers(first, restarted)
	result.SigkillIdentical = sameAnswers(first, resumed) && crash.Lost == 0 && crash.OutOfOrder == 0
	result.Sigkill = crash
	if o.ablate {
		result.Ablation, err = ablate(ctx, dir, progress, all, first)
	}
	return result, err
}
