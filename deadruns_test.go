package engram

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever runs of dead documents a reader remembers, and in whatever order it came
// across them, each memory has the neighbours that a list of the living gives it.
func TestNeighboursBesideTheDead(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 2))
		s, _ := newTestSpace(t, Options{})
		batch := make([]Memory, 900)
		for i := range batch {
			batch[i] = Memory{ID: fmt.Sprint("m", i), Content: "tea", Time: unixTime(int64(i)), Episode: fmt.Sprint("e", i%3*random.IntN(2))}
		}
		remember(t, s, batch...)
		require.NoError(t, s.Checkpoint(background))
		for range 1 + random.IntN(4) {
			from := random.IntN(len(batch))
			forgotten := idsOf(batch[from:min(from+1+random.IntN(500), len(batch))])
			forget(t, s, forgotten...)
		}
		for i := range 20 {
			at := random.IntN(len(batch))
			remember(t, s, Memory{ID: fmt.Sprint("r", i), Content: "tea", Time: unixTime(int64(at)), Episode: fmt.Sprint("e", at%3)})
		}
		v, runs := viewOf(t, s), deadRuns{}
		living := v.living()
		random.Shuffle(len(living), func(i, j int) { living[i], living[j] = living[j], living[i] })
		for _, d := range living {
			members := v.members(nil, v.episodeOf(d))
			place := slices.Index(members, d)
			for i, n := range v.neighbours(d, &runs) {
				want := uint32(noDocument)
				if at := place + []int{-2, -1, 1, 2}[i]; at >= 0 && at < len(members) {
					want = members[at]
				}
				require.Equal(t, want, n, "seed %d, document %d, neighbour %d", seed, d, i)
			}
		}
		for i, r := range runs {
			require.GreaterOrEqual(t, r.to-r.from, uint32(minDeadRun))
			require.True(t, i == 0 || runs[i-1].to < r.from, "%v", runs)
		}
	}
}

// The dead of an episode are gone through once, however many memories a cue names in
// it, and however many activation reaches.
func TestTheDeadAreGoneThroughOnce(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	batch := make([]Memory, 300)
	for i := range batch {
		batch[i] = Memory{ID: fmt.Sprint("m", i), Content: "tea", Time: unixTime(int64(i)), Episode: "talk"}
	}
	remember(t, s, batch...)
	require.NoError(t, s.Checkpoint(background))
	forget(t, s, idsOf(batch[:200])...)
	remember(t, s, Memory{ID: "a", Content: "tea", Time: unixTime(100), Episode: "talk"}, Memory{ID: "b", Content: "tea", Time: unixTime(110), Episode: "talk"})
	associate(t, s, "m299", "a", "", 1)
	associate(t, s, "m299", "b", "", 1)
	r := s.awake.Load().read()
	defer r.close()
	q := &recalling{reader: r, scratch: new(scratch), cue: &Cue{IDs: []string{"a", "b"}}, matcher: r.view.matcher(new(Filter))}
	q.fit(r.view)
	q.recallIDs()
	require.Equal(t, deadRuns{{0, 200}}, q.dead)
	d, _ := r.view.lookup("m299")
	spreading, err := r.view.spread(background, []seed{{d, 1}}, Spread{}.withDefaults())
	require.NoError(t, err)
	require.Equal(t, deadRuns{{0, 200}}, spreading.dead)
	// What is remembered as dead is not looked at.
	q.dead = deadRuns{{0, 250}}
	d, _ = r.view.lookup("b")
	require.Equal(t, r.view.id(250), r.view.id(r.view.neighbours(d, &q.dead)[2]))
}
