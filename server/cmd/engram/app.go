package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/httpclient"
	"github.com/engramdb/engram/server/internal/verify"
)

// Exit codes. The ones of check are those of [engram.CheckReport.ExitCode].
const (
	exitOK      = 0
	exitFailed  = 1
	exitNoCheck = 3 // of check, dump and salvage: they could not look at the directory at all
)

const (
	defaultDataDir = "engram-data"
	dataVariable   = "ENGRAM_DATA"
	spaceVariable  = "ENGRAM_SPACE"
)

// errNoDirectory: the data directory is not there, and the command is not one
// that would make it.
var errNoDirectory = errors.New("no data directory")

// exitError carries an exit code of a command that has said everything itself.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// app is what the commands share: the streams and the persistent flags.
type app struct {
	in       io.Reader
	out, err io.Writer

	dataDir   string
	dataGiven func() bool // by the flag
	addr      string
	shown     credentialFlags
	output    outputFormat

	understood bool // the command line was, and its command has begun
}

func newApp(in io.Reader, out, errOut io.Writer) *app {
	return &app{in: in, out: out, err: errOut}
}

// run executes one command line and returns the exit code of the process.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	}
	hint := hintFor(err)
	if !a.understood {
		hint = fmt.Sprintf("`%s --help` lists arguments and flags", cmd.CommandPath())
	}
	complain(cmd, err, hint)
	return failureCode(cmd)
}

// complain says what went wrong, and what to do about it if anything.
func complain(cmd *cobra.Command, err error, hint string) {
	cmd.PrintErrln("engram:", printableLines(err.Error()))
	if hint != "" {
		cmd.PrintErrln("hint:", printableLines(hint))
	}
}

// failureCode returns the exit code of a command that failed.
func failureCode(cmd *cobra.Command) int {
	switch cmd.CommandPath() {
	case "engram check", "engram dump", "engram salvage": // the lower codes are verdicts
		return exitNoCheck
	}
	return exitFailed
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "engram",
		Short: "Durable, associative memory for agents, one isolated space for each tenant",
		Long: `Durable, associative memory for agents, one isolated space for each tenant.

Commands work on a data directory, or with --addr, $ENGRAM_ADDR or the file of
defaults, on a running server. While a server holds a directory, commands that
open it fail at once. serve, check, dump, salvage and space reembed are for
directories only, and mcp for a server only; config and key read and write files
of their own. The file of defaults is $ENGRAM_DEFAULTS, else engram/defaults.json in
your directory for configuration: {"addr": "http://127.0.0.1:7432", "space": "alice"}`,
		Version:       verify.ThisBuild().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.dataDir, "data", "", "data `directory` (default $"+dataVariable+", then "+strconv.Quote(defaultDataDir)+")")
	a.dataGiven = func() bool { return root.PersistentFlags().Changed("data") }
	root.PersistentFlags().StringVar(&a.addr, "addr", "", "`URL` of a running server to work on (default $"+addressVariable+", then the file of defaults, then none)")
	a.shown.register(root.PersistentFlags())
	root.PersistentFlags().VarP(&a.output, "output", "o", "output `format`: table or json")
	completes(root, "output", string(asTable), string(asJSON))
	// For directories only: an address that is given may not be passed over.
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.understood = true
		if !a.dataGiven() {
			a.dataDir = cmp.Or(os.Getenv(dataVariable), defaultDataDir)
		}
		if a.addr != "" && cmd.Parent() != nil && cmd.Parent().Name() == "key" {
			return errors.New("--addr: keys are in a file, name it with --keys")
		}
		switch cmd.Name() {
		case "serve", "check", "dump", "salvage", "reembed":
			if a.addr != "" {
				return errors.New("--addr: this command works on a data directory only, name it with --data")
			}
		}
		return nil
	}
	root.AddCommand(
		a.serveCommand(), a.configCommand(), a.keyCommand(), a.mcpCommand(),
		a.spaceCommand(),
		a.rememberCommand(), a.lookupCommand(), a.listCommand(), a.recallCommand(),
		a.forgetCommand(), a.forgetWhereCommand(),
		a.associateCommand(), a.dissociateCommand(), a.associationsCommand(),
		a.eventsCommand(), a.importCommand(), a.exportCommand(),
		a.checkpointCommand(), a.settleCommand(),
		a.checkCommand(), a.dumpCommand(), a.salvageCommand(),
		a.verifyCommand(), a.verifyWriterCommand(),
	)
	return root
}

// groupCommand returns a command that only has others below it. Of itself it shows
// its help; a name that is none of theirs is an error, not help and success.
func groupCommand(name, short string, below ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(below...)
	return group
}

// access says what a command does to the data directory.
type access int

const (
	toRead   access = iota // changes no byte
	toWrite                // changes an existing directory
	toCreate               // makes the directory if it is not there
)

// withRegistry opens the data directory for the duration of work.
func (a *app) withRegistry(how access, work func(*engram.Registry) error) error {
	return a.withOptions(how, engram.Options{}, work)
}

// withOptions is withRegistry with options.
func (a *app) withOptions(how access, opts engram.Options, work func(*engram.Registry) error) (err error) {
	if how != toCreate {
		if err := a.requireDirectory(); err != nil {
			return err
		}
	}
	opts.ReadOnly = how == toRead
	registry, err := engram.Open(a.dataDir, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	return work(registry)
}

// requireDirectory keeps a mistyped --data from making an empty directory.
func (a *app) requireDirectory() error {
	_, err := os.Stat(a.dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", errNoDirectory, a.dataDir)
	}
	return err
}

// spaceFlags are the flags that choose the space of a command.
type spaceFlags struct {
	space  string
	create bool
}

func (f *spaceFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.space, "space", "s", "", "space `id` (default $"+spaceVariable+", then the file of defaults, then \"default\")")
}

func (f *spaceFlags) registerCreate(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.create, "create", false, "create the space if it does not exist")
}

// id returns the space that is meant, and says so where the command line does not.
func (f *spaceFlags) id(cmd *cobra.Command) (engram.SpaceID, error) {
	if cmd.Flags().Changed("space") {
		return engram.SpaceID(f.space), nil
	}
	if named := os.Getenv(spaceVariable); named != "" {
		cmd.PrintErrf("space: %s (of %s)\n", named, spaceVariable)
		return engram.SpaceID(named), nil
	}
	c, path, err := readDefaults()
	if err != nil {
		return "", err
	}
	if c.Space != "" {
		cmd.PrintErrf("space: %s (of %s)\n", c.Space, path)
		return engram.SpaceID(c.Space), nil
	}
	cmd.PrintErrf("space: %s (choose one with --space or %s)\n", engram.DefaultSpace, spaceVariable)
	return engram.DefaultSpace, nil
}

// withSpace opens the chosen space for the duration of work.
func (a *app) withSpace(cmd *cobra.Command, how access, flags spaceFlags, work func(memorySpace) error) error {
	id, err := flags.id(cmd)
	if err != nil {
		return err
	}
	if flags.create {
		how = toCreate
	}
	return a.withBackend(how, func(b backend) error {
		if flags.create {
			if err := getOrCreate(cmd.Context(), b, id); err != nil {
				return err
			}
		}
		space, err := b.space(cmd.Context(), id)
		if err != nil {
			return err
		}
		return work(space)
	})
}

// getOrCreate makes the space if there is none. To one that is there it needs no
// right to create.
func getOrCreate(ctx context.Context, b backend, id engram.SpaceID) error {
	_, err := b.Info(ctx, id)
	if !errors.Is(err, engram.ErrSpaceNotFound) {
		return err
	}
	if _, err = b.Create(ctx, id, engram.SpaceConfig{}); errors.Is(err, engram.ErrSpaceExists) {
		return nil // somebody was faster
	}
	return err
}

// afterFloor is the hint about a history whose beginning is no longer kept.
const afterFloor = "the operations that are still kept are those of --after %d"

// hintFor returns what to do about err, or "".
func hintFor(err error) string {
	var (
		notFound *engram.SpaceNotFoundError
		bad      *lineError
		trimmed  *engram.TrimmedError
		path     *fs.PathError

		unreachable *unreachableError
		problem     *httpclient.Problem
	)
	switch {
	case errors.Is(err, errExport):
		return "make a new space of it with --new"
	case errors.As(err, &bad):
		return fmt.Sprintf("the lines before it are stored; correct it and go on with --from %d", bad.line)
	case errors.As(err, &unreachable):
		return "start one with `engram serve`, or name its address with --addr"
	case errors.As(err, &problem):
		return hintOf(problem)
	case errors.As(err, &trimmed):
		return fmt.Sprintf(afterFloor, trimmed.Floor)
	case errors.Is(err, engram.ErrLocked):
		return "a server or another command holds the directory; work on the server with --addr, use its HTTP API, or stop it first"
	case errors.Is(err, errNoDirectory),
		errors.As(err, &path) && path.Op == "statat" && errors.Is(path, fs.ErrNotExist): // there is nothing to lock
		return "name another with --data, or make one with `engram space create ID`"
	case errors.As(err, &notFound):
		return fmt.Sprintf("create it with `engram space create %s`", notFound.Space) + similarOnes(notFound.Near)
	case errors.Is(err, engram.ErrCorrupt):
		return "`engram check` says what is damaged, `engram salvage` copies what can be read; other spaces are not affected"
	case errors.Is(err, engram.ErrQuota):
		return "forget something, or raise the quota"
	}
	return ""
}

// hintOf returns what to do about a problem: in the words of the command line where
// the server's are for clients of its API.
func hintOf(problem *httpclient.Problem) string {
	switch {
	case errors.Is(problem, engram.ErrSpaceNotFound):
		return "create it with `engram space create ID`, or list all with `engram space list`" + similarOnes(problem.Near)
	case problem.Floor > 0:
		return fmt.Sprintf(afterFloor, problem.Floor)
	case problem.Unauthenticated():
		return "show a valid key with --key-file or $" + keyVariable + "; the server's operator makes one with `engram key create`"
	}
	return problem.Hint
}

// similarOnes names what may have been meant.
func similarOnes(ids []engram.SpaceID) string {
	if len(ids) == 0 {
		return ""
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	return "; similar ones: " + strings.Join(names, ", ")
}
