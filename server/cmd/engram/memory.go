package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

// fromStdin as an argument means the standard input.
const fromStdin = "-"

// memoryFlags are the flags that describe a memory.
type memoryFlags struct {
	id         string
	time       timeFlag
	episode    string
	attributes pairsFlag
	confidence float64
	kind       string
	requestID  string
}

func (f *memoryFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "id of the memory; one that exists is replaced (default a new one)")
	flags.Var(&f.time, "time", "when it happened (default now)")
	flags.StringVar(&f.episode, "episode", "", "conversation, session or task it belongs to")
	flags.Var(&f.attributes, "attribute", "attribute to filter by; may be repeated")
	flags.Float64Var(&f.confidence, "confidence", 1, "how much to believe it, above 0 and up to 1")
	flags.StringVar(&f.kind, "kind", "", "episodic or semantic (default episodic)")
	completes(cmd, "kind", string(engram.Episodic), string(engram.Semantic))
	flags.StringVar(&f.requestID, "request-id", "", "makes a retry with the same id take effect once")
}

func (f *memoryFlags) memory(content string) engram.Memory {
	return engram.Memory{
		ID: f.id, Content: content, Time: f.time.Time, Episode: f.episode,
		Attributes: f.attributes, Confidence: f.confidence, Kind: engram.Kind(f.kind),
	}
}

func (a *app) rememberCommand() *cobra.Command {
	var (
		target spaceFlags
		flags  memoryFlags
	)
	cmd := &cobra.Command{
		Use:   "remember TEXT",
		Short: "Remember a text; - reads it from the standard input",
		Example: `  engram remember --create "Anna moved to Lisbon in March"
  git log -1 | engram remember --episode release-7 -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.confidence == 0 { // which the library would take for the default
				return &engram.InvalidError{Field: "confidence", Reason: "must be greater than 0 and at most 1"}
			}
			content, err := a.text(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
				receipt, err := space.Remember(cmd.Context(), flags.memory(content), flags.requestID)
				if err != nil {
					return err
				}
				t := table{
					header: []string{"ID", "SEQ"},
					rows:   [][]string{{receipt.ID, strconv.FormatUint(receipt.Seq, 10)}},
				}
				return a.emit(receipt, &t)
			})
		},
	}
	target.register(cmd)
	target.registerCreate(cmd)
	flags.register(cmd)
	return cmd
}

// text returns a text argument, or what the standard input holds. It reads one
// byte more than a memory may have, so that the library can refuse it.
func (a *app) text(ctx context.Context, arg string) (string, error) {
	if arg != fromStdin {
		return arg, nil
	}
	content, err := io.ReadAll(io.LimitReader(interruptible(ctx, a.in), engram.MaxContentBytes+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return string(content), nil
}

// interruptible reads in, to its end or to that of ctx. A read that waits for somebody
// to type cannot be called off: it is left behind, and lasts as long as the process.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	out, copied := io.Pipe()
	go func() {
		_, err := io.Copy(copied, in)
		_ = copied.CloseWithError(err) // never fails, as below
	}()
	context.AfterFunc(ctx, func() { _ = copied.CloseWithError(ctx.Err()) })
	return out
}

func (a *app) lookupCommand() *cobra.Command {
	var target spaceFlags
	cmd := &cobra.Command{
		Use:   "lookup ID",
		Short: "Show one memory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSpace(cmd, toRead, target, func(space memorySpace) error {
				memory, err := space.Lookup(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.emit(memory, memoryTable(memory))
			})
		},
	}
	target.register(cmd)
	return cmd
}

func memoryTable(m engram.Memory) *table {
	t := &table{uncut: true}
	t.add("id", m.ID)
	t.add("space", string(m.Space))
	t.add("seq", strconv.FormatUint(m.Seq, 10))
	t.add("kind", string(m.Kind))
	t.add("time", m.Time.Format(time.RFC3339Nano))
	t.add("stored", m.StoredAt.Format(time.RFC3339Nano))
	t.add("confidence", formatShare(m.Confidence))
	if m.Episode != "" {
		t.add("episode", m.Episode)
	}
	for _, key := range slices.Sorted(maps.Keys(m.Attributes)) {
		t.add("attribute", key+"="+m.Attributes[key])
	}
	if len(m.Embedding) > 0 {
		t.add("embedding", counted(len(m.Embedding), "dimension", "dimensions"))
	}
	// The content is what was asked for: all of it, line by line.
	for i, line := range strings.Split(m.Content, "\n") {
		name := ""
		if i == 0 {
			name = "content"
		}
		t.add(name, line)
	}
	return t
}

func (a *app) forgetCommand() *cobra.Command {
	var (
		target spaceFlags
		where  filterFlags
	)
	cmd := &cobra.Command{
		Use:   "forget [ID...]",
		Short: "Forget memories by id, or all that satisfy a filter",
		Example: `  engram forget 0197f2c4 0197f2c5
  engram forget --episode trial-run
  engram forget --before 2025-01-01T00:00:00Z`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			switch {
			case len(ids) > 0 && !where.filter().IsZero():
				return errors.New("give either ids or a filter")
			case len(ids) == 0 && where.filter().IsZero():
				return errors.New("give ids or a filter; to forget everything, delete the space")
			}
			return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
				receipt, err := forget(cmd, space, ids, where.filter())
				if err != nil {
					return err
				}
				t := table{
					header: []string{"FORGOTTEN", "SEQ"},
					rows:   [][]string{{strconv.Itoa(receipt.Forgotten), strconv.FormatUint(receipt.Seq, 10)}},
				}
				return a.emit(receipt, &t)
			})
		},
	}
	target.register(cmd)
	where.register(cmd)
	return cmd
}

func forget(cmd *cobra.Command, space memorySpace, ids []string, where engram.Filter) (engram.ForgetReceipt, error) {
	if len(ids) > 0 {
		return space.Forget(cmd.Context(), ids)
	}
	return space.ForgetWhere(cmd.Context(), where, false)
}

func formatShare(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }
