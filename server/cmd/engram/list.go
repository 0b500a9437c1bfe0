package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) listCommand() *cobra.Command {
	var (
		target spaceFlags
		where  filterFlags
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the memories that satisfy a filter, in the order of their times",
		Long: `List the memories that satisfy a filter, in the order of their times. With
-o json each line is a memory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return errors.New("--limit: is negative")
			}
			return a.withSpace(cmd, toRead, target, func(space memorySpace) error {
				t := table{header: []string{"TIME (UTC)", "ID", "EPISODE", "CONTENT"}}
				lines := json.NewEncoder(a.out)
				n := 0
				for m, err := range space.Memories(cmd.Context(), where.filter()) {
					if err != nil {
						return err
					}
					if n++; limit > 0 && n > limit {
						break
					}
					if a.output == asJSON {
						if err := lines.Encode(m); err != nil {
							return err
						}
						continue
					}
					t.add(m.Time.Format(time.DateTime), m.ID, m.Episode, m.Content)
				}
				if a.output == asJSON {
					return nil
				}
				return t.write(a.out)
			})
		},
	}
	target.register(cmd)
	where.register(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "at most this many; 0 means all")
	return cmd
}

func (a *app) forgetWhereCommand() *cobra.Command {
	var (
		target spaceFlags
		where  filterFlags
		dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "forget-where",
		Short: "Forget all memories that satisfy a filter, or count them",
		Example: `  engram forget-where --episode trial-run --dry-run
  engram forget-where --before 2025-01-01T00:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if where.filter().IsZero() {
				return errors.New("give a filter; to forget everything, delete the space")
			}
			how := toWrite
			if dryRun {
				how = toRead
			}
			return a.withSpace(cmd, how, target, func(space memorySpace) error {
				receipt, err := space.ForgetWhere(cmd.Context(), where.filter(), dryRun)
				if err != nil {
					return err
				}
				answer := struct {
					engram.ForgetReceipt

					DryRun bool `json:"dry_run,omitempty"`
				}{receipt, dryRun}
				header := []string{"FORGOTTEN", "SEQ"}
				if dryRun {
					header[0] = "WOULD FORGET"
				}
				t := table{header: header}
				t.add(strconv.Itoa(receipt.Forgotten), strconv.FormatUint(receipt.Seq, 10))
				return a.emit(answer, &t)
			})
		},
	}
	target.register(cmd)
	where.register(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count what would be forgotten")
	return cmd
}
