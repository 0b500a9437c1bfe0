package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

// tenancy are the claims about keys.
func tenancy() []assertion {
	return []assertion{
		{"keys/own-space", "a key reaches the spaces of its scope", needTenant, tryOwnSpace},
		{"keys/foreign-space", "a space outside of a key's scope is answered as one that does not exist, in all that is done", needTenant, tryForeignSpace},
		{"keys/listing", "a listing of spaces has those of the key's scope and no other", needTenant, tryTenantListing},
		{"keys/verbs", "a key does nothing that its scope does not name", needTenant, tryVerbs},
		{"keys/strangers", "without a valid key nothing is answered, and all spaces alike", needTenant, tryStrangers},
	}
}

// tenantSpace makes a space of a tenant's, as the operator.
func (c *check) tenantSpace(ctx context.Context, t tenant) (space, map[string]string, error) {
	id := c.run.spaces.nextWith(t.prefix, 1)[0]
	if err := c.run.spaces.create(ctx, c.over, id); err != nil {
		return nil, nil, err
	}
	held, err := c.fill(ctx, []space{c.over.space(id)})
	if err != nil {
		return nil, nil, err
	}
	return t.over.space(id), held[0], nil
}

func tryOwnSpace(ctx context.Context, c *check) error {
	for _, t := range c.run.tenants.on(c.over) {
		own, held, err := c.tenantSpace(ctx, t)
		if err != nil {
			return err
		}
		if err := c.holds(ctx, own, held, "to key %s", t.ID); err != nil {
			return err
		}
		_, err = own.remember(ctx, engram.Memory{ID: "own", Content: "Of a tenant."}, write{})
		if t.verbs&auth.Write != 0 {
			c.that(err == nil, "key %s, which may write, is refused: %s", t.ID, answerOf(err))
		} else {
			c.that(reasonOf(err) == "forbidden", "key %s, which may not write, is answered %s", t.ID, answerOf(err))
		}
	}
	return nil
}

// tenantProbes are all that can be done to a space.
func (c *check) tenantProbes() []spaceProbe {
	return append(spaceProbes(),
		spaceProbe{"remember in", func(ctx context.Context, over transport, s space) error {
			_, err := s.remember(ctx, engram.Memory{ID: "intruder", Content: "Not from here."}, write{})
			if err == nil {
				c.run.spaces.own(s.ID(), c.over) // it may have been made by that
			}
			return err
		}},
		spaceProbe{"delete", func(ctx context.Context, over transport, s space) error { return over.Delete(ctx, s.ID()) }},
	)
}

func tryForeignSpace(ctx context.Context, c *check) error {
	for _, t := range c.run.tenants.on(c.over) {
		foreign, err := c.make(ctx, 1)
		if err != nil {
			return err
		}
		held, err := c.fill(ctx, foreign)
		if err != nil {
			return err
		}
		there := t.over.space(foreign[0].ID())
		nowhere := t.over.space(c.run.spaces.next(1)[0])
		for _, probe := range c.tenantProbes() {
			one, other := probe.ask(ctx, t.over, there), probe.ask(ctx, t.over, nowhere)
			c.that(one != nil, "key %s may %s space %s, which is outside of its scope", t.ID, probe.what, there.ID())
			c.alike(fmt.Sprintf("key %s, to %s a space outside of its scope and one that does not exist,", t.ID, probe.what),
				answerOf(one, string(there.ID())), answerOf(other, string(nowhere.ID())))
		}
		if err := c.holds(ctx, foreign[0], held[0], "after key %s tried everything", t.ID); err != nil {
			return err
		}
	}
	return nil
}

func tryTenantListing(ctx context.Context, c *check) error {
	for _, t := range c.run.tenants.on(c.over) {
		own, _, err := c.tenantSpace(ctx, t)
		if err != nil {
			return err
		}
		listed, err := collect(t.over.Spaces(ctx, ""))
		if err != nil {
			return err
		}
		found, foreign := false, engram.SpaceID("")
		for _, id := range listed {
			found = found || id == own.ID()
			if !t.sees(id) {
				foreign = id
			}
		}
		c.that(foreign == "", "the listing of key %s has space %s, which is outside of its scope", t.ID, foreign)
		c.that(found, "the listing of key %s does not have space %s", t.ID, own.ID())
	}
	return nil
}

func tryVerbs(ctx context.Context, c *check) error {
	for _, t := range c.run.tenants.on(c.over) {
		own, held, err := c.tenantSpace(ctx, t)
		if err != nil {
			return err
		}
		if t.verbs&auth.Admin == 0 {
			id := c.run.spaces.nextWith(t.prefix, 1)[0]
			err := t.over.create(ctx, id)
			if err == nil {
				c.run.spaces.own(id, c.over)
			}
			c.that(reasonOf(err) == "forbidden", "creating a space by key %s, which may not administer: %s", t.ID, answerOf(err))
			err = t.over.Delete(ctx, own.ID())
			c.that(reasonOf(err) == "forbidden", "deleting a space by key %s, which may not administer: %s", t.ID, answerOf(err))
		}
		if t.verbs&auth.Write == 0 {
			_, err := own.Forget(ctx, []string{memoryID(0)})
			c.that(reasonOf(err) == "forbidden", "forgetting by key %s, which may not write: %s", t.ID, answerOf(err))
		}
		if err := c.holds(ctx, c.over.space(own.ID()), held, "after key %s tried what it may not", t.ID); err != nil {
			return err
		}
	}
	return nil
}

func tryStrangers(ctx context.Context, c *check) error {
	real := c.run.tenants[0].Key.Key
	for what, key := range map[string]string{
		"no key":                         "",
		"no key of this server":          "engram_" + canaryOf(c.random.Uint64(), 0),
		"a key with another last letter": real[:len(real)-1] + string('a'+(real[len(real)-1]-'a'+1)%26),
	} {
		if err := c.tryStranger(ctx, what, key); err != nil {
			return err
		}
	}
	return nil
}

// tryStranger asks for spaces with a key that the server does not know. Its
// connections end with it: a run may have many rounds.
func (c *check) tryStranger(ctx context.Context, what, key string) (err error) {
	stranger := &run{config: c.run.config}
	defer func() { err = errors.Join(err, stranger.close()) }()
	transports, err := stranger.dial(key)
	if err != nil {
		return err
	}
	for _, over := range transports {
		if over.name() != c.over.name() {
			continue
		}
		there, nowhere := over.space(c.stage.spaces[0].ID()), over.space(c.run.spaces.next(1)[0])
		for _, probe := range spaceProbes() {
			one, other := probe.ask(ctx, over, there), probe.ask(ctx, over, nowhere)
			c.that(unauthenticated(one), "with %s, to %s a space: %s", what, probe.what, answerOf(one))
			c.alike(fmt.Sprintf("with %s, to %s a space that is there and one that is not", what, probe.what),
				answerOf(one, string(there.ID())), answerOf(other, string(nowhere.ID())))
		}
	}
	return nil
}
