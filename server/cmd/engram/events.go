package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram"
)

func (a *app) eventsCommand() *cobra.Command {
	var (
		target spaceFlags
		after  uint64
		follow bool
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print the operations of a space in their order",
		Long: `Print the operations of a space in their order, a line for each; with -o json
each line is an event. They end with the last one that there is, or, with
--follow, which needs a server, never: interrupt it, and go on with --after. With
--after the seq that "engram space info" shows, only what is still to come is there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := a.server()
			if err != nil {
				return err
			}
			if follow && address == "" {
				return errors.New("--follow: nobody else writes to a directory that this command has open; follow a server with --addr")
			}
			return a.withSpace(cmd, toWrite, target, func(space memorySpace) error {
				return a.printEvents(cmd.Context(), space, after, follow)
			})
		},
	}
	target.register(cmd)
	cmd.Flags().Uint64Var(&after, "after", 0, "only events after this `seq`")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for events to come")
	return cmd
}

func (a *app) printEvents(ctx context.Context, space memorySpace, after uint64, follow bool) error {
	last := uint64(math.MaxUint64)
	if !follow {
		stats, err := space.Content(ctx)
		if err != nil {
			return err
		}
		if last = stats.Seq; last == after {
			return nil
		}
	}
	for event, err := range space.Subscribe(ctx, after) {
		if follow && errors.Is(err, context.Canceled) {
			return nil // the user has seen enough
		}
		if err != nil {
			return err
		}
		if err := a.printEvent(event); err != nil {
			return err
		}
		if event.Seq >= last {
			return nil
		}
	}
	return nil
}

func (a *app) printEvent(e engram.Event) error {
	if a.output == asJSON {
		return json.NewEncoder(a.out).Encode(e)
	}
	parts := []string{strconv.FormatUint(e.Seq, 10), e.Time.Format(time.RFC3339), string(e.Kind)}
	parts = append(parts, e.IDs...)
	if e.Association != nil {
		parts = append(parts, e.Association.From+" -> "+e.Association.To, e.Association.Kind, formatShare(e.Association.Weight))
	}
	var given any
	switch {
	case e.Filter != nil:
		given = e.Filter
	case e.Config != nil:
		given = e.Config
	}
	if given != nil {
		text, err := json.Marshal(given)
		if err != nil {
			return err
		}
		parts = append(parts, string(text))
	}
	if e.Embedder != "" {
		parts = append(parts, e.Embedder)
	}
	if e.Memory != nil {
		parts = append(parts, strconv.Quote(e.Memory.Content))
	}
	_, err := fmt.Fprintln(a.out, printable(strings.Join(parts, " "), math.MaxInt))
	return err
}
