package engram

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// What one space is to its callers, one call after another: the sequential
// specification that histories of concurrent calls are held to.

// spaceCall is a call, and spaceAnswer what it returned.
type spaceCall struct {
	kind     callKind
	memories []spaceMemory // to remember, as a batch
	ids      []string      // to forget; or the one to look up
	episode  string        // to list, recall or forget; empty: all
	request  string
	expect   *uint64
}

type callKind string

const (
	callRemember      callKind = "remember"
	callForget        callKind = "forget"
	callForgetEpisode callKind = "forget episode"
	callLookup        callKind = "lookup"
	callList          callKind = "list"
	callRecall        callKind = "recall"
)

func (k callKind) writes() bool {
	return k == callRemember || k == callForget || k == callForgetEpisode
}

// spaceAnswer is comparable but for what was found.
type spaceAnswer struct {
	unknown   bool // whether the write has happened
	refusal   refusal
	seq       uint64 // of the first operation, or of the snapshot; of a conflict, the actual one
	forgotten int
	found     []spaceMemory
}

type refusal string

const (
	refusedConflict refusal = "conflict"
	refusedReuse    refusal = "request reused"
	refusedMissing  refusal = "not found"
)

// spaceMemory is a memory as far as the specification goes.
type spaceMemory struct {
	id, content, episode string
	time                 int64
	seq                  uint64
}

func (m spaceMemory) String() string {
	return fmt.Sprintf("%s=%.10s of %q time %d seq %d", m.id, m.content, m.episode, m.time, m.seq)
}

func (c spaceCall) String() string {
	s := fmt.Sprint(c.kind, " ", c.memories, c.ids, c.episode)
	if c.request != "" {
		s += ", request " + c.request
	}
	if c.expect != nil {
		s += fmt.Sprint(", expecting ", *c.expect)
	}
	return s
}

func (a spaceAnswer) String() string {
	if a.unknown {
		return "unknown"
	}
	return fmt.Sprint(a.refusal, " seq ", a.seq, ", forgotten ", a.forgotten, ", found ", a.found)
}

// spaceSpec is a state. It is never changed, only replaced.
type spaceSpec struct {
	seq      uint64
	memories map[string]spaceMemory
	requests map[string]specRequest
}

type specRequest struct {
	payload string
	answer  spaceAnswer
}

func newSpaceSpec() *spaceSpec { return &spaceSpec{seq: 1} }

func (s *spaceSpec) equal(other *spaceSpec) bool {
	return s == other || s.seq == other.seq && maps.Equal(s.memories, other.memories) &&
		maps.EqualFunc(s.requests, other.requests, func(a, b specRequest) bool {
			return a.payload == b.payload && a.answer.seq == b.answer.seq
		})
}

// matching returns the memories of the episode in time order.
func (s *spaceSpec) matching(episode string) []spaceMemory {
	var ms []spaceMemory
	for _, m := range s.memories {
		if episode == "" || m.episode == episode {
			ms = append(ms, m)
		}
	}
	slices.SortFunc(ms, func(a, b spaceMemory) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.seq, b.seq))
	})
	return ms
}

// step returns the states that the call may leave, if it gets that answer.
func (s *spaceSpec) step(c spaceCall, a spaceAnswer) []*spaceSpec {
	if !c.kind.writes() {
		if s.reads(c, a) {
			return []*spaceSpec{s}
		}
		return nil
	}
	possible := s.write(c)
	var next []*spaceSpec
	if a.unknown {
		next = append(next, s)
	}
	for _, p := range possible {
		if a.unknown || p.answer.refusal == a.refusal && p.answer.seq == a.seq && p.answer.forgotten == a.forgotten {
			next = append(next, p.state)
		}
	}
	return next
}

// reads reports whether the call may get that answer.
func (s *spaceSpec) reads(c spaceCall, a spaceAnswer) bool {
	switch c.kind {
	case callLookup:
		m, found := s.memories[c.ids[0]]
		if !found {
			return a.refusal == refusedMissing
		}
		return a.refusal == "" && len(a.found) == 1 && a.found[0] == m
	case callList:
		return slices.Equal(a.found, s.matching(c.episode))
	default: // newest first
		want := s.matching(c.episode)
		slices.Reverse(want)
		return a.seq == s.seq && slices.Equal(a.found, want)
	}
}

// possibility is one thing that a write may do.
type possibility struct {
	answer spaceAnswer
	state  *spaceSpec
}

// write returns what a write may do. Only forgetting has a choice: where nothing
// is there to forget it may notice that before it writes anything.
func (s *spaceSpec) write(c spaceCall) []possibility {
	payload := fmt.Sprintf("%s %#v %q %q", c.kind, c.memories, c.ids, c.episode)
	if c.request != "" {
		if done, found := s.requests[c.request]; found && done.payload == payload {
			return []possibility{{done.answer, s}}
		} else if found {
			return []possibility{{spaceAnswer{refusal: refusedReuse}, s}}
		}
	}
	if c.expect != nil && *c.expect != s.seq {
		return []possibility{{spaceAnswer{refusal: refusedConflict, seq: s.seq}, s}}
	}
	next := &spaceSpec{seq: s.seq + 1, memories: maps.Clone(s.memories), requests: s.requests}
	if next.memories == nil {
		next.memories = make(map[string]spaceMemory)
	}
	answer := spaceAnswer{seq: next.seq}
	var possible []possibility
	if c.kind == callRemember {
		for i, m := range c.memories {
			m.seq = answer.seq + uint64(i)
			next.seq = m.seq
			next.memories[m.id] = m
		}
	} else {
		maps.DeleteFunc(next.memories, func(id string, m spaceMemory) bool {
			return slices.Contains(c.ids, id) || c.kind == callForgetEpisode && m.episode == c.episode
		})
		answer.forgotten = len(s.memories) - len(next.memories)
		if answer.forgotten == 0 && c.request == "" && c.expect == nil {
			possible = append(possible, possibility{spaceAnswer{seq: s.seq}, s})
		}
	}
	if c.request != "" {
		next.requests = maps.Clone(s.requests)
		if next.requests == nil {
			next.requests = make(map[string]specRequest)
		}
		next.requests[c.request] = specRequest{payload, answer}
	}
	return append(possible, possibility{answer, next})
}

// linearizable reports whether the calls can be put in an order that respects
// what returned before what began, and in which each gets its answer.
func linearizable(history []porcupine.Operation) bool {
	spec := porcupine.NondeterministicModel{
		Init: func() []any { return []any{newSpaceSpec()} },
		Step: func(state, input, output any) []any {
			var next []any
			for _, s := range state.(*spaceSpec).step(input.(spaceCall), output.(spaceAnswer)) {
				next = append(next, s)
			}
			return next
		},
		Equal: func(a, b any) bool { return a.(*spaceSpec).equal(b.(*spaceSpec)) },
	}
	return porcupine.CheckOperations(spec.ToModel(), history)
}

// The checker accepts what may happen and rejects what must not.
func TestLinearizableTellsWrongHistories(t *testing.T) {
	a := spaceMemory{id: "a", content: "one", episode: "e", time: 1}
	b := spaceMemory{id: "b", content: "two", time: 2}
	at := func(m spaceMemory, seq uint64) spaceMemory {
		m.seq = seq
		return m
	}
	remember := func(ms ...spaceMemory) spaceCall { return spaceCall{kind: callRemember, memories: ms} }
	requested := func(c spaceCall, id string) spaceCall {
		c.request = id
		return c
	}
	expecting := func(c spaceCall, seq uint64) spaceCall {
		c.expect = &seq
		return c
	}
	all := spaceCall{kind: callList}
	found := func(ms ...spaceMemory) spaceAnswer { return spaceAnswer{found: ms} }
	seq := func(n uint64) spaceAnswer { return spaceAnswer{seq: n} }
	op := func(begins, returns int64, c spaceCall, answer spaceAnswer) porcupine.Operation {
		return porcupine.Operation{Input: c, Output: answer, Call: begins, Return: returns}
	}
	unknown := spaceAnswer{unknown: true}
	forget := spaceCall{kind: callForget, ids: []string{"a"}}
	recalled := func(n uint64, ms ...spaceMemory) spaceAnswer { return spaceAnswer{seq: n, found: ms} }
	for name, c := range map[string]struct {
		right, wrong []porcupine.Operation
	}{
		"an acknowledged write is lost": {
			right: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, all, found(at(a, 2)))},
			wrong: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, all, found())},
		},
		"half a batch is shown": {
			right: []porcupine.Operation{op(1, 5, remember(a, b), seq(2)), op(2, 3, all, found())},
			wrong: []porcupine.Operation{op(1, 5, remember(a, b), seq(2)), op(2, 3, all, found(at(a, 2)))},
		},
		"what was read is gone": {
			right: []porcupine.Operation{op(1, 6, remember(a), unknown), op(2, 3, all, found()), op(4, 5, all, found(at(a, 2)))},
			wrong: []porcupine.Operation{op(1, 6, remember(a), unknown), op(2, 3, all, found(at(a, 2))), op(4, 5, all, found())},
		},
		"two writes get one seq": {
			right: []porcupine.Operation{op(1, 3, remember(a), seq(3)), op(2, 4, remember(b), seq(2))},
			wrong: []porcupine.Operation{op(1, 3, remember(a), seq(2)), op(2, 4, remember(b), seq(2))},
		},
		"an unknown write happens after its process": {
			right: []porcupine.Operation{op(1, 4, remember(a), unknown), op(5, 6, all, found(at(a, 2))), op(7, 8, all, found(at(a, 2)))},
			wrong: []porcupine.Operation{op(1, 4, remember(a), unknown), op(5, 6, all, found()), op(7, 8, all, found(at(a, 2)))},
		},
		"what was forgotten returns": {
			right: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, forget, spaceAnswer{seq: 3, forgotten: 1}), op(5, 6, forget, seq(3))},
			wrong: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, forget, spaceAnswer{seq: 3, forgotten: 1}), op(5, 6, all, found(at(a, 2)))},
		},
		"a request takes effect twice": {
			right: []porcupine.Operation{op(1, 2, requested(remember(a), "r"), seq(2)), op(3, 4, requested(remember(a), "r"), seq(2)), op(5, 6, remember(b), seq(3))},
			wrong: []porcupine.Operation{op(1, 2, requested(remember(a), "r"), seq(2)), op(3, 4, requested(remember(a), "r"), seq(3))},
		},
		"an expected seq is not looked at": {
			right: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, expecting(remember(b), 1), spaceAnswer{refusal: refusedConflict, seq: 2})},
			wrong: []porcupine.Operation{op(1, 2, remember(a), seq(2)), op(3, 4, expecting(remember(b), 1), seq(3))},
		},
		"a recall is older than its seq": {
			right: []porcupine.Operation{op(1, 2, remember(a, b), seq(2)), op(3, 4, spaceCall{kind: callRecall}, recalled(3, at(b, 3), at(a, 2)))},
			wrong: []porcupine.Operation{op(1, 2, remember(a, b), seq(2)), op(3, 4, spaceCall{kind: callRecall}, recalled(3, at(a, 2)))},
		},
	} {
		require.True(t, linearizable(c.right), name)
		require.False(t, linearizable(c.wrong), name)
	}
}
