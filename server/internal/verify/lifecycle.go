package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/engramdb/engram"
)

// lifecycle are the claims about spaces that come and go, and about memories that
// go.
func lifecycle() []assertion {
	return []assertion{
		{"lifecycle/create", "a space that exists is not created again, and keeps what it holds", 0, tryCreate},
		{"lifecycle/recreate", "a space that takes the id of a deleted one shows nothing of it: no memory, recall, association, event", 0, tryRecreate},
		{"lifecycle/stale-handle", "a handle of a deleted space does not reach the one that takes its id", needLibrary, tryStaleHandle},
		{"lifecycle/stale-cursor", "a cursor of a deleted space is refused by the one that takes its id", needPages, tryStaleCursor},
		{"lifecycle/rename", "a renamed space keeps what it holds and is gone under its old id; those with similar ids do not change", 0, tryRename},
		{"lifecycle/forget", "what is forgotten is on no path, whichever space forgets it", 0, tryForget},
		{"probes/unknown-space", "spaces that were deleted, renamed away or never made are answered alike, and asking makes none", 0, tryUnknownSpaces},
		{"probes/malformed-space", "ids that no space can have are refused alike", 0, tryMalformedSpaces},
	}
}

// fill remembers some memories, the same ids in each space, and returns contents
// by id.
func (c *check) fill(ctx context.Context, spaces []space) ([]map[string]string, error) {
	held := make([]map[string]string, len(spaces))
	seed := c.random.Uint64()
	for i, s := range spaces {
		held[i] = map[string]string{}
		var ms []engram.Memory
		for j := range 6 {
			m := engram.Memory{ID: memoryID(j), Content: fmt.Sprintf("The %s of %s.", words()[j], canaryOf(seed, i))}
			held[i][m.ID] = m.Content
			ms = append(ms, m)
		}
		if _, err := s.RememberBatch(ctx, ms); err != nil {
			return nil, err
		}
		if _, err := s.Associate(ctx, engram.Association{From: memoryID(0), To: memoryID(1), Weight: 0.5}); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// makeFilled makes n spaces and fills them.
func (c *check) makeFilled(ctx context.Context, n int) (made []space, held []map[string]string, err error) {
	if made, err = c.make(ctx, n); err != nil {
		return nil, nil, err
	}
	held, err = c.fill(ctx, made)
	return made, held, err
}

func tryCreate(ctx context.Context, c *check) error {
	made, held, err := c.makeFilled(ctx, 1)
	if err != nil {
		return err
	}
	c.refused(c.over.create(ctx, made[0].ID()), engram.ErrSpaceExists, "creating space %s again", made[0].ID())
	return c.holds(ctx, made[0], held[0], "after its creation was refused")
}

func tryRecreate(ctx context.Context, c *check) error {
	made, held, err := c.makeFilled(ctx, 3)
	if err != nil {
		return err
	}
	gone := made[0]
	if err := c.run.spaces.remove(ctx, c.over, gone.ID()); err != nil {
		return err
	}
	c.absent(ctx, gone, "after it was deleted")
	if err := c.run.spaces.create(ctx, c.over, gone.ID()); err != nil {
		return err
	}
	if err := c.empty(ctx, gone, held[0]); err != nil {
		return err
	}
	m := engram.Memory{ID: memoryID(0), Content: "The first of the second life."}
	receipt, err := gone.remember(ctx, m, write{})
	if err != nil {
		return err
	}
	var event engram.Event
	for e, err := range gone.Subscribe(ctx, 0) {
		if err != nil {
			return err
		}
		if event = e; !ofItself(e) {
			break
		}
	}
	c.that(event.Seq == receipt.Seq && event.Kind == engram.Remembered && event.Memory != nil && event.Memory.Content == m.Content,
		"the stream of space %s, which took the id of a deleted one, begins with %s %q at seq %d", gone.ID(), event.Kind, event.IDs, event.Seq)
	got, err := gone.Associations(ctx, memoryID(0))
	if err != nil {
		return err
	}
	c.that(len(got) == 0, "space %s, which took the id of a deleted one, has its associations: %v", gone.ID(), got)
	if err := c.holds(ctx, gone, map[string]string{m.ID: m.Content}, "after it took the id of a deleted one"); err != nil {
		return err
	}
	for i, s := range made[1:] {
		if err := c.holds(ctx, s, held[i+1], "after %s was deleted and made again", gone.ID()); err != nil {
			return err
		}
	}
	return nil
}

// empty counts comparisons of a space that was just made with nothing: there is
// nothing of what the one before it held.
func (c *check) empty(ctx context.Context, s space, before map[string]string) error {
	for j := range len(before) {
		_, err := s.Lookup(ctx, memoryID(j))
		c.refused(err, engram.ErrMemoryNotFound, "a lookup of %q in space %s, which took the id of a deleted one that had it,", memoryID(j), s.ID())
		_, err = s.Associations(ctx, memoryID(j))
		c.refused(err, engram.ErrMemoryNotFound, "listing the associations of %q in space %s, which took the id of a deleted one that had it,", memoryID(j), s.ID())
		recall, err := s.Recall(ctx, engram.Cue{Text: before[memoryID(j)]})
		if err != nil {
			return err
		}
		c.that(len(recall.Recollections) == 0, "a recall in space %s, which took the id of a deleted one, gives %d memories of it", s.ID(), len(recall.Recollections))
	}
	info, err := c.over.Info(ctx, s.ID())
	if err != nil {
		return err
	}
	c.that(info.Memories == 0 && info.Bytes == 0, "space %s, which took the id of a deleted one, counts %d memories", s.ID(), info.Memories)
	return c.holds(ctx, s, nil, "after it took the id of a deleted one")
}

// absent counts comparisons that no path reaches the space.
func (c *check) absent(ctx context.Context, s space, when string) {
	for _, probe := range spaceProbes() {
		c.refused(probe.ask(ctx, c.over, s), engram.ErrSpaceNotFound, "%s, to %s space %s", when, probe.what, s.ID())
	}
}

func tryStaleHandle(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	id := made[0].ID()
	stale, err := c.over.(*library).Get(ctx, id)
	if err != nil {
		return err
	}
	if err := c.run.spaces.remove(ctx, c.over, id); err != nil {
		return err
	}
	if err := c.run.spaces.create(ctx, c.over, id); err != nil {
		return err
	}
	_, err = stale.Remember(ctx, engram.Memory{ID: "late", Content: "Too late."})
	c.refused(err, engram.ErrSpaceDeleted, "a write by a handle of the space that had the id %s before", id)
	_, err = stale.Recall(ctx, engram.Cue{Text: "late"})
	c.refused(err, engram.ErrSpaceDeleted, "a recall by a handle of the space that had the id %s before", id)
	return c.holds(ctx, made[0], nil, "after a stale handle was used")
}

func tryStaleCursor(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	id := made[0].ID()
	var cursor string
	for life := range 2 {
		if _, err := c.fill(ctx, made); err != nil {
			return err
		}
		got, next, err := made[0].(pager).page(ctx, cursor, 2)
		if life == 1 {
			c.that(err != nil && reasonOf(err) == "cursor-foreign", "space %s goes on from a cursor of the one that had its id before, with %d memories, %s", id, len(got), answerOf(err))
			return nil
		}
		if err != nil {
			return err
		}
		cursor = next
		if err := c.run.spaces.remove(ctx, c.over, id); err != nil {
			return err
		}
		if err := c.run.spaces.create(ctx, c.over, id); err != nil {
			return err
		}
	}
	return nil
}

func tryRename(ctx context.Context, c *check) error {
	made, held, err := c.makeFilled(ctx, 3)
	if err != nil {
		return err
	}
	from, to := made[0], c.over.space(c.run.spaces.next(1)[0])
	c.refused(c.over.Rename(ctx, from.ID(), made[1].ID()), engram.ErrSpaceExists, "renaming space %s to %s, which exists,", from.ID(), made[1].ID())
	if err := c.run.spaces.rename(ctx, c.over, from.ID(), to.ID()); err != nil {
		return err
	}
	c.absent(ctx, from, "after it was renamed")
	for i, s := range []space{to, made[1], made[2]} {
		if err := c.holds(ctx, s, held[i], "after %s was renamed to %s", from.ID(), to.ID()); err != nil {
			return err
		}
		m, err := s.Lookup(ctx, memoryID(0))
		c.that(err == nil && m.Space == s.ID(), "after %s was renamed to %s, a memory of space %s says that it is of %q", from.ID(), to.ID(), s.ID(), m.Space)
	}
	return nil
}

func tryForget(ctx context.Context, c *check) error {
	made, held, err := c.makeFilled(ctx, 3)
	if err != nil {
		return err
	}
	forgetful, id := made[0], memoryID(0)
	lost := held[0][id]
	for _, cue := range cuesOf(id, lost) { // an answer that is kept is wrong from then on
		recall, err := forgetful.Recall(ctx, cue)
		if err != nil {
			return err
		}
		c.that(len(recall.Recollections) > 0, "a recall of the memory %q of space %s gives nothing before that is forgotten", id, forgetful.ID())
	}
	if _, err := forgetful.Forget(ctx, []string{id}); err != nil {
		return err
	}
	delete(held[0], id)
	if err := c.forgotten(ctx, forgetful, id, lost, "at once"); err != nil {
		return err
	}
	for i, s := range made {
		if err := c.holds(ctx, s, held[i], "after space %s forgot %q", forgetful.ID(), id); err != nil {
			return err
		}
	}
	return nil
}

// cuesOf returns what recalls a memory, or what it is associated with.
func cuesOf(id, content string) []engram.Cue {
	return []engram.Cue{{Text: content, Limit: 50}, {IDs: []string{id}, Limit: 50}}
}

// forgotten counts comparisons that a forgotten memory is on no path.
func (c *check) forgotten(ctx context.Context, s space, id, content, when string) error {
	_, err := s.Lookup(ctx, id)
	c.refused(err, engram.ErrMemoryNotFound, "%s, a lookup of a memory that space %s forgot", when, s.ID())
	for _, cue := range cuesOf(id, content) {
		recall, err := s.Recall(ctx, cue)
		if err != nil {
			return err
		}
		back := false
		for _, m := range recalled(recall) {
			back = back || m.ID == id || m.Content == content
		}
		c.that(!back, "%s, a recall gives the memory %q that space %s forgot", when, id, s.ID())
	}
	text, err := exported(ctx, s)
	if err != nil {
		return err
	}
	c.that(!strings.Contains(text, content), "%s, an export holds the memory %q that space %s forgot", when, id, s.ID())
	info, err := c.over.Info(ctx, s.ID())
	if err != nil {
		return err
	}
	shown := false
	for event, err := range s.Subscribe(ctx, 0) {
		if err != nil {
			return err
		}
		shown = shown || event.Memory != nil && event.Memory.Content == content
		if event.Seq >= info.Seq {
			break
		}
	}
	c.that(!shown, "%s, an event shows the memory %q that space %s forgot", when, id, s.ID())
	return nil
}

// spaceProbe does to a space what needs one that exists. None of them makes one.
type spaceProbe struct {
	what string
	ask  func(ctx context.Context, over transport, s space) error
}

func spaceProbes() []spaceProbe {
	return []spaceProbe{
		{"look up in", func(ctx context.Context, _ transport, s space) error {
			_, err := s.Lookup(ctx, memoryID(0))
			return err
		}},
		{"list", func(ctx context.Context, _ transport, s space) error {
			_, err := collect(s.Memories(ctx, engram.Filter{}))
			return err
		}},
		{"recall in", func(ctx context.Context, _ transport, s space) error {
			_, err := s.Recall(ctx, engram.Cue{Text: words()[0]})
			return err
		}},
		{"forget in", func(ctx context.Context, _ transport, s space) error {
			_, err := s.Forget(ctx, []string{memoryID(0)})
			return err
		}},
		{"associate in", func(ctx context.Context, _ transport, s space) error {
			_, err := s.Associate(ctx, engram.Association{From: memoryID(0), To: memoryID(1), Weight: 1})
			return err
		}},
		{"list the associations in", func(ctx context.Context, _ transport, s space) error {
			_, err := s.Associations(ctx, memoryID(0))
			return err
		}},
		{"subscribe to", func(ctx context.Context, _ transport, s space) error { _, err := firstOf(ctx, s, 0); return err }},
		{"export", func(ctx context.Context, _ transport, s space) error { _, err := exported(ctx, s); return err }},
		{"describe", func(ctx context.Context, over transport, s space) error { _, err := over.Info(ctx, s.ID()); return err }},
	}
}

// tryUnknownSpaces also deletes and renames: nobody has these ids.
func tryUnknownSpaces(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	if _, err := c.fill(ctx, made); err != nil {
		return err
	}
	never := c.over.space(c.run.spaces.next(1)[0])
	if err := c.run.spaces.remove(ctx, c.over, made[0].ID()); err != nil {
		return err
	}
	if err := c.run.spaces.rename(ctx, c.over, made[1].ID(), c.run.spaces.next(1)[0]); err != nil {
		return err
	}
	probes := append(spaceProbes(),
		spaceProbe{"delete", func(ctx context.Context, over transport, s space) error { return over.Delete(ctx, s.ID()) }},
		spaceProbe{"rename", func(ctx context.Context, over transport, s space) error {
			return over.Rename(ctx, s.ID(), c.run.spaces.next(1)[0])
		}})
	for _, probe := range probes {
		nowhere := probe.ask(ctx, c.over, never)
		c.refused(nowhere, engram.ErrSpaceNotFound, "to %s a space that was never made", probe.what)
		for what, s := range map[string]space{"deleted": made[0], "renamed away": made[1]} {
			c.alike(fmt.Sprintf("to %s a space that was %s and one that was never made", probe.what, what),
				answerOf(probe.ask(ctx, c.over, s), string(s.ID())), answerOf(nowhere, string(never.ID())))
		}
	}
	_, err = c.over.Info(ctx, never.ID())
	c.refused(err, engram.ErrSpaceNotFound, "after it was asked for, describing a space that was never made")
	return nil
}

func tryMalformedSpaces(ctx context.Context, c *check) error {
	first := ""
	for _, id := range []engram.SpaceID{"Capital", "white space", "../aaa", "dot.ted", "quo\"te", "umläut", "-begins", "no"} {
		for _, probe := range []spaceProbe{spaceProbes()[0], spaceProbes()[2]} {
			err := probe.ask(ctx, c.over, c.over.space(id))
			if c.over.name() == overLibrary {
				c.that(errors.Is(err, engram.ErrInvalidSpaceID) || errors.Is(err, engram.ErrSpaceNotFound), "to %s a space of the id %q: %s", probe.what, id, answerOf(err))
				continue
			}
			c.refused(err, engram.ErrInvalidSpaceID, "to %s a space of the id %q", probe.what, id)
			if first == "" {
				first = reasonOf(err)
			}
			c.that(reasonOf(err) == first, "to %s a space of the id %q is refused as %s, other ids as %s", probe.what, id, reasonOf(err), first)
		}
	}
	return nil
}
