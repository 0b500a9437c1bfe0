package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/internal/strictjson"
)

const (
	// maxLineBytes holds the longest memory there can be: its content as escapes
	// of six bytes (6 MiB), attributes alike (0.8 MiB), the embedding.
	maxLineBytes = 8 << 20
	// A batch of an import is kept well below the library's limits, so that the
	// estimate of its size may be wrong by a factor of two.
	maxImportBatch      = 512
	maxImportBatchBytes = engram.MaxBatchBytes / 4
)

func (a *app) importCommand() *cobra.Command {
	var (
		target spaceFlags
		from   int
		asNew  bool
	)
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Remember the memories of a JSON Lines file; - reads the standard input",
		Long: `Remember the memories of a JSON Lines file: one memory on each line, with the
fields id, content, time, episode, attributes, embedding, confidence and kind.
Empty lines are skipped.

The import stops at the first line that is not a valid memory and names it: then
every line before it is stored, and neither it nor any line after it. It can be
taken up there with --from, or run again from the start: a memory with an id
replaces the one it stored before, a memory without one is stored once more.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from < 1 {
				return errors.New("--from: lines are counted from 1")
			}
			file, size, err := a.openInput(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asNew {
				return errors.Join(a.importNew(cmd, target, file, size), file.Close())
			}
			return errors.Join(a.importLines(cmd, target, file, size, from), file.Close())
		},
	}
	target.register(cmd)
	target.registerCreate(cmd)
	cmd.Flags().BoolVar(&asNew, "new", false, "make a new space of a file that engram export wrote, whole or not at all")
	cmd.Flags().IntVar(&from, "from", 1, "start at this `line`")
	cmd.MarkFlagsMutuallyExclusive("new", "from")
	cmd.MarkFlagsMutuallyExclusive("new", "create")
	return cmd
}

// openInput returns the file and its size, -1 if that is not known.
func (a *app) openInput(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if name == fromStdin {
		return io.NopCloser(interruptible(ctx, a.in)), -1, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	if !info.Mode().IsRegular() {
		return struct {
			io.Reader
			io.Closer
		}{interruptible(ctx, file), file}, -1, nil
	}
	return file, info.Size(), nil
}

func (a *app) importLines(cmd *cobra.Command, target spaceFlags, src io.Reader, size int64, from int) error {
	return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
		progress := a.newProgress("importing", size)
		im := importer{space: space, progress: progress, result: importResult{Space: space.ID()}}
		err := im.run(cmd.Context(), src, from)
		if progress != nil {
			err = errors.Join(err, progress.Finish())
		}
		var bad *lineError
		if errors.As(err, &bad) {
			im.result.FailedLine = bad.line
		}
		t := table{
			header: []string{"STORED", "LAST LINE", "SEQ"},
			rows:   [][]string{{strconv.Itoa(im.result.Stored), strconv.Itoa(im.result.LastLine), strconv.FormatUint(im.result.Seq, 10)}},
		}
		return errors.Join(err, a.emit(im.result, &t))
	})
}

// importResult says what an import did, also if it stopped early.
type importResult struct {
	Space      engram.SpaceID `json:"space"`
	Stored     int            `json:"stored"`                // memories
	LastLine   int            `json:"last_line"`             // up to and including this one, all are stored
	Seq        uint64         `json:"seq"`                   // of the last operation
	FailedLine int            `json:"failed_line,omitempty"` // why it stopped; 0: it did not
}

// lineError says at which line an import stopped.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }

func (e *lineError) Unwrap() error { return e.err }

// errExport: the file is one that import --new reads.
var errExport = errors.New("is the header of an export")

// parseLine reads one line of an import.
func parseLine(line []byte) (engram.Memory, error) {
	var m engram.Memory
	if bytes.HasPrefix(line, []byte(`{"format":"engram-export"`)) {
		return m, errExport
	}
	if err := strictjson.Unmarshal(line, &m); err != nil {
		return engram.Memory{}, err
	}
	return m, nil
}

// importer gathers memories into batches and remembers them.
type importer struct {
	space    memorySpace
	progress *progressbar.ProgressBar // nil: none
	result   importResult

	pending      []engram.Memory
	lines        []int // of the pending memories
	pendingBytes int   // estimate of their encoded size
	readBytes    int   // of the lines since the last flush
}

// run imports src from line first on. Where it stops early, every line before
// result.LastLine is stored, and that one too.
func (im *importer) run(ctx context.Context, src io.Reader, first int) error {
	scanner := bufio.NewScanner(src)
	scanner.Buffer(make([]byte, 0, 64<<10), maxLineBytes)
	line := 0
	for scanner.Scan() {
		line++
		im.readBytes += len(scanner.Bytes()) + 1
		if line < first || len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		memory, err := parseLine(scanner.Bytes())
		if err != nil {
			return im.stopAt(ctx, line, err)
		}
		if err := im.add(ctx, memory, line); err != nil {
			return err
		}
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return im.stopAt(ctx, line+1, fmt.Errorf("is longer than %d bytes", maxLineBytes))
	case err != nil:
		return errors.Join(im.flush(ctx), fmt.Errorf("read after line %d: %w", line, err))
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.result.LastLine = line
	return nil
}

// stopAt stores what stands before a bad line, and returns the error that names it.
func (im *importer) stopAt(ctx context.Context, line int, err error) error {
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.result.LastLine = line - 1
	return &lineError{line, err}
}

// add makes the memory part of the pending batch.
func (im *importer) add(ctx context.Context, m engram.Memory, line int) error {
	size := estimateBytes(m)
	if len(im.pending) == maxImportBatch || im.pendingBytes+size > maxImportBatchBytes {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.pending = append(im.pending, m)
	im.lines = append(im.lines, line)
	im.pendingBytes += size
	return nil
}

// estimateBytes returns about how many bytes the library stores for m.
func estimateBytes(m engram.Memory) int {
	size := 128 + len(m.ID) + len(m.Content) + len(m.Episode) + 4*len(m.Embedding)
	for key, value := range m.Attributes {
		size += 8 + len(key) + len(value)
	}
	return size
}

// flush remembers the pending batch.
func (im *importer) flush(ctx context.Context) error {
	if len(im.pending) == 0 {
		return nil
	}
	receipts, err := im.space.RememberBatch(ctx, im.pending)
	switch {
	case isRefusal(err):
		// One of the memories is at fault. Singly they tell which one, and those
		// before it are stored.
		err = im.rememberSingly(ctx)
	case err == nil:
		im.stored(len(receipts), receipts[len(receipts)-1].Seq, im.lines[len(im.lines)-1])
	default:
		err = fmt.Errorf("after line %d: %w", im.result.LastLine, err)
	}
	im.pending, im.lines, im.pendingBytes = im.pending[:0], im.lines[:0], 0
	if err == nil && im.progress != nil {
		err = im.progress.Add(im.readBytes)
	}
	im.readBytes = 0
	return err
}

// isRefusal reports errors that a memory of the batch causes, not the batch or
// the registry.
func isRefusal(err error) bool {
	return errors.Is(err, engram.ErrInvalid) || errors.Is(err, engram.ErrLimit) ||
		errors.Is(err, engram.ErrWrongSpace) || errors.Is(err, engram.ErrQuota)
}

func (im *importer) rememberSingly(ctx context.Context) error {
	for i, m := range im.pending {
		receipt, err := im.space.Remember(ctx, m, "")
		if isRefusal(err) {
			im.result.LastLine = im.lines[i] - 1
			return &lineError{im.lines[i], err}
		}
		if err != nil {
			return fmt.Errorf("after line %d: %w", im.result.LastLine, err)
		}
		im.stored(1, receipt.Seq, im.lines[i])
	}
	return nil
}

func (im *importer) stored(n int, seq uint64, line int) {
	im.result.Stored += n
	im.result.Seq = seq
	im.result.LastLine = line
}
