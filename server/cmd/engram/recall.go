package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) recallCommand() *cobra.Command {
	var (
		target spaceFlags
		where  filterFlags
		cue    engram.Cue
	)
	cmd := &cobra.Command{
		Use:   "recall [TEXT]",
		Short: "Recall what a text, memories or a filter bring to mind",
		Example: `  engram recall "where does Anna live"
  engram recall --episode release-7 --limit 3`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				cue.Text = args[0]
			}
			cue.Filter = where.filter()
			return a.withSpace(cmd, toRead, target, func(space memorySpace) error {
				recall, err := space.Recall(cmd.Context(), cue)
				if err != nil {
					return err
				}
				return a.emitRecall(recall)
			})
		},
	}
	target.register(cmd)
	where.register(cmd)
	cmd.Flags().StringArrayVar(&cue.IDs, "id", nil, "recall what the memory of this `id` brings to mind; may be repeated")
	cmd.Flags().IntVar(&cue.Limit, "limit", engram.DefaultLimit, "at most this many recollections")
	cmd.Flags().Float64Var(&cue.MinActivation, "min-activation", 0, "leave out what is activated less, 0 to 1")
	return cmd
}

func (a *app) emitRecall(recall engram.Recall) error {
	t := table{header: []string{"ACTIVATION", "TIME (UTC)", "ID", "WHY", "CONTENT"}}
	for _, r := range recall.Recollections {
		t.add(formatShare(r.Activation), r.Memory.Time.Format(time.DateTime), r.Memory.ID, formatWhy(r.Why), r.Memory.Content)
	}
	return a.emit(recall, &t)
}

// formatWhy lists the shares that are there, in the order of the type.
func formatWhy(why engram.Why) string {
	shares := []struct {
		name  string
		share float64
	}{
		{"cued", why.Cued},
		{"text", why.Text},
		{"vector", why.Vector},
		{"contiguity", why.Contiguity},
		{"episode", why.Episode},
		{"label", why.Label},
		{"time", why.Time},
		{"feedback", why.Feedback},
		{"association", why.Association},
		{"filter", why.Filter},
	}
	var parts []string
	for _, s := range shares {
		if s.share != 0 {
			parts = append(parts, s.name+" "+formatShare(s.share))
		}
	}
	return strings.Join(parts, ", ")
}
