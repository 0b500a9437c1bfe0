package engram

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// isolationScenario is what one space does; word is in all that it remembers.
type isolationScenario struct {
	name  string
	steps func(word string) []func(s *Space) string
}

// isolationScenarios are what a space is for, one by one.
var isolationScenarios = []isolationScenario{
	{"recall", func(word string) []func(s *Space) string {
		return []func(s *Space) string{
			rememberStep(Memory{ID: "seat", Content: "a window seat " + word}, Memory{ID: "train", Content: "the train is late " + word}),
			rememberStep(Memory{ID: "v", Content: "a vector " + word, Embedding: []float32{1, float32(len(word)), 3}}),
			recallStep(Cue{Text: "seat"}), recallStep(Cue{Text: word}), recallStep(Cue{Embedding: []float32{1, 2, 3}}),
			recallStep(Cue{}), recallStep(Cue{Text: "alpine"}), recallStep(Cue{Text: "bayou"}),
		}
	}},
	{"spreading", func(word string) []func(s *Space) string {
		return []func(s *Space) string{
			rememberStep(Memory{ID: "a", Content: "harbour " + word}, Memory{ID: "b", Content: "lamp " + word}, Memory{ID: "c", Content: "song " + word}),
			associateStep(Association{From: "a", To: "b", Weight: 0.9}), associateStep(Association{From: "b", To: "c", Weight: 1 / float64(len(word))}),
			recallStep(Cue{Text: "harbour"}), recallStep(Cue{IDs: []string{"b"}}), recallStep(Cue{Text: "harbour", Spread: Spread{Off: true}}),
		}
	}},
	{"contiguity", func(word string) []func(s *Space) string {
		var ms []Memory
		for i, content := range []string{"first", "second", "the piano is tuned", "fourth", "fifth"} {
			ms = append(ms, Memory{ID: content, Content: content + " " + word, Episode: "morning", Time: goldenTime(i)})
		}
		return []func(s *Space) string{rememberStep(ms...), recallStep(Cue{Text: "piano"}), recallStep(Cue{Text: "piano", Filter: Filter{Episode: "morning"}})}
	}},
	{"association", func(word string) []func(s *Space) string {
		associations := func(s *Space) string { return shown(s.Associations(background, "a")) }
		return []func(s *Space) string{
			rememberStep(Memory{ID: "a", Content: "one " + word}, Memory{ID: "b", Content: "two " + word}),
			associateStep(Association{From: "a", To: "b", Kind: word, Weight: 0.5}), associations,
			associateStep(Association{From: "a", To: "nowhere", Weight: 0.5}),
			func(s *Space) string {
				return shown(s.Dissociate(background, Association{From: "a", To: "b", Kind: word}))
			}, associations,
		}
	}},
	{"forgetting", func(word string) []func(s *Space) string {
		forget := func(ids ...string) func(s *Space) string {
			return func(s *Space) string { return shown(s.Forget(background, ids)) }
		}
		return []func(s *Space) string{
			rememberStep(Memory{ID: "a", Content: "kept " + word}, Memory{ID: "b", Content: "gone " + word, Attributes: map[string]string{"who": word}}),
			forget("b"), recallStep(Cue{Text: "gone"}), lookupStep("a"), lookupStep("b"), forget("b", "c"),
			func(s *Space) string {
				return shown(s.ForgetWhere(background, Filter{Attributes: map[string]string{"who": word}}))
			},
			func(s *Space) string { return shown(nil, s.Checkpoint(background)) }, lookupStep("a"), recallStep(Cue{}),
		}
	}},
	{"replacing", func(word string) []func(s *Space) string {
		return []func(s *Space) string{
			rememberStep(Memory{ID: "a", Content: "before " + word}), lookupStep("a"),
			rememberStep(Memory{ID: "a", Content: "after " + word}), lookupStep("a"), recallStep(Cue{Text: "before"}), recallStep(Cue{Text: "after"}),
		}
	}},
	{"subscriptions", func(word string) []func(s *Space) string {
		events := func(after uint64) func(s *Space) string {
			return func(s *Space) string {
				var all []Event
				for e, err := range s.Subscribe(&noWait{Context: background}, after) {
					if err != nil {
						return shown(all, err)
					}
					all = append(all, e)
				}
				return shown(all, nil)
			}
		}
		return []func(s *Space) string{
			events(0), rememberStep(Memory{ID: "a", Content: word}), events(1), rememberStep(Memory{ID: "a", Content: "again " + word}),
			events(0), events(2), events(3), events(4),
		}
	}},
}

func rememberStep(ms ...Memory) func(s *Space) string {
	return func(s *Space) string { return shown(s.RememberBatch(background, ms)) }
}

func recallStep(cue Cue) func(s *Space) string {
	return func(s *Space) string { return shown(s.Recall(background, cue)) }
}

func lookupStep(id string) func(s *Space) string {
	return func(s *Space) string { return shown(s.Lookup(background, id)) }
}

func associateStep(a Association) func(s *Space) string {
	return func(s *Space) string { return shown(s.Associate(background, a)) }
}

// Each thing that a space does it does in alpha as if beta were not there, while
// beta does the same with the same ids and other content.
func TestScenariosAcrossSpaces(t *testing.T) {
	noon := fixedClock(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC))
	const alphas, betas = "alpine", "bayou"
	do := func(s *Space, steps []func(s *Space) string) (answers []string) {
		for _, step := range steps {
			answers = append(answers, step(s))
		}
		return answers
	}
	for _, scenario := range isolationScenarios {
		t.Run(scenario.name, func(t *testing.T) {
			r, _ := newRegistry(t, Options{Clock: noon})
			alone := do(create(t, r, "alpha"), scenario.steps(alphas))

			r, _ = newRegistry(t, Options{Clock: noon})
			alpha, beta := create(t, r, "alpha"), create(t, r, "beta")
			var inAlpha, inBeta []string
			theirs := scenario.steps(betas)
			for i, step := range scenario.steps(alphas) {
				inBeta = append(inBeta, theirs[i](beta))
				inAlpha = append(inAlpha, step(alpha))
			}
			require.Equal(t, alone, inAlpha)
			require.NotEqual(t, alone, inBeta)
			if scenario.name != "recall" { // which asks for the other's word
				for i := range inAlpha {
					require.NotContains(t, inAlpha[i], betas)
					require.NotContains(t, inBeta[i], alphas)
				}
			}

			r, _ = newRegistry(t, Options{Clock: noon})
			alpha, beta = create(t, r, "alpha"), create(t, r, "beta")
			var work sync.WaitGroup
			work.Go(func() { inAlpha = do(alpha, scenario.steps(alphas)) })
			work.Go(func() { inBeta = do(beta, scenario.steps(betas)) })
			work.Wait()
			require.Equal(t, alone, inAlpha)
		})
	}
}
