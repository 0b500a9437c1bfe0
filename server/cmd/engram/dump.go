package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

// exitNotIntact: some piece of a dump is not as it was written.
const exitNotIntact = 1

func (a *app) dumpCommand() *cobra.Command {
	var flags spaceFlags
	var journal bool
	var options engram.DumpOptions
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print the records of a space's or the journal's files, changing nothing",
		Long: `Print what stands in the files of a space, or of the journal, piece by piece:
file, offset, length, kind, whether its checksum is right, and what it says. With
-o json each line is an object. Contents are left out unless --contents is given.
The exit code:

  0  every piece is intact
  1  one is not: engram check says whether anything is lost by that
  3  the directory could not be read`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.requireDirectory(); err != nil {
				return err
			}
			if !journal {
				id, err := flags.id(cmd)
				if err != nil {
					return err
				}
				options.Space = id
			}
			code := exitOK
			for record, err := range engram.Dump(cmd.Context(), a.dataDir, options) {
				if err == nil {
					err = a.emitLine(record)
				}
				if err != nil {
					return err
				}
				if !record.Intact {
					code = exitNotIntact
				}
			}
			return &exitError{code}
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&journal, "journal", false, "dump the journal, which all spaces share, instead of a space")
	cmd.Flags().BoolVar(&options.Contents, "contents", false, "show what was remembered, too")
	cmd.MarkFlagsMutuallyExclusive("space", "journal")
	return cmd
}

// emitLine writes one piece of a dump as a line.
func (a *app) emitLine(record engram.DumpRecord) error {
	if a.output == asJSON {
		return json.NewEncoder(a.out).Encode(record)
	}
	_, err := fmt.Fprintln(a.out, printable(dumpLine(record), math.MaxInt))
	return err
}

// dumpLine describes a piece for people.
func dumpLine(r engram.DumpRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d+%d %s", r.File, r.Offset, r.Length, r.Kind)
	if !r.Intact {
		b.WriteString(" NOT INTACT")
	}
	for _, field := range []struct {
		name  string
		value any
		shown bool
	}{
		{"space", r.Space, r.Space != ""},
		{"incarnation", r.Incarnation, r.Incarnation != ""},
		{"number", r.Number, r.Number != 0},
		{"generation", r.Generation, r.Generation != 0},
		{"first", r.FirstSeq, r.FirstSeq != 0},
		{"count", r.Count, r.Count != 0},
		{"epoch", r.Epoch, r.Epoch != 0},
		{"seq", r.Seq, r.Seq != 0},
		{"segment", r.Segment, r.Segment != 0},
		{"end", r.End, r.End != 0},
		{"follows", r.Follows, r.Follows != 0},
		{"sum", r.Checksum, r.Checksum != ""},
		{"previous", r.Previous, r.Previous != ""},
		{"bodies", r.Bodies, r.Bodies},
	} {
		if field.shown {
			fmt.Fprintf(&b, " %s=%v", field.name, field.value)
		}
	}
	for _, op := range r.Operations {
		fmt.Fprintf(&b, " [%d %s", op.Seq, op.Kind)
		if !op.Intact {
			b.WriteString(" NOT INTACT")
		}
		for _, id := range op.IDs {
			fmt.Fprintf(&b, " %q", id)
		}
		if op.Memory != nil {
			fmt.Fprintf(&b, ": %q", op.Memory.Content)
		}
		b.WriteString("]")
	}
	return b.String()
}
