package noninterference

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// toy is a store of texts by space, with one leak or none.
type toy struct {
	leak string

	mu     sync.Mutex
	cached map[int]string
	spaces map[string][]string
	writes int
	told   int
	a      string
}

func toyLayer(leak string) Layer {
	return Layer{
		Name: "toy", Supports: func(k Kind) bool { return slices.Contains([]Kind{Remember, List, Figures, Probe}, k) },
		Open: func(func() time.Time) Driver {
			return &toy{leak: leak, cached: make(map[int]string), spaces: make(map[string][]string)}
		},
	}
}

func (d *toy) Do(op Op) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if op.Tenant == 0 {
		d.a = op.Space
	}
	switch op.Kind {
	case Remember:
		for _, m := range op.Memories {
			d.writes++
			d.spaces[op.Space] = append(d.spaces[op.Space], m.Content)
		}
	case List:
		if d.leak == "value" && op.Tenant == 0 {
			return fmt.Sprint(d.spaces)
		}
		list := strings.Join(d.spaces[op.Space], "\n")
		if d.leak == "cache" {
			if n := len(d.spaces[op.Space]); d.cached[n] == "" {
				d.cached[n] = list
			} else {
				list = d.cached[n]
			}
		}
		return list
	case Figures:
		if d.leak == "count" {
			return fmt.Sprint(d.writes)
		}
		return fmt.Sprint(len(d.spaces[op.Space]))
	case Probe:
		if _, found := d.spaces[op.Other]; found && d.leak == "existence" {
			return "forbidden"
		}
		return "not found: " + op.Other
	}
	return ""
}

func (d *toy) Follow() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.spaces[d.a]
	events := list[d.told:]
	d.told = len(list)
	if d.leak == "event" && d.writes > len(list) {
		return append(slices.Clone(events), "another")
	}
	return events
}

func (d *toy) Press() {}

func (d *toy) Close() Remains {
	r := Remains{Files: map[string]string{"texts": strings.Join(d.spaces[d.a], "\n")}, Shared: map[string]string{"log": ""}}
	switch {
	case d.leak == "file" && d.writes > len(d.spaces[d.a]):
		r.Files["more"] = ""
	case d.leak == "log":
		r.Shared["log"] = fmt.Sprint(d.spaces)
	case d.leak == "last" && d.writes > len(d.spaces[d.a]):
		r.View = []string{"another"}
	}
	return r
}

// What shares nothing passes, and each sort of leak is found.
func TestCheckFindsLeaks(t *testing.T) {
	for _, leak := range []string{"", "value", "count", "existence", "event", "file", "log", "last", "cache"} {
		var found error
		pairs := 0
		for seed := uint64(1); seed <= 10 && found == nil; seed++ {
			tally, err := toyLayer(leak).Check(seed)
			found, pairs = err, pairs+tally.Pairs
		}
		var interference *Interference
		require.Equal(t, leak != "", errors.As(found, &interference), "%s: %v", leak, found)
		if leak == "" {
			require.Equal(t, 30, pairs)
		}
	}
}

// A seed always gives the same scripts, and together they use every operation.
func TestGenerate(t *testing.T) {
	all := func(Kind) bool { return true }
	used := make(map[Kind]bool)
	for seed := range uint64(50) {
		s := Generate(seed, all)
		require.Equal(t, s, Generate(seed, all))
		for _, ops := range append(append([][]Op{s.A}, s.Others...), s.Hostile...) {
			for _, op := range ops {
				used[op.Kind] = true
			}
		}
	}
	require.Len(t, used, 25)
}

func TestBudget(t *testing.T) {
	b := Budget{Full: 1000, Seconds: 60}
	require.False(t, b.over(1000, time.Minute))
	require.True(t, b.over(1000, time.Minute+time.Second))
	require.False(t, b.over(2000, 2*time.Minute))
	require.True(t, b.over(2000, 2*time.Minute+time.Second))
	require.False(t, b.over(999, time.Hour), "a sample says nothing")
}

func TestForeign(t *testing.T) {
	mine, other := canary(0, 0), canary(1, 0)
	require.Equal(t, other, foreign("a "+mine+other+" b", mine, ""))
	require.Equal(t, other, foreign(canaryMark+canaryMark+other, mine, ""), "behind marks alone")
	require.Empty(t, foreign("a "+mine+" b", mine, ""))
	require.Empty(t, foreign("a "+other+" b", mine, "who has "+other), "asked for")
	require.Empty(t, foreign("\x01"+canaryMark+"\xfe07\x80 "+canaryMark, mine, ""), "random bytes")
}
