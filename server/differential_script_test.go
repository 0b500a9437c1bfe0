package server

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// The conversations of the fixtures are made up: two people tell each other over
// several sessions what they do, and are asked about it afterwards.

var (
	speakers = []string{"Ines", "Tobias"}
	told     = []string{
		"I started %s in %s, mostly because of %s.",
		"Guess what, %[3]s and I went to %[2]s for %[1]s.",
		"My %s class moved to %s. %s was not happy about it.",
		"Do you remember %[3]s? We talked about %[1]s all the way to %[2]s.",
		"After %s in %s I finally called %s back.",
	}
	doings   = []string{"pottery", "night swimming", "beekeeping", "choir practice", "bookbinding", "fencing", "bread baking", "stargazing"}
	places   = []string{"Aberfeldy", "the old mill", "Ljubljana", "the harbour hall", "Oulu", "her garden shed"}
	friends  = []string{"Marguerite", "my cousin Bo", "the neighbour with the parrot", "Doctor Osei", "Yusuf"}
	askings  = []string{"What did %[1]s do in %[2]s?", "Who was with %[1]s when it came to %[3]s?", "Where is the %[3]s of %[1]s?", "Why did %[1]s go to %[2]s?"}
	dialogue = 4 // sessions
)

// differentialScript makes the operations of a fixture.
func differentialScript(name string) []differentialStep {
	x := &conversation{random: rand.New(rand.NewPCG(uint64(len(name)), 7)), vectors: name == "vectors"}
	for session := range dialogue {
		x.session(session)
		x.ask()
	}
	x.change()
	x.ask()
	return x.steps
}

// conversation makes up what is said.
type conversation struct {
	random  *rand.Rand
	vectors bool
	said    int
	steps   []differentialStep
}

func (x *conversation) add(step differentialStep) { x.steps = append(x.steps, step) }

func (x *conversation) session(number int) {
	episode := fmt.Sprintf("session-%d", number+1)
	for range 2 {
		var turns []engram.Memory
		for range 2 + x.random.IntN(3) {
			speaker := speakers[x.said%len(speakers)]
			m := engram.Memory{
				ID:      fmt.Sprintf("d%d-%d", number+1, x.said),
				Content: speaker + ": " + fmt.Sprintf(one(x.random, told), one(x.random, doings), one(x.random, places), one(x.random, friends)),
				Time:    time.Date(2026, 2, 1+7*number, 18, x.said%60, 0, 0, time.UTC), Episode: episode,
				Attributes: map[string]string{"speaker": strings.ToLower(speaker)},
			}
			if x.vectors {
				m.Embedding = x.vector()
			}
			turns = append(turns, m)
			x.said++
		}
		x.add(differentialStep{Remember: turns})
	}
}

func (x *conversation) vector() []float32 {
	v := make([]float32, 8)
	for i := range v {
		v[i] = float32(x.random.IntN(33)-16) / 16
	}
	v[0] += 2
	return v
}

// ask recalls, mostly, what may have been said.
func (x *conversation) ask() {
	for range 2 {
		cue := engram.Cue{
			Text:  fmt.Sprintf(one(x.random, askings), one(x.random, speakers), one(x.random, places), one(x.random, doings)),
			Limit: 2,
		}
		if x.vectors {
			cue.Embedding = x.vector()
		}
		if x.random.IntN(3) == 0 {
			cue.Filter.Attributes = map[string]string{"speaker": strings.ToLower(one(x.random, speakers))}
		}
		x.add(differentialStep{Recall: &cue})
	}
	id := x.id()
	x.add(differentialStep{Recall: &engram.Cue{IDs: []string{id}, Limit: 2}})
	x.add(differentialStep{Lookup: id})
	x.add(differentialStep{From: id})
	x.add(differentialStep{Lookup: "never-said"})
}

// id of something that was said.
func (x *conversation) id() string {
	for {
		step := x.steps[x.random.IntN(len(x.steps))]
		if len(step.Remember) > 0 {
			return one(x.random, step.Remember).ID
		}
	}
}

// change forgets, replaces and associates, and reads what became of it.
func (x *conversation) change() {
	from, to := x.id(), x.id()
	for from == to {
		to = x.id()
	}
	x.add(differentialStep{Associate: &engram.Association{From: from, To: to, Kind: "reminds", Weight: 0.5}})
	x.add(differentialStep{Associate: &engram.Association{From: from, To: "never-said", Weight: 0.5}})
	x.add(differentialStep{Remember: []engram.Memory{{ID: to, Content: "Ines: Forget what I said about the harbour hall."}}})
	x.add(differentialStep{Forget: []string{x.id(), "never-said"}})
	x.add(differentialStep{List: &engram.Filter{Episode: "session-2"}})
	x.add(differentialStep{List: &engram.Filter{After: time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC)}})
	after := uint64(len(x.steps) / 2)
	x.add(differentialStep{Events: &after})
}

func one[T any](random *rand.Rand, values []T) T { return values[random.IntN(len(values))] }
