package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) associateCommand() *cobra.Command {
	var association engram.Association
	cmd := a.associationCommand("associate FROM TO", "Make one memory bring another to mind", &association, memorySpace.Associate)
	cmd.Flags().Float64Var(&association.Weight, "weight", 1, "share of its activation that FROM passes on to TO, above 0 and up to 1")
	return cmd
}

func (a *app) dissociateCommand() *cobra.Command {
	return a.associationCommand("dissociate FROM TO", "Remove an association", &engram.Association{}, memorySpace.Dissociate)
}

// associationCommand is a command that does something about one association.
func (a *app) associationCommand(use, short string, association *engram.Association,
	do func(memorySpace, context.Context, engram.Association) (engram.Receipt, error),
) *cobra.Command {
	var target spaceFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			association.From, association.To = args[0], args[1]
			return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
				receipt, err := do(space, cmd.Context(), *association)
				if err != nil {
					return err
				}
				return a.emitSeq(receipt.Seq)
			})
		},
	}
	target.register(cmd)
	cmd.Flags().StringVar(&association.Kind, "kind", "", "what joins the two (default "+strconv.Quote(engram.AssociationRelated)+")")
	return cmd
}

// emitSeq says which operation a write was.
func (a *app) emitSeq(seq uint64) error {
	t := table{header: []string{"SEQ"}}
	t.add(strconv.FormatUint(seq, 10))
	return a.emit(map[string]uint64{"seq": seq}, &t)
}

func (a *app) associationsCommand() *cobra.Command {
	var target spaceFlags
	cmd := &cobra.Command{
		Use:   "associations ID",
		Short: "List the associations of a memory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSpace(cmd, toRead, target, func(space memorySpace) error {
				associations, err := space.Associations(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if associations == nil {
					associations = []engram.Association{}
				}
				t := table{header: []string{"FROM", "TO", "KIND", "WEIGHT"}}
				for _, association := range associations {
					t.add(association.From, association.To, association.Kind, formatShare(association.Weight))
				}
				return a.emit(map[string]any{"associations": associations}, &t)
			})
		},
	}
	target.register(cmd)
	return cmd
}
