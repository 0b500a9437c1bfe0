package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/engramdb/engram"
)

// crashReport is what a kill in the middle of loading did.
type crashReport struct {
	Seed         uint64 `json:"seed"`
	KillAfter    int    `json:"kill_after"`               // acknowledgements read when the child was killed
	Acknowledged int    `json:"acknowledged_before_kill"` // read in all: the last ones were under way
	Found        int    `json:"found_after_kill"`         // memories there on reopening
	Lost         int    `json:"lost"`                     // acknowledged and not found
	OutOfOrder   int    `json:"out_of_order"`             // found after one of the same space that is not
	Resumed      int    `json:"resumed"`                  // remembered afterwards

	acknowledged map[string]bool // by acknowledgement
}

// acknowledgement is the line that the child prints for a write.
func acknowledgement(space engram.SpaceID, id string) string { return string(space) + " " + id }

// killLoad runs this program again as a child that loads into dir, and kills it
// after a number of acknowledged writes that the seed decides.
func killLoad(ctx context.Context, o options, dir string, collections []collection) (*crashReport, error) {
	total := 0
	for _, c := range collections {
		total += len(c.memories)
	}
	random := rand.New(rand.NewPCG(o.seed, 0))
	crash := &crashReport{
		Seed:         o.seed,
		KillAfter:    1 + random.IntN(total),
		acknowledged: map[string]bool{},
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, program, "-data", o.data, "-"+childFlag, dir)
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil { // open until the child is gone, see loadAsChild
		return nil, err
	}
	output, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	err = crash.readAcknowledgements(output, child.Process.Kill)
	exit := child.Wait()
	if err != nil {
		return nil, fmt.Errorf("loading in a child process: %w", err)
	}
	crash.Acknowledged = len(crash.acknowledged)
	if crash.Acknowledged < crash.KillAfter {
		return nil, fmt.Errorf("the loading child ended after %d of %d writes: %w", crash.Acknowledged, crash.KillAfter, exit)
	}
	return crash, nil
}

// readAcknowledgements reads the child's lines to their end, and kills it on the
// way. A line without its end was cut by the kill.
func (c *crashReport) readAcknowledgements(output io.Reader, kill func() error) error {
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.acknowledged[strings.TrimSuffix(line, "\n")] = true
		if len(c.acknowledged) == c.KillAfter {
			if err := kill(); err != nil {
				return err
			}
		}
	}
}

// loadAsChild remembers the collections, all at the same time and one memory
// after another, and prints each as it is acknowledged. Then it waits to be
// killed, or for the end of stdin if its parent dies.
func loadAsChild(ctx context.Context, dir string, collections []collection, stdin io.Reader, stdout io.Writer) error {
	return withRegistry(dir, func(registry *engram.Registry) error {
		var (
			group  sync.WaitGroup
			mu     sync.Mutex // guards stdout and failed
			failed error
		)
		for _, c := range collections {
			group.Go(func() {
				err := rememberEach(ctx, registry, c, func(id string) error {
					mu.Lock()
					defer mu.Unlock()
					_, err := fmt.Fprintln(stdout, acknowledgement(c.space, id))
					return err
				})
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			})
		}
		group.Wait()
		if failed != nil {
			return failed
		}
		_, err := io.Copy(io.Discard, stdin)
		return err
	})
}

func rememberEach(ctx context.Context, registry *engram.Registry, c collection, acknowledge func(id string) error) error {
	space, err := registry.GetOrCreate(ctx, c.space, engram.SpaceConfig{})
	if err != nil {
		return err
	}
	for _, m := range c.memories {
		if _, err := space.Remember(ctx, m); err != nil {
			return err
		}
		if err := acknowledge(m.ID); err != nil {
			return err
		}
	}
	return nil
}

// resumeAndAsk reopens what the kill left, notes in crash what is there,
// completes the load and asks all questions.
func resumeAndAsk(ctx context.Context, dir string, collections []collection, crash *crashReport) (all []answers, err error) {
	err = withRegistry(dir, func(registry *engram.Registry) error {
		if err := crash.inspect(ctx, registry, collections); err != nil {
			return err
		}
		if err := load(ctx, registry, collections); err != nil {
			return err
		}
		all, err = askAll(ctx, registry, collections, asText)
		return err
	})
	return all, err
}

// inspect counts what survived: everything acknowledged must have, and of each
// space a prefix of what was written.
func (c *crashReport) inspect(ctx context.Context, registry *engram.Registry, collections []collection) error {
	for _, collection := range collections {
		missing := collection.memories
		space, err := registry.Get(ctx, collection.space)
		switch {
		case errors.Is(err, engram.ErrSpaceNotFound):
			// The kill came before the space was created: nothing of it can be there.
		case err != nil:
			return err
		default:
			if missing, err = missingFrom(ctx, space, collection.memories); err != nil {
				return err
			}
		}
		c.count(collection, missing)
	}
	return nil
}

func (c *crashReport) count(collection collection, missing []engram.Memory) {
	c.Found += len(collection.memories) - len(missing)
	c.Resumed += len(missing)
	isMissing := map[string]bool{}
	for _, m := range missing {
		isMissing[m.ID] = true
		if c.acknowledged[acknowledgement(collection.space, m.ID)] {
			c.Lost++
		}
	}
	gap := false
	for _, m := range collection.memories {
		gap = gap || isMissing[m.ID]
		if gap && !isMissing[m.ID] {
			c.OutOfOrder++
		}
	}
}
