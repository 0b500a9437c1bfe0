package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) spaceCommand() *cobra.Command {
	return groupCommand("space", "List, create, describe, configure, verify, re-embed, rename and delete spaces",
		a.spaceListCommand(), a.spaceCreateCommand(), a.spaceInfoCommand(),
		a.spaceRenameCommand(), a.spaceDeleteCommand(),
		a.spaceStatsCommand(), a.spaceConfigureCommand(), a.spaceVerifyCommand(), a.spaceReembedCommand(),
	)
}

// spaceItem is one line of space list.
type spaceItem struct {
	ID engram.SpaceID `json:"id"`
}

func (a *app) spaceListCommand() *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the ids of all spaces in order",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if after != "" {
				if err := engram.SpaceID(after).Validate(); err != nil {
					return fmt.Errorf("--after: %w", err)
				}
			}
			return a.withBackend(toRead, func(b backend) error {
				spaces := []spaceItem{}
				t := table{header: []string{"ID"}}
				for id, err := range b.Spaces(cmd.Context(), engram.SpaceID(after)) {
					if err != nil {
						return err
					}
					spaces = append(spaces, spaceItem{id})
					t.add(string(id))
				}
				return a.emit(map[string]any{"spaces": spaces}, &t)
			})
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "list only the spaces after this `id`")
	return cmd
}

func (a *app) spaceCreateCommand() *cobra.Command {
	var config engram.SpaceConfig
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Create a space, and the data directory if it is not there",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBackend(toCreate, func(b backend) error {
				info, err := b.Create(cmd.Context(), engram.SpaceID(args[0]), config)
				if err != nil {
					return err
				}
				return a.emitInfo(info)
			})
		},
	}
	registerConfig(cmd, &config)
	cmd.Flags().StringVar((*string)(&config.Analyzer), "analyzer", "", "what makes terms of texts, for good: english, english-all, plain or cjk (default english)")
	completes(cmd, "analyzer", string(engram.English), string(engram.EnglishAll), string(engram.Plain), string(engram.CJK))
	return cmd
}

func (a *app) spaceInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info ID",
		Short: "Describe a space",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBackend(toRead, func(b backend) error {
				info, err := b.Info(cmd.Context(), engram.SpaceID(args[0]))
				if err != nil {
					return err
				}
				return a.emitInfo(info)
			})
		},
	}
}

func (a *app) emitInfo(info engram.SpaceInfo) error {
	t := table{rows: [][]string{
		{"id", string(info.ID)},
		{"incarnation", info.Incarnation},
		{"created", info.Created.Format(time.RFC3339)},
		{"state", string(info.State)},
		{"memories", strconv.FormatInt(info.Memories, 10) + quotaSuffix(info.Config.MaxMemories)},
		{"bytes", strconv.FormatInt(info.Bytes, 10) + quotaSuffix(info.Config.MaxBytes)},
		{"dimension", strconv.Itoa(info.Dimension)},
		{"seq", strconv.FormatUint(info.Seq, 10)},
	}}
	return a.emit(info, &t)
}

func quotaSuffix(quota int64) string {
	if quota == 0 {
		return ""
	}
	return " of " + strconv.FormatInt(quota, 10)
}

func (a *app) spaceRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rename FROM TO",
		Short: "Give a space another id",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to := engram.SpaceID(args[0]), engram.SpaceID(args[1])
			return a.withBackend(toWrite, func(b backend) error {
				if err := b.Rename(cmd.Context(), from, to); err != nil {
					return err
				}
				t := table{rows: [][]string{{"renamed", string(from), "to", string(to)}}}
				return a.emit(map[string]engram.SpaceID{"renamed": from, "to": to}, &t)
			})
		},
	}
}

func (a *app) spaceDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete ID --yes",
		Short: "Delete a space with everything in it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return errors.New("deleting a space cannot be undone: confirm with --yes")
			}
			id := engram.SpaceID(args[0])
			return a.withBackend(toWrite, func(b backend) error {
				if err := b.Delete(cmd.Context(), id); err != nil {
					return err
				}
				t := table{rows: [][]string{{"deleted", string(id)}}}
				return a.emit(map[string]engram.SpaceID{"deleted": id}, &t)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really delete")
	return cmd
}
