package verify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/engramdb/engram"
)

// durability are the claims about what is kept, tried with restarts and kills.
func durability() []assertion {
	return []assertion{
		{"durability/restart", "after a restart every space holds what was acknowledged, and nothing else", needRestart, tryRestart},
		{"durability/forgotten", "what was forgotten stays forgotten after a restart", needRestart, tryForgottenRestart},
		{"durability/retry", "a write that is sent again after a restart takes effect once", needRestart, tryRetryRestart},
		{"durability/resume", "a stream goes on after a restart behind the last event, without a gap", needRestart, tryResumeRestart},
		{"durability/kill", "after a process is killed while it writes, each space holds a prefix of its writes with every acknowledged one, whole batches only", needKill, tryKill},
	}
}

func tryRestart(ctx context.Context, c *check) error {
	spaces, err := c.make(ctx, writersAtOnce)
	if err != nil {
		return err
	}
	histories := c.newHistories(spaces)
	for round := range 2 {
		if err := writeAll(ctx, histories); err != nil {
			return err
		}
		if err := c.run.restart(ctx); err != nil {
			return err
		}
		for _, h := range histories {
			if err := c.holds(ctx, h.space, h.state, "after restart %d", round+1); err != nil {
				return err
			}
		}
	}
	for i, s := range c.stage.spaces {
		if err := c.holds(ctx, s, contents(c.stage.all(i)), "after two restarts"); err != nil {
			return err
		}
	}
	return nil
}

func tryForgottenRestart(ctx context.Context, c *check) error {
	made, held, err := c.makeFilled(ctx, 2)
	if err != nil {
		return err
	}
	for _, id := range []string{memoryID(0), memoryID(2)} {
		if _, err := made[0].Forget(ctx, []string{id}); err != nil {
			return err
		}
	}
	if err := c.run.restart(ctx); err != nil {
		return err
	}
	for _, id := range []string{memoryID(0), memoryID(2)} {
		if err := c.forgotten(ctx, made[0], id, held[0][id], "after a restart"); err != nil {
			return err
		}
		delete(held[0], id)
	}
	for i, s := range made {
		if err := c.holds(ctx, s, held[i], "after one of two spaces forgot, and a restart"); err != nil {
			return err
		}
	}
	return nil
}

func tryRetryRestart(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	m, once := engram.Memory{Content: "Sent before and after a restart."}, write{requestID: "once-" + canaryOf(c.random.Uint64(), 0)}
	first, err := made[0].remember(ctx, m, once)
	if err != nil {
		return err
	}
	if err := c.run.restart(ctx); err != nil {
		return err
	}
	second, err := made[0].remember(ctx, m, once)
	c.that(err == nil && first == second, "a write that is sent again after a restart has the receipt %v, %s, and had %v", second, answerOf(err), first)
	return c.holds(ctx, made[0], map[string]string{first.ID: m.Content}, "after a write was sent before and after a restart")
}

func tryResumeRestart(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	h := c.newHistories(made)[0]
	if err := writeAll(ctx, []*history{h}); err != nil {
		return err
	}
	half := h.last / 2
	var seen []engram.Event
	for event, err := range h.space.Subscribe(ctx, 0) {
		if err != nil {
			return err
		}
		if seen = append(seen, event); event.Seq >= half {
			break
		}
	}
	if err := c.run.restart(ctx); err != nil {
		return err
	}
	if err := h.end(ctx); err != nil {
		return err
	}
	for event, err := range h.space.Subscribe(ctx, seen[len(seen)-1].Seq) {
		if err != nil {
			return err
		}
		if seen = append(seen, event); slices.Contains(event.IDs, endOf(h.canary)) {
			break
		}
	}
	c.follows(h, nil, seen)
	return nil
}

// How often a writer is killed, and to how many spaces it writes.
const (
	kills         = 4
	killedWriters = 3
	killedIDs     = 20
)

// killedWrite is the n-th write, from 1 on, of a child to one of its spaces: a
// batch, or the id to forget. It is the same in every process.
func killedWrite(seed uint64, writer, n int) (batch []engram.Memory, forgotten string) {
	random := randomOf(seed, fmt.Sprintf("write %d of %d", n, writer))
	id := func(i int) string { return fmt.Sprintf("w-%d", i%killedIDs) }
	if n%5 == 0 {
		return nil, id(3 * (n - 1)) // the first of the write before
	}
	for i := range 1 + random.IntN(3) {
		batch = append(batch, engram.Memory{
			ID:      id(3*n + i),
			Content: fmt.Sprintf("Writer %d, write %d, %s", writer, n, strings.Repeat("amet ", random.IntN(100))),
		})
	}
	return batch, ""
}

// killedState is what the first n writes leave.
func killedState(seed uint64, writer, n int) map[string]string {
	state := map[string]string{}
	for i := 1; i <= n; i++ {
		batch, forgotten := killedWrite(seed, writer, i)
		maps.Copy(state, contents(batch))
		delete(state, forgotten)
	}
	return state
}

func tryKill(ctx context.Context, c *check) error {
	spaces, err := c.make(ctx, killedWriters)
	if err != nil {
		return err
	}
	seed := c.random.Uint64()
	done := make([]int, len(spaces))
	embedded := c.over.(*library)
	for range kills {
		order := WriterOrder{Dir: embedded.dir, Seed: seed, Done: done}
		for _, s := range spaces {
			order.Spaces = append(order.Spaces, s.ID())
		}
		var acknowledged []int
		err := embedded.away(func() (err error) {
			acknowledged, err = c.kill(ctx, order, 1+c.random.IntN(60))
			return err
		})
		if err != nil {
			return err
		}
		for writer, s := range spaces {
			got, err := collect(s.Memories(ctx, engram.Filter{}))
			if err != nil {
				return err
			}
			// One write was under way at most.
			kept, next := killedState(seed, writer, acknowledged[writer]), killedState(seed, writer, acknowledged[writer]+1)
			whole := sameContents(got, next)
			c.that(whole || sameContents(got, kept), "after %d acknowledged writes and a kill: %s", acknowledged[writer], difference(s.ID(), got, kept))
			if done[writer] = acknowledged[writer]; whole && !maps.Equal(kept, next) {
				done[writer]++
			}
		}
	}
	for i, s := range c.stage.spaces {
		if err := c.holds(ctx, s, contents(c.stage.all(i)), "beside processes that were killed"); err != nil {
			return err
		}
	}
	return c.undamaged(ctx, embedded)
}

// undamaged counts a comparison of every byte of the directory with its checksum.
func (c *check) undamaged(ctx context.Context, embedded *library) error {
	var report engram.CheckReport
	err := embedded.away(func() (err error) {
		report, err = engram.Check(ctx, embedded.dir)
		return err
	})
	if err == nil {
		c.that(report.Verdict != engram.CheckCorrupt, "after processes were killed the directory is damaged: %s", report.Damage)
	}
	return err
}

// kill has a child write, kills it after some acknowledgements, and returns how
// many writes of each writer are acknowledged in all.
func (c *check) kill(ctx context.Context, order WriterOrder, after int) (acknowledged []int, err error) {
	child, err := c.run.config.Child(order)
	if err != nil {
		return nil, err
	}
	lifeline, err := child.StdinPipe() // ends with this process, and the child with it
	if err != nil {
		return nil, err
	}
	defer lifeline.Close() //nolint:errcheck // the child is gone by then
	told, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaint strings.Builder
	child.Stderr = &complaint
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start a writer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Kill() })
	defer stop()
	acknowledged, killed, readErr := readAcknowledged(bufio.NewReader(told), slices.Clone(order.Done), after, child.Process)
	if readErr != nil { // it may be alive
		_ = child.Process.Kill()
	}
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case readErr != nil:
		return nil, fmt.Errorf("read what the writer says: %w %s", readErr, complaint.String())
	case !killed || !errors.As(err, &exit) || complaint.Len() > 0:
		return nil, fmt.Errorf("the writer was not killed but ended by itself: %w %s", err, complaint.String())
	}
	return acknowledged, nil
}

// readAcknowledged reads what a child says until it is dead, and kills it after
// some lines, where it lives that long.
func readAcknowledged(
	lines *bufio.Reader, acknowledged []int, after int, child *os.Process,
) (_ []int, killed bool, err error) {
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) { // a line without its end was cut by the kill
			return acknowledged, killed, nil
		}
		if err != nil {
			return nil, killed, err
		}
		var writer, write int
		if _, err := fmt.Sscanf(line, "%d %d\n", &writer, &write); err != nil || writer < 0 || writer >= len(acknowledged) {
			return nil, killed, fmt.Errorf("it says %q", line)
		}
		if write != acknowledged[writer]+1 {
			return nil, killed, fmt.Errorf("write %d is acknowledged after %d", write, acknowledged[writer])
		}
		acknowledged[writer] = write
		if n == after {
			if err := child.Kill(); err != nil {
				return nil, killed, err
			}
			killed = true
		}
	}
}
