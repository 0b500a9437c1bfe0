package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram/server/internal/httpclient"
	"github.com/engramdb/engram/server/internal/verify"
)

const (
	exitNotVerified   = 2 // an assertion does not hold
	defaultReportDir  = "engram-verify"
	verifyWriterUse   = "verify-writer"
	maxRestartMessage = 4 << 10
)

// verifyFlags are those of verify.
type verifyFlags struct {
	grpcAddr string
	mcpAddr  string
	keys     string
	tlsCA    string
	restart  string
	spaces   int
	seed     uint64
	duration time.Duration
	timeout  time.Duration
	only     string
	report   string
}

func (a *app) verifyCommand() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove on an installation that its spaces are isolated, routed to and durable",
		Long: `Prove on an installation that its spaces are isolated, that requests end in the
space that they name, and that what is acknowledged is kept. Without --addr and
--data it does so in a temporary directory, where it also kills processes while
they write.

It makes spaces of its own, whose ids have "verify-" and random letters in them,
deletes them at the end, also when it is interrupted, and touches no others.
To read every byte of spaces instead, use space verify and check.

It writes report.json, junit.xml and report.html to the directory of --report.
The same seed makes the same assertions with the same numbers of comparisons.

Exit codes:

  0  every assertion that was tried holds
  1  the verification did not come to its end; the message says why
  2  at least one assertion does not hold, whether it came to its end or not`,
		Example: `  engram verify
  engram verify --addr http://127.0.0.1:7432 --grpc-addr 127.0.0.1:50051 --mcp-addr http://127.0.0.1:7432/mcp
  engram verify --addr https://engram.example:7432 --keys verify-keys.jsonl --restart 'systemctl restart engram'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.shown != (credentialFlags{}) {
				return errors.New("--key, --key-file, --cacert, --cert and --cert-key: verify takes a file of keys with --keys, and authorities with --tls-ca")
			}
			if !cmd.Flags().Changed("seed") {
				flags.seed = uint64(rand.Uint32())
			}
			return a.verify(cmd, &flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.grpcAddr, "grpc-addr", "", "where the server answers gRPC, as `HOST:PORT`; default: only HTTP is verified")
	f.StringVar(&flags.mcpAddr, "mcp-addr", "", "where that server speaks the Model Context Protocol, as `URL`, for example http://127.0.0.1:7432/mcp; default: its tools are not verified")
	f.StringVar(&flags.keys, "keys", "", "`file` of keys as `engram key create -o json` prints them: one for all spaces of a prefix with all verbs, others for longer prefixes")
	f.StringVar(&flags.tlsCA, "tls-ca", "", "`file` of the authorities that have signed the server's certificate; default the system's")
	f.StringVar(&flags.restart, "restart", "", "`command` that restarts the server; default: it is not restarted")
	f.IntVar(&flags.spaces, "spaces", verify.DefaultSpaces, fmt.Sprintf("how many spaces are compared, %d to %d", verify.MinSpaces, verify.MaxSpaces))
	f.Uint64Var(&flags.seed, "seed", 0, "of everything that is drawn; default a random one")
	f.DurationVar(&flags.duration, "duration", 0, "repeat, with the seeds that follow, until this time has passed")
	f.DurationVar(&flags.timeout, "timeout", verify.DefaultTimeout, "of each assertion")
	f.StringVar(&flags.only, "only", "", "try only the assertions whose name this `expression` matches")
	f.StringVar(&flags.report, "report", defaultReportDir, "`directory` for the report; empty for none")
	return cmd
}

// verify runs a verification, writes what came of it and makes the exit code.
func (a *app) verify(cmd *cobra.Command, flags *verifyFlags) (err error) {
	config, cleanUp, err := a.verifyConfig(flags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	config.Progress = a.showResult
	report, runErr := verify.Run(cmd.Context(), config)
	if problem := new(httpclient.Problem); errors.As(runErr, &problem) && problem.Unauthenticated() && flags.keys == "" {
		runErr = errors.New(runErr.Error() + ": name a file of its keys with --keys") // not wrapped: the hint would be about other flags
	}
	if flags.report != "" {
		if err := writeReports(flags.report, report); err != nil {
			runErr = errors.Join(runErr, err)
		}
	}
	if a.output == asJSON {
		err = report.WriteJSON(a.out)
	} else {
		_, err = fmt.Fprintln(a.out, report.Summary())
	}
	err = errors.Join(runErr, err)
	if report.Verdict != verify.Failed {
		return err
	}
	if err != nil {
		complain(cmd, err, hintFor(err))
	}
	return &exitError{exitNotVerified}
}

// verifyConfig says what is verified. The function that it returns removes a
// directory that is there for the verification only.
func (a *app) verifyConfig(flags *verifyFlags) (config verify.Config, cleanUp func() error, err error) {
	cleanUp = func() error { return nil }
	config = verify.Config{
		GRPCAddr: flags.grpcAddr, MCPAddr: flags.mcpAddr, Spaces: flags.spaces, Seed: flags.seed, Duration: flags.duration, Timeout: flags.timeout,
	}
	if config.Only, err = regexp.Compile(flags.only); err != nil {
		return config, cleanUp, fmt.Errorf("--only: %w", err)
	}
	if config.Addr, err = a.server(); err != nil {
		return config, cleanUp, err
	}
	words := []string{"engram", "verify"}
	if config.Addr == "" {
		if flags.grpcAddr != "" || flags.mcpAddr != "" || flags.keys != "" || flags.restart != "" || flags.tlsCA != "" {
			return config, cleanUp, errors.New("--grpc-addr, --mcp-addr, --keys, --restart and --tls-ca are for a server: name it with --addr")
		}
		if config.Dir, cleanUp, err = a.verifyDirectory(); err != nil {
			return config, cleanUp, err
		}
		if a.dataGiven() {
			words = append(words, "--data", a.dataDir)
		}
		config.Child = writerProcess
		config.Command = commandLine(words)
		return config, cleanUp, nil
	}
	words = append(words, "--addr", config.Addr)
	for _, given := range [][2]string{
		{"--grpc-addr", flags.grpcAddr}, {"--mcp-addr", flags.mcpAddr}, {"--keys", flags.keys}, {"--tls-ca", flags.tlsCA}, {"--restart", flags.restart},
	} {
		if given[1] != "" {
			words = append(words, given[:]...)
		}
	}
	config.Command = commandLine(words)
	if flags.restart != "" {
		config.Restart = restarter(flags.restart)
	}
	if config.TLS, err = trusting(flags.tlsCA); err != nil {
		return config, cleanUp, err
	}
	config.Keys, err = readVerifyKeys(flags.keys)
	return config, cleanUp, err
}

// verifyDirectory returns the directory that is given, or a temporary one.
// One that was not there is removed again.
func (a *app) verifyDirectory() (dir string, cleanUp func() error, err error) {
	keep := func() error { return nil }
	if !a.dataGiven() {
		parent, err := os.MkdirTemp("", "engram-verify-")
		if err != nil {
			return "", keep, err
		}
		return filepath.Join(parent, "data"), func() error { return os.RemoveAll(parent) }, nil
	}
	if err := a.requireDirectory(); errors.Is(err, errNoDirectory) {
		return a.dataDir, func() error { return os.RemoveAll(a.dataDir) }, nil
	} else if err != nil {
		return "", keep, err
	}
	return a.dataDir, keep, nil
}

// commandLine spells words so that a shell reads them as they are.
func commandLine(words []string) string {
	plain := regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`)
	spelt := make([]string, len(words))
	for i, word := range words {
		if spelt[i] = word; !plain.MatchString(word) {
			spelt[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(spelt, " ")
}

// trusting returns a configuration for TLS that trusts the authorities in a file,
// nil where none is named.
func trusting(path string) (*tls.Config, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-ca: %s holds no certificate", path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

func readVerifyKeys(path string) (keys []verify.Key, err error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}
	keys, err = verify.ParseKeys(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("--keys %s: %w", path, err)
	}
	return keys, nil
}

// restarter returns what runs a command of the user's shell.
func restarter(command string) func(context.Context) error {
	return func(ctx context.Context) error {
		shell := exec.CommandContext(ctx, "sh", "-c", command)
		if runtime.GOOS == "windows" {
			shell = exec.CommandContext(ctx, "cmd", "/C", command)
		}
		// A server that the command leaves running may keep the streams of the
		// command: a pipe would be waited for.
		said, err := os.CreateTemp("", "engram-restart-")
		if err != nil {
			return err
		}
		defer func() { _, _ = said.Close(), os.Remove(said.Name()) }()
		shell.Stdout, shell.Stderr = said, said
		if err := shell.Run(); err != nil {
			message := make([]byte, maxRestartMessage)
			n, _ := said.ReadAt(message, 0) // what can be read of it
			return fmt.Errorf("%q: %w: %s", command, err, bytes.TrimSpace(message[:n]))
		}
		return nil
	}
}

// writerProcess returns this program as a child that writes until it is killed.
func writerProcess(order verify.WriterOrder) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	return exec.Command(program, verifyWriterUse, string(text)), nil
}

// verifyWriterCommand is what writerProcess runs.
func (a *app) verifyWriterCommand() *cobra.Command {
	return &cobra.Command{
		Use:    verifyWriterUse + " ORDER",
		Short:  "Write until killed, for verify",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var order verify.WriterOrder
			if err := json.Unmarshal([]byte(args[0]), &order); err != nil {
				return err
			}
			return verify.RunWriter(cmd.Context(), order, a.in, a.out)
		},
	}
}

// showResult prints an assertion's line, and below it what is wrong. With -o json
// that is for a terminal beside the output only.
func (a *app) showResult(result verify.Result) {
	out := a.out
	if a.output == asJSON {
		if out = a.err; !isTerminal(out) {
			return
		}
	}
	_, _ = io.WriteString(out, resultLines(result)) // an output that fails will fail the summary, too
}

func resultLines(result verify.Result) string {
	marks := map[verify.Verdict]string{verify.Passed: "ok", verify.Failed: "FAIL", verify.Warned: "warn", verify.Skipped: "skip"}
	var lines strings.Builder
	fmt.Fprintf(&lines, "%-4s  %-42s", marks[result.Verdict], result.Name)
	if result.Verdict != verify.Skipped {
		took := time.Duration(result.Milliseconds * float64(time.Millisecond)).Round(time.Millisecond)
		fmt.Fprintf(&lines, "  %6d  %8s", result.Count, took)
	}
	if result.Reason != "" {
		lines.WriteString("  " + printable(result.Reason, maxCellRunes))
	}
	lines.WriteByte('\n')
	for _, failure := range result.Failures {
		lines.WriteString("      " + printable(failure, 4*maxCellRunes) + "\n")
	}
	if more := result.Failed - len(result.Failures); more > 0 {
		lines.WriteString("      and " + strconv.Itoa(more) + " more\n")
	}
	if result.Verdict == verify.Failed {
		lines.WriteString("      again: " + result.Reproduce + "\n")
	}
	return lines.String()
}

// writeReports writes the report in its three forms.
func writeReports(dir string, report verify.Report) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	for name, write := range map[string]func(io.Writer) error{
		"report.json": report.WriteJSON, "junit.xml": report.WriteJUnit, "report.html": report.WriteHTML,
	} {
		var text bytes.Buffer
		err := write(&text)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text.Bytes(), 0o666)
		}
		if err != nil {
			return fmt.Errorf("--report: write %s: %w", name, err)
		}
	}
	return nil
}
