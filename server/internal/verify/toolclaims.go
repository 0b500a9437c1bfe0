package verify

import (
	"context"
	"fmt"
	"net/url"

	"github.com/engramdb/engram"
)

// toolClaims are the claims about the tools of the Model Context Protocol alone.
func toolClaims() []assertion {
	return []assertion{
		{"isolation/foreign-memory", "an id that only another space has is to every tool one that nobody has", needMCP, tryForeignByTools},
		{"probes/unknown-space", "spaces that were deleted or never made are to every tool alike, and asking makes none", needMCP, tryUnknownByTools},
		{"routing/binding", "the address or a header field binds a session to a space, which its calls need not name", needMCP, tryBinding},
		{"routing/disagreement", "a call that names another space than its session is bound to is refused and stores nothing", needMCP, tryToolDisagreement},
		{"routing/empty-name", "an empty name of a space is refused, and does not mean the default one", needMCP, tryEmptyArgument},
		{"routing/fallback", "a call that names no space says that it means the default one, or is refused", needMCP, tryToolFallback},
		{"keys/foreign-space", "a space outside of a key's scope is to every tool one that does not exist", needMCP | needTenant, tryForeignByTenantTools},
	}
}

// toolProbe calls one of the tools about the memory and the space that it is
// asked about.
type toolProbe struct {
	tool string
	ask  func(ctx context.Context, s space) error
}

// toolProbes are all tools.
func toolProbes() []toolProbe {
	return []toolProbe{
		{"list", func(ctx context.Context, s space) error {
			_, err := collect(s.Memories(ctx, engram.Filter{}))
			return err
		}},
		{"recall", func(ctx context.Context, s space) error {
			_, err := s.Recall(ctx, engram.Cue{Text: words()[0]})
			return err
		}},
		{"forget", func(ctx context.Context, s space) error {
			_, err := s.Forget(ctx, []string{memoryID(0)})
			return err
		}},
	}
}

func tryForeignByTools(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		for what, id := range map[string]string{
			"only another space has": c.stage.alone((i + 1) % len(c.stage.spaces)).ID,
			"nobody has":             "only-" + canaryOf(c.stage.seed, -1-i),
		} {
			recall, err := space.Recall(ctx, engram.Cue{IDs: []string{id}})
			if err != nil {
				return err
			}
			c.that(len(recall.Recollections) == 0, "in space %s, a recall of a memory that %s gives %d", space.ID(), what, len(recall.Recollections))
			receipt, err := space.Forget(ctx, []string{id})
			if err != nil {
				return err
			}
			c.that(receipt.Forgotten == 0, "in space %s, forgetting a memory that %s forgets %d", space.ID(), what, receipt.Forgotten)
		}
	}
	for i, space := range c.stage.spaces {
		if err := c.holds(ctx, space, contents(c.stage.all(i)), "after other spaces were told to forget its ids"); err != nil {
			return err
		}
	}
	return nil
}

// askedAlike tries every tool on a space that a caller may know nothing of, and on
// one that nobody has.
func (c *check) askedAlike(ctx context.Context, there, nowhere space, what string) {
	for _, probe := range append(toolProbes(), toolProbe{"remember", func(ctx context.Context, s space) error {
		_, err := s.remember(ctx, engram.Memory{ID: "intruder", Content: "Not from here."}, write{})
		if err == nil {
			c.run.spaces.own(s.ID(), c.over) // it may have been made by that
		}
		return err
	}}) {
		one, other := probe.ask(ctx, there), probe.ask(ctx, nowhere)
		c.that(one != nil, "the tool %s answers about %s, %s", probe.tool, what, there.ID())
		c.alike(fmt.Sprintf("the tool %s about %s and one that was never made", probe.tool, what),
			answerOf(one, string(there.ID())), answerOf(other, string(nowhere.ID())))
	}
}

func tryUnknownByTools(ctx context.Context, c *check) error {
	made, err := c.make(ctx, 1)
	if err != nil {
		return err
	}
	if _, err := c.fill(ctx, made); err != nil {
		return err
	}
	if err := c.run.spaces.remove(ctx, c.over, made[0].ID()); err != nil {
		return err
	}
	never := c.over.space(c.run.spaces.next(1)[0])
	for _, probe := range toolProbes() {
		c.refused(probe.ask(ctx, never), engram.ErrSpaceNotFound, "the tool %s about a space that was never made", probe.tool)
	}
	c.askedAlike(ctx, made[0], never, "a space that was deleted")
	_, err = c.over.(*tools).web.Info(ctx, never.ID())
	c.refused(err, engram.ErrSpaceNotFound, "after tools were called about it, describing a space that was never made")
	return nil
}

// binding is one way to bind a session to a space.
type binding struct {
	what   string
	query  func(id engram.SpaceID) url.Values
	header func(id engram.SpaceID) map[string]string
}

func bindings() []binding {
	none := func(engram.SpaceID) map[string]string { return nil }
	field := func(name string) binding {
		return binding{
			"the header field " + name, func(engram.SpaceID) url.Values { return nil },
			func(id engram.SpaceID) map[string]string { return map[string]string{name: string(id)} },
		}
	}
	return []binding{
		{"the address", func(id engram.SpaceID) url.Values { return url.Values{"space": {string(id)}} }, none},
		field("X-Engram-Memory-Space"), field("X-Memory-Space"),
	}
}

// bound opens a session for each way to bind it to the space, and calls visit.
func (c *check) bound(ctx context.Context, id engram.SpaceID, visit func(what string, call func(tool string, a toolArguments, out any) error)) error {
	for _, b := range bindings() {
		session, err := c.over.(*tools).connect(ctx, b.query(id), b.header(id))
		if err != nil {
			return err
		}
		visit(b.what, func(tool string, a toolArguments, out any) error { return callTool(ctx, session, tool, a, out) })
		if err := session.Close(); err != nil {
			return err
		}
	}
	return nil
}

func tryBinding(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	held := []map[string]string{{}, {}}
	for i, s := range pair {
		err := c.bound(ctx, s.ID(), func(what string, call func(string, toolArguments, any) error) {
			var said toolAnswer
			content := fmt.Sprintf("Of %s, by %s.", s.ID(), what)
			err := call("remember", toolArguments{"id": what, "content": content}, &said)
			c.that(err == nil && said.Space == s.ID() && !said.Fallback, "a call of a session that %s binds to space %s is about %q, %s",
				what, s.ID(), said.Space, answerOf(err))
			held[i][what] = content
			err = call("list", toolArguments{"space": s.ID()}, &said)
			c.that(err == nil && said.Space == s.ID(), "a call that names the space %s of its session is about %q, %s", s.ID(), said.Space, answerOf(err))
		})
		if err != nil {
			return err
		}
	}
	for i, s := range pair {
		if err := c.holds(ctx, s, held[i], "after writes of bound sessions"); err != nil {
			return err
		}
	}
	return nil
}

func tryToolDisagreement(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	err = c.bound(ctx, pair[0].ID(), func(what string, call func(string, toolArguments, any) error) {
		for tool, arguments := range map[string]toolArguments{
			"remember": {"content": "Nobody knows where to."}, "recall": {"text": words()[0]}, "forget": {"ids": []string{memoryID(0)}}, "list": {},
		} {
			arguments["space"] = pair[1].ID()
			err := call(tool, arguments, nil)
			c.that(reasonOf(err) == "space-ambiguous", "a call of %s that names another space than %s is not refused as ambiguous: %s", tool, what, answerOf(err))
		}
	})
	if err != nil {
		return err
	}
	for _, s := range pair {
		if err := c.holds(ctx, s, nil, "after ambiguous calls were refused"); err != nil {
			return err
		}
	}
	return nil
}

func tryEmptyArgument(ctx context.Context, c *check) error {
	for tool, arguments := range map[string]toolArguments{
		"recall": {"text": canaryOf(c.random.Uint64(), 0)}, "list": {"limit": 1, "episode": canaryOf(c.random.Uint64(), 0)},
	} {
		arguments["space"] = ""
		err := c.over.(*tools).call(ctx, tool, arguments, nil)
		c.that(reasonOf(err) == "invalid-space-id", "a call of %s whose space is empty: %s", tool, answerOf(err))
	}
	return nil
}

// tryToolFallback recalls by a word that nobody has, which is all that it asks of a
// space that is not the run's.
func tryToolFallback(ctx context.Context, c *check) error {
	var said toolAnswer
	err := c.over.(*tools).call(ctx, "recall", toolArguments{"text": canaryOf(c.random.Uint64(), 0)}, &said)
	reason := reasonOf(err)
	c.that(err == nil && said.Fallback && said.Space == engram.DefaultSpace || reason == "space-required" || reason == "space-not-found",
		"a call that names no space does not say that it means the default one: it is about %q, %s", said.Space, answerOf(err))
	id := c.stage.spaces[0].ID()
	said = toolAnswer{}
	err = c.over.(*tools).call(ctx, "recall", toolArguments{"space": id, "text": canaryOf(c.random.Uint64(), 0)}, &said)
	c.that(err == nil && !said.Fallback && said.Space == id, "a call that names space %s is said to be about %q, %s", id, said.Space, answerOf(err))
	return nil
}

func tryForeignByTenantTools(ctx context.Context, c *check) error {
	for _, t := range c.run.tenants.on(c.over) {
		foreign, err := c.make(ctx, 1)
		if err != nil {
			return err
		}
		held, err := c.fill(ctx, foreign)
		if err != nil {
			return err
		}
		c.askedAlike(ctx, t.over.space(foreign[0].ID()), t.over.space(c.run.spaces.next(1)[0]), "a space outside of the scope of key "+t.ID)
		if err := c.holds(ctx, foreign[0], held[0], "after key %s called every tool", t.ID); err != nil {
			return err
		}
	}
	return nil
}
