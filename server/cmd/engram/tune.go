package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

// registerConfig makes flags of what a space may be configured with at any time.
func registerConfig(cmd *cobra.Command, config *engram.SpaceConfig) {
	flags := cmd.Flags()
	flags.Int64Var(&config.MaxMemories, "max-memories", 0, "quota of memories; 0 means none")
	flags.Int64Var(&config.MaxBytes, "max-bytes", 0, "quota of encoded bytes; 0 means none")
	flags.Float64Var(&config.TextK1, "text-k1", 0, "BM25's term frequency saturation; 0 means the default")
	flags.Float64Var(&config.TextB, "text-b", 0, "BM25's length normalisation; 0 means the default")
	flags.IntVar(&config.AutoAssociate, "auto-associate", 0, "associate a new memory with this many similar ones; 0 means none")
}

func (a *app) spaceConfigureCommand() *cobra.Command {
	var given engram.SpaceConfig
	cmd := &cobra.Command{
		Use:     "configure ID",
		Short:   "Change the configuration of a space; what no flag names stays",
		Example: `  engram space configure alice --max-memories 100000`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			changes := []struct {
				flag  string
				apply func(*engram.SpaceConfig)
			}{
				{"max-memories", func(c *engram.SpaceConfig) { c.MaxMemories = given.MaxMemories }},
				{"max-bytes", func(c *engram.SpaceConfig) { c.MaxBytes = given.MaxBytes }},
				{"text-k1", func(c *engram.SpaceConfig) { c.TextK1 = given.TextK1 }},
				{"text-b", func(c *engram.SpaceConfig) { c.TextB = given.TextB }},
				{"auto-associate", func(c *engram.SpaceConfig) { c.AutoAssociate = given.AutoAssociate }},
			}
			any := false
			for _, change := range changes {
				any = any || changed(change.flag)
			}
			if !any {
				return errors.New("name what to change; `engram space configure --help` lists it")
			}
			return a.withBackend(toWrite, func(b backend) error {
				space, err := b.space(cmd.Context(), engram.SpaceID(args[0]))
				if err != nil {
					return err
				}
				receipt, err := space.Configure(cmd.Context(), func(config *engram.SpaceConfig) {
					for _, change := range changes {
						if changed(change.flag) {
							change.apply(config)
						}
					}
				})
				if err != nil {
					return err
				}
				return a.emitSeq(receipt.Seq)
			})
		},
	}
	registerConfig(cmd, &given)
	return cmd
}

func (a *app) spaceStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats ID",
		Short: "Show the figures of a space",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBackend(toRead, func(b backend) error {
				space, err := b.space(cmd.Context(), engram.SpaceID(args[0]))
				if err != nil {
					return err
				}
				stats, err := space.Stats(cmd.Context())
				if err != nil {
					return err
				}
				var t table
				for _, row := range []struct {
					name  string
					value int64
				}{
					{"memories", stats.Content.Memories},
					{"bytes", stats.Content.Bytes},
					{"episodes", stats.Content.Episodes},
					{"associations", stats.Content.Associations},
					{"dimension", int64(stats.Content.Dimension)},
					{"segments", int64(stats.Operator.Segments)},
					{"log bytes", stats.Operator.LogBytes},
				} {
					t.add(row.name, strconv.FormatInt(row.value, 10))
				}
				t.add("seq", strconv.FormatUint(stats.Content.Seq, 10))
				t.add("mark", strconv.FormatUint(stats.Operator.MarkSeq, 10))
				t.add("checkpoint", strconv.FormatUint(stats.Operator.CheckpointSeq, 10))
				t.add("state", string(stats.Operator.State))
				return a.emit(stats, &t)
			})
		},
	}
}
