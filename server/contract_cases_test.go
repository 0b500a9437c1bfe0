package server

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// contractCases is the contract.
func contractCases() []contractCase {
	var all []contractCase
	for _, part := range [][]contractCase{
		rememberCases(), readCases(), recallCases(), forgetCases(), associationCases(), governingCases(),
		wholeSpaceCases(), eventCases(), stateCases(), faultCases(),
	} {
		all = append(all, part...)
	}
	return all
}

// remembered is a case that remembers.
func remembered(name string, want error, m engram.Memory) contractCase {
	return contractCase{name: "remember " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
		return c.at().Remember(ctx, m, "")
	}}
}

func rememberCases() []contractCase {
	twice := func(second engram.Memory) func(context.Context, *contractRun) (any, error) {
		return func(ctx context.Context, c *contractRun) (any, error) {
			first, err := c.at().Remember(ctx, engram.Memory{Content: "once"}, "r")
			if err != nil {
				return nil, err
			}
			again, err := c.at().Remember(ctx, second, "r")
			return []engram.Receipt{first, again}, err
		}
	}
	batch := func(ms ...engram.Memory) func(context.Context, *contractRun) (any, error) {
		return func(ctx context.Context, c *contractRun) (any, error) { return c.at().RememberBatch(ctx, ms) }
	}
	return []contractCase{
		remembered("everything", nil, engram.Memory{
			ID: "née/ a?b#c%2f", Content: "Tea \u2028 <&> \x7f 𝄞\nsecond line", Time: time.Unix(-5, 999).UTC(), Episode: "e/1",
			Attributes: map[string]string{"who": "anna"}, Kind: engram.Semantic, Confidence: 0.1,
		}),
		remembered("attributes", nil, engram.Memory{ID: "a", Content: "x", Attributes: map[string]string{"a:b": "c:d", "ü": ""}}),
		remembered("without an id", nil, engram.Memory{Content: "x"}),
		remembered("over another", nil, engram.Memory{ID: "tea", Content: "Anna drinks black tea."}),
		remembered("an embedding", nil, engram.Memory{ID: "v", Embedding: []float32{0.1, -3e-9, 7}}),
		remembered("nothing", engram.ErrInvalid, engram.Memory{ID: "a"}),
		remembered("a control character", engram.ErrInvalid, engram.Memory{ID: "a\n", Content: "x"}),
		remembered("an odd kind", engram.ErrInvalid, engram.Memory{Content: "x", Kind: "odd"}),
		remembered("too little confidence", engram.ErrInvalid, engram.Memory{Content: "x", Confidence: -1}),
		remembered("another dimension", engram.ErrInvalid, engram.Memory{Embedding: []float32{1, 2}}),
		remembered("the zero vector", engram.ErrInvalid, engram.Memory{Embedding: []float32{0, 0, 0}}),
		remembered("a long id", engram.ErrLimit, engram.Memory{ID: strings.Repeat("x", engram.MaxIDBytes+1), Content: "x"}),
		remembered("long content", engram.ErrLimit, engram.Memory{Content: strings.Repeat("x", engram.MaxContentBytes+1)}),
		remembered("what belongs elsewhere", engram.ErrWrongSpace, engram.Memory{Content: "x", Space: "another"}),
		{name: "remember twice, once", do: twice(engram.Memory{Content: "once"})},
		{name: "remember something else again", want: engram.ErrRequestReused, do: twice(engram.Memory{Content: "other"})},
		{name: "batch", do: batch(engram.Memory{ID: "a", Content: "x"}, engram.Memory{Content: "y"})},
		{name: "batch with the same id twice", do: batch(engram.Memory{ID: "a", Content: "x"}, engram.Memory{ID: "a", Content: "y"})},
		{name: "batch with one that is not valid", want: engram.ErrInvalid, do: batch(engram.Memory{Content: "x"}, engram.Memory{})},
		{name: "batch of nothing", want: engram.ErrInvalid, do: batch([]engram.Memory{}...)},
		{name: "batch of too many", want: engram.ErrLimit, do: batch(make([]engram.Memory, engram.MaxBatch+1)...)},
		{name: "batch over the quota", want: engram.ErrQuota, do: batch(
			engram.Memory{Content: "4"}, engram.Memory{Content: "5"}, engram.Memory{Content: "6"},
		)},
		{name: "remember over the quota", want: engram.ErrQuota, do: func(ctx context.Context, c *contractRun) (any, error) {
			for range 2 {
				if _, err := c.at().Remember(ctx, engram.Memory{Content: "x"}, ""); err != nil {
					return nil, err
				}
			}
			return c.at().Remember(ctx, engram.Memory{Content: "x"}, "")
		}},
		elsewhere("remember", func(ctx context.Context, s partySpace) (any, error) {
			return s.Remember(ctx, engram.Memory{Content: "x"}, "")
		})[0],
		elsewhere("remember", func(ctx context.Context, s partySpace) (any, error) {
			return s.Remember(ctx, engram.Memory{Content: "x"}, "")
		})[1],
	}
}

// elsewhere are two cases: of a space that is not there, and of one that cannot be.
func elsewhere(name string, do func(context.Context, partySpace) (any, error)) []contractCase {
	return []contractCase{
		{name: name + " in no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return do(ctx, c.space("never-there"))
		}},
		{name: name + " in an odd space", want: engram.ErrInvalidSpaceID, do: func(ctx context.Context, c *contractRun) (any, error) {
			return do(ctx, c.space("../Alpha"))
		}},
	}
}

// collected returns what is yielded.
func collected[T any](all iter.Seq2[T, error]) ([]T, error) {
	var list []T
	for v, err := range all {
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func readCases() []contractCase {
	listed := func(name string, want error, f engram.Filter) contractCase {
		return contractCase{name: "list " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			return collected(c.at().Memories(ctx, f))
		}}
	}
	lookup := func(name string, want error, id string) contractCase {
		return contractCase{name: "look up " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.at().Lookup(ctx, id)
		}}
	}
	all := []contractCase{
		lookup("a memory", nil, "tea"),
		lookup("no memory", engram.ErrMemoryNotFound, "coffee"),
		lookup("a long id", engram.ErrLimit, strings.Repeat("x", engram.MaxIDBytes+1)),
		listed("everything", nil, engram.Filter{}),
		listed("an episode", nil, engram.Filter{Episode: "kitchen"}),
		listed("an attribute", nil, engram.Filter{Attributes: map[string]string{"who": "anna"}}),
		listed("a kind", nil, engram.Filter{Kind: engram.Semantic}),
		listed("a time", nil, engram.Filter{After: time.Unix(1, 2), Before: time.Unix(1, 3)}),
		listed("an odd kind", engram.ErrInvalid, engram.Filter{Kind: "odd"}),
		listed("a time that cannot be", nil, engram.Filter{After: time.Unix(2, 0), Before: time.Unix(1, 0)}),
		{name: "list when nobody waits", want: context.Canceled, do: func(ctx context.Context, c *contractRun) (any, error) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return collected(c.at().Memories(ctx, engram.Filter{}))
		}},
	}
	all = append(all, elsewhere("look up", func(ctx context.Context, s partySpace) (any, error) { return s.Lookup(ctx, "tea") })...)
	return append(all, elsewhere("list", func(ctx context.Context, s partySpace) (any, error) {
		return collected(s.Memories(ctx, engram.Filter{}))
	})...)
}

func recallCases() []contractCase {
	recall := func(name string, want error, cue engram.Cue) contractCase {
		return contractCase{name: "recall by " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.at().Recall(ctx, cue)
		}}
	}
	all := []contractCase{
		recall("text", nil, engram.Cue{Text: "which tea?"}),
		recall("text that nothing has", nil, engram.Cue{Text: "zebra"}),
		recall("embedding", nil, engram.Cue{Embedding: []float32{1, 0, 0.5}}),
		recall("text and embedding", nil, engram.Cue{Text: "tea", Embedding: []float32{1, 0, 0.5}, Limit: 1}),
		recall("ids", nil, engram.Cue{IDs: []string{"tea"}}),
		recall("ids that are not there", nil, engram.Cue{IDs: []string{"coffee"}}),
		recall("filter", nil, engram.Cue{Filter: engram.Filter{Episode: "kitchen"}}),
		recall("text and filter", nil, engram.Cue{Text: "tea", Filter: engram.Filter{Attributes: map[string]string{"who": "anna"}}, Limit: 5}),
		recall("nothing", nil, engram.Cue{}),
		recall("least activation", nil, engram.Cue{Text: "tea", MinActivation: 0.3}),
		recall("too little activation", engram.ErrInvalid, engram.Cue{Text: "tea", MinActivation: 2}),
		recall("another dimension", engram.ErrInvalid, engram.Cue{Embedding: []float32{1}}),
		recall("an odd kind", engram.ErrInvalid, engram.Cue{Text: "tea", Filter: engram.Filter{Kind: "odd"}}),
		recall("less than nothing", engram.ErrInvalid, engram.Cue{Text: "tea", Limit: -1}),
		recall("too many", engram.ErrLimit, engram.Cue{Text: "tea", Limit: 1001}),
		recall("too long a text", engram.ErrLimit, engram.Cue{Text: strings.Repeat("tea ", 20_000)}),
	}
	return append(all, elsewhere("recall", func(ctx context.Context, s partySpace) (any, error) {
		return s.Recall(ctx, engram.Cue{Text: "tea"})
	})...)
}

func forgetCases() []contractCase {
	forget := func(name string, want error, ids ...string) contractCase {
		return contractCase{name: "forget " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			receipt, err := c.at().Forget(ctx, ids)
			return receipt.Forgotten, err // a write that has an id is an operation, also where nothing is forgotten
		}}
	}
	where := func(name string, want error, f engram.Filter) contractCase {
		return contractCase{name: "forget where " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			receipt, err := c.at().ForgetWhere(ctx, f, false)
			return receipt.Forgotten, err
		}}
	}
	all := []contractCase{
		forget("some", nil, "tea", "coffee", "rain"),
		forget("what is not there", nil, "coffee"),
		forget("nothing", engram.ErrInvalid),
		forget("an empty id", engram.ErrInvalid, ""),
		forget("too many", engram.ErrLimit, make([]string, engram.MaxForgetIDs+1)...),
		where("in an episode", nil, engram.Filter{Episode: "kitchen"}),
		where("nothing is", nil, engram.Filter{Episode: "cellar"}),
		where("no filter", engram.ErrInvalid, engram.Filter{}),
	}
	return append(all, elsewhere("forget", func(ctx context.Context, s partySpace) (any, error) {
		return s.Forget(ctx, []string{"tea"})
	})...)
}

func associationCases() []contractCase {
	associate := func(name string, want error, a engram.Association) contractCase {
		return contractCase{name: "associate " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			receipt, err := c.at().Associate(ctx, a)
			return receipt.Seq, err
		}}
	}
	dissociate := func(name string, a engram.Association) contractCase {
		return contractCase{name: "dissociate " + name, do: func(ctx context.Context, c *contractRun) (any, error) {
			_, err := c.at().Dissociate(ctx, a)
			return nil, err
		}}
	}
	all := []contractCase{
		associate("two", nil, engram.Association{From: "cake", To: "tea", Weight: 0.25}),
		associate("again", nil, engram.Association{From: "tea", To: "cake", Kind: "goes-with", Weight: 1}),
		associate("with what is not there", engram.ErrMemoryNotFound, engram.Association{From: "tea", To: "coffee", Weight: 1}),
		associate("with itself", engram.ErrInvalid, engram.Association{From: "tea", To: "tea", Weight: 1}),
		associate("too strongly", engram.ErrInvalid, engram.Association{From: "tea", To: "cake", Weight: 1.5}),
		dissociate("two", engram.Association{From: "tea", To: "cake", Kind: "goes-with"}),
		dissociate("what was not", engram.Association{From: "rain", To: "cake"}),
		{name: "associations", do: func(ctx context.Context, c *contractRun) (any, error) { return c.at().Associations(ctx, "tea") }},
		{name: "associations of what has none", do: func(ctx context.Context, c *contractRun) (any, error) {
			list, err := c.at().Associations(ctx, "rain")
			return len(list), err
		}},
		{name: "associations on several pages", do: func(ctx context.Context, c *contractRun) (any, error) {
			if _, err := c.Import(ctx, c.own+"-b", strings.NewReader(starOf(maxPageAssociations+1))); err != nil {
				return nil, err
			}
			return c.space(c.own+"-b").Associations(ctx, "hub")
		}},
		{name: "associations of no memory", want: engram.ErrMemoryNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.at().Associations(ctx, "coffee")
		}},
	}
	return append(all, elsewhere("associate", func(ctx context.Context, s partySpace) (any, error) {
		return s.Associate(ctx, engram.Association{From: "tea", To: "cake", Weight: 1})
	})...)
}

// governingCases are about spaces as such.
func governingCases() []contractCase {
	other := func(c *contractRun) engram.SpaceID { return c.own + "-b" }
	configure := func(name string, want error, change func(*engram.SpaceConfig)) contractCase {
		return contractCase{name: "configure " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			receipt, err := c.at().Configure(ctx, change)
			return receipt.Seq, err
		}}
	}
	return []contractCase{
		{name: "create", do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Create(ctx, other(c), engram.SpaceConfig{MaxMemories: 7, AutoAssociate: 2})
		}},
		{name: "create what is there", want: engram.ErrSpaceExists, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Create(ctx, c.own, engram.SpaceConfig{})
		}},
		{name: "create what cannot be", want: engram.ErrInvalidSpaceID, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Create(ctx, "con", engram.SpaceConfig{})
		}},
		{name: "create the nameless", want: engram.ErrInvalidSpaceID, do: func(ctx context.Context, c *contractRun) (any, error) { return c.Create(ctx, "", engram.SpaceConfig{}) }},
		{name: "create with an odd configuration", want: engram.ErrInvalid, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Create(ctx, other(c), engram.SpaceConfig{MaxMemories: -1})
		}},
		{name: "describe", do: func(ctx context.Context, c *contractRun) (any, error) { return c.Info(ctx, c.own) }},
		{name: "describe no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Info(ctx, "never-there")
		}},
		{name: "describe what is nearly there", want: engram.ErrSpaceNotFound, prepare: twoSpaces, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Info(ctx, "alpah")
		}},
		{name: "rename", do: func(ctx context.Context, c *contractRun) (any, error) {
			if err := c.Rename(ctx, c.own, other(c)); err != nil {
				return nil, err
			}
			return c.Info(ctx, other(c))
		}},
		{name: "rename to what is there", want: engram.ErrSpaceExists, do: func(ctx context.Context, c *contractRun) (any, error) {
			if _, err := c.registry.Create(ctx, other(c), engram.SpaceConfig{}); err != nil {
				return nil, err
			}
			return nil, c.Rename(ctx, c.own, other(c))
		}},
		{name: "rename no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return nil, c.Rename(ctx, "never-there", other(c))
		}},
		{name: "delete", do: func(ctx context.Context, c *contractRun) (any, error) { return nil, c.Delete(ctx, c.own) }},
		{name: "delete no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return nil, c.Delete(ctx, "never-there")
		}},
		configure("another quota", nil, func(config *engram.SpaceConfig) { config.MaxBytes = 1 << 20 }),
		configure("what is not valid", engram.ErrInvalid, func(config *engram.SpaceConfig) { config.TextB = 7 }),
		{name: "configure what has changed", want: engram.ErrConflict, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.at().Configure(ctx, func(config *engram.SpaceConfig) {
				config.MaxMemories = 9
				space, err := c.registry.Get(ctx, c.own)
				if err == nil {
					_, err = space.Remember(ctx, engram.Memory{ID: "between", Content: "x"})
				}
				if err != nil {
					panic(err)
				}
			})
		}},
		{name: "list spaces", prepare: twoSpaces, do: func(ctx context.Context, c *contractRun) (any, error) {
			all, err := collected(c.Spaces(ctx, ""))
			if err != nil {
				return nil, err
			}
			rest, err := collected(c.Spaces(ctx, "alpha"))
			return [][]engram.SpaceID{all, rest}, err
		}},
	}
}

// wholeSpaceCases read or write all of a space.
func wholeSpaceCases() []contractCase {
	const header = `{"format":"engram-export","version":1,"config":{}}` + "\n"
	bring := func(name string, want error, text string) contractCase {
		return contractCase{name: "import " + name, want: want, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Import(ctx, c.own+"-b", strings.NewReader(text))
		}}
	}
	return []contractCase{
		{name: "export", do: func(ctx context.Context, c *contractRun) (any, error) {
			var text strings.Builder
			seq, err := c.at().Export(ctx, &text)
			return []any{seq, text.String()}, err
		}},
		{name: "export no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.space("never-there").Export(ctx, io.Discard)
		}},
		bring("some memories", nil, header+`{"id":"a","content":"x"}`+"\n"),
		bring("of another version", engram.ErrVersion, strings.Replace(header, "1", "2", 1)),
		bring("of another format", engram.ErrInvalid, `{"format":"x"}`+"\n"),
		bring("the same id twice", engram.ErrInvalid, header+`{"id":"a","content":"x"}`+"\n"+`{"id":"a","content":"y"}`+"\n"),
		bring("the same field twice", engram.ErrInvalid, header+`{"id":"a","content":"x","content":"y"}`+"\n"),
		bring("too long a memory", engram.ErrLimit, header+`{"content":"`+strings.Repeat("x", engram.MaxContentBytes+1)+`"}`+"\n"),
		{name: "import over a space", want: engram.ErrSpaceExists, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.Import(ctx, c.own, strings.NewReader(header))
		}},
		{name: "figures", do: func(ctx context.Context, c *contractRun) (any, error) {
			stats, err := c.at().Stats(ctx)
			return stats.Content, err
		}},
		{name: "figures of no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.space("never-there").Stats(ctx)
		}},
		{name: "checkpoint and verify", do: func(ctx context.Context, c *contractRun) (any, error) {
			if err := c.at().Checkpoint(ctx); err != nil {
				return nil, err
			}
			return c.at().Verify(ctx)
		}},
		{name: "settle", do: func(ctx context.Context, c *contractRun) (any, error) { return nil, c.Settle(ctx) }},
	}
}

// firstEvents returns the first n events behind a seq.
func firstEvents(ctx context.Context, s partySpace, after uint64, n int, each func(engram.Event)) ([]engram.Event, error) {
	var got []engram.Event
	for e, err := range s.Subscribe(ctx, after) {
		if err != nil {
			return got, err
		}
		each(e)
		if got = append(got, e); len(got) == n {
			break
		}
	}
	return got, nil
}

func eventCases() []contractCase {
	nothing := func(engram.Event) {}
	return []contractCase{
		{name: "events", do: func(ctx context.Context, c *contractRun) (any, error) {
			return firstEvents(ctx, c.at(), 0, 5, nothing)
		}},
		{name: "events, resumed and live", do: func(ctx context.Context, c *contractRun) (any, error) {
			return firstEvents(ctx, c.at(), 3, 3, func(e engram.Event) {
				if e.Seq != 5 {
					return // the last of those that are there
				}
				space, err := c.registry.Get(ctx, c.own)
				if err == nil {
					_, err = space.Remember(ctx, engram.Memory{ID: "live", Content: "x"})
				}
				if err != nil {
					panic(err)
				}
			})
		}},
		{name: "events behind the last", want: engram.ErrInvalid, do: func(ctx context.Context, c *contractRun) (any, error) {
			return firstEvents(ctx, c.at(), 99, 1, nothing)
		}},
		{name: "events of no space", want: engram.ErrSpaceNotFound, do: func(ctx context.Context, c *contractRun) (any, error) {
			return firstEvents(ctx, c.space("never-there"), 0, 1, nothing)
		}},
		{name: "events of a space that goes", want: engram.ErrSpaceDeleted, do: func(ctx context.Context, c *contractRun) (any, error) {
			return firstEvents(ctx, c.at(), 4, 2, func(engram.Event) {
				if err := c.registry.Delete(ctx, c.own); err != nil {
					panic(err)
				}
			})
		}},
		{name: "events that are trimmed", want: engram.ErrTrimmed, do: func(ctx context.Context, c *contractRun) (any, error) {
			space, err := c.registry.Get(ctx, c.own)
			if err == nil {
				_, err = space.Remember(ctx, engram.Memory{ID: "long", Content: strings.Repeat("x", engram.MaxContentBytes)})
			}
			if err == nil {
				_, err = space.Forget(ctx, []string{"long"})
			}
			if err == nil {
				err = space.Checkpoint(ctx)
			}
			if err != nil {
				panic(err)
			}
			return firstEvents(ctx, c.at(), 0, 1, nothing)
		}},
	}
}

// twoSpaces fills a directory with alpha and beta.
func twoSpaces(t *testing.T, dir string) engram.Options {
	t.Helper()
	registry, err := engram.Open(dir, engram.Options{Clock: stoppedClock{}})
	require.NoError(t, err)
	seedContract(t, registry, "alpha")
	seedContract(t, registry, "beta")
	require.NoError(t, registry.Close())
	return engram.Options{}
}

// segmentsOf returns the files of a space's log.
func segmentsOf(t *testing.T, dir string, id string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".wal" && strings.Contains(path, string(filepath.Separator)+id+string(filepath.Separator)) {
			found = append(found, path)
		}
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

// stateCases are what a request meets that comes at a bad time.
func stateCases() []contractCase {
	recall := func(ctx context.Context, c *contractRun) (any, error) {
		return c.at().Recall(ctx, engram.Cue{Text: "tea"})
	}
	remember := func(ctx context.Context, c *contractRun) (any, error) {
		return c.at().Remember(ctx, engram.Memory{Content: "x"}, "")
	}
	damaged := func(t *testing.T, dir string) engram.Options {
		options := twoSpaces(t, dir)
		name := segmentsOf(t, dir, "alpha")[0]
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		content[len(content)-20] ^= 1
		require.NoError(t, os.WriteFile(name, content, 0o600))
		return options
	}
	foreign := func(t *testing.T, dir string) engram.Options {
		options := twoSpaces(t, dir)
		content, err := os.ReadFile(segmentsOf(t, dir, "beta")[0])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(segmentsOf(t, dir, "alpha")[0], content, 0o600))
		return options
	}
	readOnly := func(t *testing.T, dir string) engram.Options {
		options := twoSpaces(t, dir)
		options.ReadOnly = true
		return options
	}
	return []contractCase{
		{name: "remember in a damaged space", want: engram.ErrCorrupt, prepare: damaged, do: remember},
		{name: "recall in a damaged space", want: engram.ErrCorrupt, prepare: damaged, do: recall},
		{name: "remember beside a damaged space", prepare: damaged, do: func(ctx context.Context, c *contractRun) (any, error) {
			return c.space("beta").Remember(ctx, engram.Memory{Content: "x"}, "")
		}},
		{name: "remember in a foreign space", want: engram.ErrForeign, prepare: foreign, do: remember},
		{name: "remember read-only", want: engram.ErrReadOnly, prepare: readOnly, do: remember},
		{name: "recall read-only", prepare: readOnly, do: recall},
		{name: "recall with another embedder", want: engram.ErrEmbedderMismatch, prepare: anotherEmbedder, do: recall},
		{name: "recall when all is over", want: engram.ErrClosed, prepare: twoSpaces, do: func(ctx context.Context, c *contractRun) (any, error) {
			if err := c.registry.Close(); err != nil {
				panic(err)
			}
			return recall(ctx, c)
		}},
	}
}

// starOf returns an export of so many memories that all have an association to another
// one, the hub.
func starOf(n int) string {
	var memories, associations strings.Builder
	for i := range n {
		fmt.Fprintf(&memories, `{"id":"m%04d","content":"x"}`+"\n", i)
		fmt.Fprintf(&associations, `{"association":{"from":"m%04d","to":"hub","weight":1}}`+"\n", i)
	}
	return `{"format":"engram-export","version":1}` + "\n" + `{"id":"hub","content":"x"}` + "\n" + memories.String() + associations.String()
}

// namedEmbedder makes the same vector of everything.
type namedEmbedder string

func (e namedEmbedder) ID() string { return string(e) }

func (namedEmbedder) Dimension() int { return 3 }

func (namedEmbedder) EmbedDocuments(_ context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i := range vectors {
		vectors[i] = []float32{1, 2, 3}
	}
	return vectors, nil
}

func (namedEmbedder) EmbedQuery(context.Context, string) ([]float32, error) {
	return []float32{1, 2, 3}, nil
}

// anotherEmbedder fills a directory by one embedder, and opens it with another.
func anotherEmbedder(t *testing.T, dir string) engram.Options {
	t.Helper()
	registry, err := engram.Open(dir, engram.Options{Clock: stoppedClock{}, Embedder: namedEmbedder("one")})
	require.NoError(t, err)
	space, err := registry.Create(t.Context(), "alpha", engram.SpaceConfig{})
	require.NoError(t, err)
	rememberEmbedded(t, space)
	require.NoError(t, registry.Close())
	return engram.Options{Embedder: namedEmbedder("two")}
}

// rememberEmbedded stores a memory and waits until its embedder has answered.
func rememberEmbedded(t *testing.T, space *engram.Space) {
	t.Helper()
	_, err := space.Remember(t.Context(), engram.Memory{Content: "tea"})
	require.NoError(t, err)
	for event, err := range space.Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		if event.Kind == engram.Embedded {
			break
		}
	}
}

// faultCases are the errors that no request brings about.
func faultCases() []contractCase {
	recall := func(name string, want, fault error) contractCase {
		return contractCase{
			name: "recall with " + name, want: want, fault: fmt.Errorf("recall: %w", fault),
			do: func(ctx context.Context, c *contractRun) (any, error) {
				return c.at().Recall(ctx, engram.Cue{Text: "tea"})
			},
		}
	}
	return []contractCase{
		recall("a full queue", engram.ErrBusy, engram.ErrBusy),
		recall("a full disk", engram.ErrDiskFull, engram.ErrDiskFull),
		recall("a device that fails", engram.ErrUnknownOutcome, engram.ErrUnknownOutcome),
		recall("a device that has failed", engram.ErrStopped, engram.ErrStopped),
		recall("a directory that another process holds", engram.ErrLocked, &engram.LockedError{Dir: "canary", PID: 7}),
		recall("a registry whose events were missed", engram.ErrLagged, engram.ErrLagged),
		recall("no time left", context.DeadlineExceeded, context.DeadlineExceeded),
		recall("nobody who waits", context.Canceled, context.Canceled),
	}
}
