package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) salvageCommand() *cobra.Command {
	var out string
	var spaces []string
	cmd := &cobra.Command{
		Use:   "salvage --out DIR",
		Short: "Copy what can be read of a damaged data directory into a new one",
		Long: `Copy what can be read of a data directory into a new one, which must not exist
or be empty. The old one is not changed. The new spaces begin anew: they have the
memories, with ids, times, episodes, attributes, embeddings, confidence and kind,
the associations between them and the configuration, but no history of events or
requests.

The exit code says what was saved:

  0  everything
  1  something is lost: the report says what
  2  no space could be saved
  3  the directories could not be read or written`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.requireDirectory(); err != nil {
				return err
			}
			ids := make([]engram.SpaceID, len(spaces))
			for i, id := range spaces {
				ids[i] = engram.SpaceID(id)
			}
			report, err := engram.Salvage(cmd.Context(), a.dataDir, out, ids...)
			if err == nil {
				err = a.emit(report, salvageTable(report))
			}
			if err != nil {
				return err
			}
			return &exitError{report.ExitCode()}
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the new data `directory`")
	cmd.Flags().StringArrayVarP(&spaces, "space", "s", nil, "only the space of this `id`; may be repeated")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // the flag is there
	}
	return cmd
}

func salvageTable(report engram.SalvageReport) *table {
	t := &table{header: []string{"SPACE", "SAVED", "LOST", "FOUND"}, uncut: true}
	var saved int64
	for _, space := range report.Spaces {
		saved += space.Saved
		t.add(string(space.Space), strconv.FormatInt(space.Saved, 10), losses(space), strings.Join(space.Damage, "; "))
	}
	t.add(counted(len(report.Spaces), "space", "spaces"), strconv.FormatInt(saved, 10), "", report.Damage)
	return t
}

// losses says what of a space is lost.
func losses(space engram.SpaceSalvage) string {
	if space.Failed != "" {
		return "everything: " + space.Failed
	}
	var list []string
	if n := len(space.Unreadable); n > 0 {
		list = append(list, counted(n, "memory", "memories"))
	}
	for _, r := range space.Missing {
		list = append(list, fmt.Sprintf("operations %d to %d", r.First, r.Last))
	}
	if space.OpenEnd {
		list = append(list, fmt.Sprintf("perhaps operations after %d", space.LastSeq))
	}
	if space.Returned {
		list = append(list, "perhaps what was forgotten since the last checkpoint: it may be back")
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
