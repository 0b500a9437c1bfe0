package engram

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// How much is damaged: a sample in an ordinary test run, half a million cases
// with ENGRAM_DAMAGE=full (make damage), and every byte of every file in every
// way, each judged at length, with ENGRAM_DAMAGE=nightly.

func damageFull() bool { return os.Getenv("ENGRAM_DAMAGE") != "" }

func damageNightly() bool { return os.Getenv("ENGRAM_DAMAGE") == "nightly" }

// damageStep is the distance of the samples where it usually is n.
func damageStep(n int) int {
	switch {
	case damageNightly():
		return 1
	case damageFull():
		return max(n/4, 1)
	case testing.Short():
		return 16 * n
	}
	return n
}

// outcome is what came of one case of damage.
type outcome string

const (
	unnoticed outcome = "every answer right" // there is another copy, or nothing was said there
	ofSpace   outcome = "space is damaged"   // each answer right, or an error that says so
	ofForeign outcome = "file is foreign"    // and so names the file
	ofVersion outcome = "version is unknown"
	ofAll     outcome = "registry is damaged" // it does not open, and says why
	older     outcome = "an older state"      // as a whole: what nobody can tell
	wrong     outcome = "WRONG ANSWER"
	lost      outcome = "SILENT LOSS"
)

// tally counts the cases of a test. It is used by its parallel subtests.
type tally struct {
	mu       sync.Mutex // guards the maps
	kinds    map[string]int
	outcomes map[outcome]int
}

func newTally() *tally {
	return &tally{kinds: make(map[string]int), outcomes: make(map[outcome]int)}
}

func (c *tally) add(kind string, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds[kind]++
	c.outcomes[o]++
}

// report logs what was counted, as make damage prints it, and requires that no
// answer was wrong and nothing was lost in silence.
func (c *tally) report(t *testing.T) {
	t.Helper()
	cases := 0
	for _, n := range c.outcomes {
		cases += n
	}
	t.Logf("damage: %d cases, wrong answers %d, silent losses %d", cases, c.outcomes[wrong], c.outcomes[lost])
	for _, kind := range slices.Sorted(maps.Keys(c.kinds)) {
		t.Logf("damage:   %7d %s", c.kinds[kind], kind)
	}
	for _, o := range slices.Sorted(maps.Keys(c.outcomes)) {
		t.Logf("damage:   %7d %s", c.outcomes[o], o)
	}
	require.Zero(t, c.outcomes[wrong])
	require.Zero(t, c.outcomes[lost])
}

// kindOf says what sort of file it is.
func (s *storedRegistry) kindOf(file string) string {
	base := path.Base(file)
	switch {
	case base == spaceFile, base == headName:
		return base
	case strings.HasPrefix(base, checkpointPrefix):
		return "checkpoint"
	case strings.HasSuffix(base, walSuffix):
		if h, err := decodeSegmentHeader(s.fs.files(".")[file]); err == nil && h.kind == kindBodies {
			return "segment of bodies"
		}
		return "segment of the log"
	}
	return "journal file"
}

// held is how answers compare with those that were expected.
type held struct {
	damage error    // the first error that says that the space is damaged
	wrong  []string // answers that are not the acknowledged ones
	lost   []string // those that are not there, without a word of damage
}

// hold holds a space's answers against the expected ones. Beside an error that
// says that the space is damaged only memories may come that it once had.
func (s *storedRegistry) hold(id SpaceID, expected, got answers) held {
	var h held
	for _, call := range slices.Sorted(maps.Keys(got)) {
		e, g := expected[call], got[call]
		switch {
		case isDamage(id, g.err):
			if h.damage == nil || errors.Is(g.err, ErrForeign) {
				h.damage = g.err
			}
			for _, m := range g.memories {
				if !s.hadMemory(id, m) {
					h.wrong = append(h.wrong, fmt.Sprintf("%s: never remembered %s", call, m))
				}
			}
		case e.err == nil && g.err != nil:
			h.lost = append(h.lost, fmt.Sprintf("%s: %v", call, g.err))
		case e.err != nil && g.err == nil, e.err != nil && e.err.Error() != g.err.Error():
			h.wrong = append(h.wrong, fmt.Sprintf("%s: %v, not %v", call, g.err, e.err))
		case e.text == g.text:
		case len(g.memories) < len(e.memories):
			h.lost = append(h.lost, fmt.Sprintf("%s: %d memories, not %d", call, len(g.memories), len(e.memories)))
		default:
			h.wrong = append(h.wrong, fmt.Sprintf("%s: %s, not %s", call, g.text, e.text))
		}
	}
	if h.damage == nil && len(got) != len(expected) {
		h.lost = append(h.lost, "calls without an answer")
	}
	return h
}

// past is what a space answered at some time.
type past struct {
	once     sync.Once
	answers  map[SpaceID][]answers
	memories map[SpaceID]map[string]bool
}

// remembered reads, once, what each space answered after each write.
func (s *storedRegistry) remembered() *past {
	s.past.once.Do(func() {
		s.past.answers = make(map[SpaceID][]answers)
		s.past.memories = map[SpaceID]map[string]bool{damagedSpace: {}, otherSpace: {}}
		for _, then := range append(slices.Clone(s.history), s.fs) {
			r, err := Open("", damageOptions(then.clone(), true))
			must(err)
			for id := range r.Spaces("") {
				a, err := askEverything(background, r, id)
				must(err)
				s.past.answers[id] = append(s.past.answers[id], a)
				for _, m := range a["memories"].memories {
					s.past.memories[id][m] = true
				}
			}
			must(r.Close())
		}
	})
	return &s.past
}

// must is for what cannot fail here.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *storedRegistry) hadMemory(id SpaceID, m string) bool { return s.remembered().memories[id][m] }

// wasOnce reports whether the answers are what the space said at an earlier time.
func (s *storedRegistry) wasOnce(id SpaceID, got answers) bool {
	return slices.ContainsFunc(s.remembered().answers[id], func(then answers) bool {
		h := s.hold(id, then, got)
		return h.damage == nil && len(h.wrong) == 0 && len(h.lost) == 0
	})
}

// glance opens the damaged registry once, read-only, and asks the spaces. It is
// the short form of judge. With old, a space may be as it once was, as a whole.
func (s *storedRegistry) glance(t *testing.T, damaged *memoryFS, what string, old bool, spaces, victims []SpaceID) outcome {
	t.Helper()
	r, err := Open("", damageOptions(damaged, true))
	if err != nil {
		require.True(t, isDamage("", err), "%s: %s: %v", s.name, what, err)
		return ofAll
	}
	result := unnoticed
	for _, id := range spaces {
		got, err := askEverything(t.Context(), r, id)
		require.NoError(t, err)
		h := s.hold(id, s.answers[id], got)
		wasOnce := old && len(h.wrong)+len(h.lost) > 0 && s.wasOnce(id, got)
		switch {
		case wasOnce:
			result = older
		case len(h.wrong) > 0:
			result = wrong
			t.Errorf("%s: %s: wrong answer of %s: %s", s.name, what, id, h.wrong[0])
		case len(h.lost) > 0:
			result = lost
			t.Errorf("%s: %s: silent loss in %s: %s", s.name, what, id, h.lost[0])
		case h.damage != nil:
			require.Contains(t, victims, id, "%s: %s: %v", s.name, what, h.damage)
			result = outcomeOf(h.damage)
		}
	}
	if r.journal.damage != nil && result != wrong && result != lost && result != older {
		require.NotEqual(t, unnoticed, result, what)
		result = ofAll
	}
	require.NoError(t, r.Close(), what)
	return result
}

func outcomeOf(damage error) outcome {
	switch {
	case errors.Is(damage, ErrForeign):
		return ofForeign
	case errors.Is(damage, ErrVersion):
		return ofVersion
	}
	return ofSpace
}

// outcome is the verdict as it is counted.
func (v verdict) outcome() outcome {
	if v.registry != nil {
		return ofAll
	}
	result := unnoticed
	for _, damage := range v.spaces {
		result = outcomeOf(damage)
	}
	return result
}
