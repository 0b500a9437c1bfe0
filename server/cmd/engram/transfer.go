package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) exportCommand() *cobra.Command {
	var target spaceFlags
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write a space to a JSON Lines file; - writes the standard output",
		Long: `Write one snapshot of a space to a JSON Lines file, which must not exist. What
is in it, "engram import --new" makes a space of. A file that could not be
written to its end is removed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSpace(cmd, toRead, target, func(space memorySpace) error {
				if args[0] == fromStdin {
					_, err := space.Export(cmd.Context(), a.out)
					return err
				}
				return a.exportFile(cmd, space, args[0])
			})
		},
	}
	target.register(cmd)
	return cmd
}

func (a *app) exportFile(cmd *cobra.Command, space memorySpace, name string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	counted := &counter{Writer: file, progress: a.newProgress("exporting", -1)}
	seq, err := space.Export(cmd.Context(), counted)
	err = errors.Join(err, counted.finish())
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	t := table{header: []string{"SPACE", "FILE", "BYTES", "SEQ"}}
	t.add(string(space.ID()), name, strconv.FormatInt(counted.bytes, 10), strconv.FormatUint(seq, 10))
	return a.emit(map[string]any{"space": space.ID(), "file": name, "bytes": counted.bytes, "seq": seq}, &t)
}

// newProgress returns a bar on a terminal, else nil. A size of -1 is unknown.
func (a *app) newProgress(what string, size int64) *progressbar.ProgressBar {
	if !isTerminal(a.err) {
		return nil
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// counter counts the bytes that pass, and shows them.
type counter struct {
	io.Writer
	io.Reader

	bytes    int64
	progress *progressbar.ProgressBar // nil: none
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	return n, errors.Join(err, c.count(n))
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if counted := c.count(n); counted != nil {
		return n, counted
	}
	return n, err // io.EOF as it is: readers compare
}

func (c *counter) count(n int) error {
	c.bytes += int64(n)
	if c.progress == nil {
		return nil
	}
	return c.progress.Add(n)
}

func (c *counter) finish() error {
	if c.progress == nil {
		return nil
	}
	return c.progress.Finish()
}

// importNew makes a space of an export.
func (a *app) importNew(cmd *cobra.Command, target spaceFlags, src io.Reader, size int64) error {
	id, err := target.id(cmd)
	if err != nil {
		return err
	}
	return a.withBackend(toCreate, func(b backend) error {
		if err := id.Validate(); err != nil {
			return err
		}
		counted := &counter{Reader: src, progress: a.newProgress("importing", size)}
		info, err := b.Import(cmd.Context(), id, counted)
		if err = errors.Join(err, counted.finish()); err != nil {
			return err
		}
		return a.emitInfo(info)
	})
}

func (a *app) checkpointCommand() *cobra.Command {
	var target spaceFlags
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Write a space's indexes to disk, and drop what was forgotten from its files",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
				if err := space.Checkpoint(cmd.Context()); err != nil {
					return err
				}
				t := table{rows: [][]string{{"checkpointed", string(space.ID())}}}
				return a.emit(map[string]engram.SpaceID{"checkpointed": space.ID()}, &t)
			})
		},
	}
	target.register(cmd)
	return cmd
}

func (a *app) settleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "settle",
		Short: "Make every space's own log durable and empty the journal",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBackend(toWrite, func(b backend) error {
				if err := b.Settle(cmd.Context()); err != nil {
					return err
				}
				t := table{rows: [][]string{{"settled"}}}
				return a.emit(map[string]bool{"settled": true}, &t)
			})
		},
	}
}

// exitDamaged: a space that was verified is damaged.
const exitDamaged = 2

func (a *app) spaceVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [ID...]",
		Short: "Read every byte of spaces, or of all, and report damage",
		Long: `Read every byte of the spaces that are named, or of all, while they are in use,
and report damage. The exit code is 0 where there is none, 2 where there is, 1
where a space could not be verified.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBackend(toRead, func(b backend) error {
				var ids []engram.SpaceID
				for _, arg := range args {
					ids = append(ids, engram.SpaceID(arg))
				}
				if len(args) == 0 {
					for id, err := range b.Spaces(cmd.Context(), "") {
						if err != nil {
							return err
						}
						ids = append(ids, id)
					}
				}
				return a.verifySpaces(cmd, b, ids)
			})
		},
	}
}

func (a *app) verifySpaces(cmd *cobra.Command, b backend, ids []engram.SpaceID) error {
	reports := []engram.VerifyReport{}
	t := table{header: []string{"SPACE", "SEQ", "MEMORIES", "BYTES", "DAMAGE"}, uncut: true}
	progress := a.newProgress("verifying", -1)
	damaged := false
	for _, id := range ids {
		space, err := b.space(cmd.Context(), id)
		if err != nil {
			return err
		}
		report, err := space.Verify(cmd.Context())
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		damage := append([]string{"none"}, report.Damage...)
		if len(report.Damage) > 0 {
			damaged, damage = true, report.Damage
		}
		reports = append(reports, report)
		t.add(string(id), strconv.FormatUint(report.Seq, 10), strconv.FormatInt(report.Memories, 10),
			strconv.FormatInt(report.Bytes, 10), damage[0])
		for _, more := range damage[1:] {
			t.add("", "", "", "", more)
		}
		if progress != nil {
			if err := progress.Add64(report.Bytes); err != nil {
				return err
			}
		}
	}
	if progress != nil {
		if err := progress.Finish(); err != nil {
			return err
		}
	}
	if err := a.emit(map[string]any{"spaces": reports}, &t); err != nil {
		return err
	}
	if damaged {
		return &exitError{exitDamaged}
	}
	return nil
}
