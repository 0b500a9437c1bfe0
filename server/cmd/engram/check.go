package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Read every byte of a data directory and report damage, changing nothing",
		Long: `Read every byte of a data directory and report damage, changing nothing. The
exit code is the verdict:

  0  clean
  1  recoverable: the next start completes it and loses nothing acknowledged
  2  corrupt: stored data is damaged
  3  the directory could not be checked

The table lists the spaces that are not clean, -o json all of them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.requireDirectory(); err != nil {
				return err
			}
			report, err := engram.Check(cmd.Context(), a.dataDir)
			if err != nil {
				return err
			}
			if err := a.emit(report, checkTable(report)); err != nil {
				return err
			}
			return &exitError{report.ExitCode()}
		},
	}
}

func checkTable(report engram.CheckReport) *table {
	t := &table{header: []string{"SPACE", "VERDICT", "MEMORIES", "BYTES", "SEQ", "FOUND"}, uncut: true}
	var memories, bytes int64
	for _, space := range report.Spaces {
		memories += space.Memories
		bytes += space.Bytes
		if space.Verdict != engram.CheckClean {
			t.add(string(space.Space), string(space.Verdict), strconv.FormatInt(space.Memories, 10), strconv.FormatInt(space.Bytes, 10),
				strconv.FormatUint(space.Recovery.LastSeq, 10), findings(space))
		}
	}
	t.add(counted(len(report.Spaces), "space", "spaces"), string(report.Verdict), strconv.FormatInt(memories, 10),
		strconv.FormatInt(bytes, 10), "", report.Damage)
	return t
}

// findings says why a space is not clean.
func findings(space engram.SpaceCheck) string {
	if len(space.Damage) > 0 {
		return strings.Join(space.Damage, "; ")
	}
	return string(space.Recovery.Verdict)
}
