package engram

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// canaries are strings that stand in every part of a memory of ours.
type canaries struct{ all []string }

// memory returns a memory with a canary in each field that can hold one.
func (c *canaries) memory(id string) Memory {
	word := fmt.Sprintf("zq%sxj", strings.ReplaceAll(id, "-", ""))
	m := Memory{
		ID: "canary-id-" + id, Content: word + " filler text", Episode: "canary-episode-" + id,
		Attributes: map[string]string{"canary-key-" + id: "canary-value-" + id},
	}
	c.all = append(c.all, word, m.ID, m.Episode, "canary-key-"+id, "canary-value-"+id)
	return m
}

// forgettings are ways in which memories stop to be.
func forgettings() map[string]func(t *testing.T, s *Space, ms []Memory) {
	each := func(f func(t *testing.T, s *Space, m Memory)) func(*testing.T, *Space, []Memory) {
		return func(t *testing.T, s *Space, ms []Memory) {
			for _, m := range ms {
				f(t, s, m)
			}
		}
	}
	return map[string]func(*testing.T, *Space, []Memory){
		"one by one": each(func(t *testing.T, s *Space, m Memory) { forget(t, s, m.ID) }),
		"at once":    func(t *testing.T, s *Space, ms []Memory) { forget(t, s, idsOf(ms)...) },
		"by episode": each(func(t *testing.T, s *Space, m Memory) {
			_, err := s.ForgetWhere(background, Filter{Episode: m.Episode})
			require.NoError(t, err)
		}),
		"by attribute": each(func(t *testing.T, s *Space, m Memory) {
			_, err := s.ForgetWhere(background, Filter{Attributes: m.Attributes})
			require.NoError(t, err)
		}),
		"replaced, then forgotten": each(func(t *testing.T, s *Space, m Memory) {
			remember(t, s, Memory{ID: m.ID, Content: "replaced"})
			forget(t, s, m.ID)
		}),
		"with a request id": each(func(t *testing.T, s *Space, m Memory) {
			_, err := s.Forget(background, []string{m.ID}, RequestID("r"+m.Content[:4]+m.ID[len("canary-id-"):]))
			require.NoError(t, err)
		}),
	}
}

// moments are what may happen between remembering and forgetting.
func moments() map[string]func(t *testing.T, r *Registry, s *Space) {
	return map[string]func(t *testing.T, r *Registry, s *Space){
		"at once":      func(*testing.T, *Registry, *Space) {},
		"settled":      func(t *testing.T, r *Registry, _ *Space) { require.NoError(t, r.Settle(background)) },
		"asleep":       func(t *testing.T, _ *Registry, s *Space) { asleep(t, s) },
		"checkpointed": func(t *testing.T, _ *Registry, s *Space) { require.NoError(t, s.Checkpoint(background)) },
		"rewritten twice": func(t *testing.T, _ *Registry, s *Space) {
			for range 2 {
				forget(t, s, "kept-0")
				require.NoError(t, s.Checkpoint(background))
				remember(t, s, Memory{ID: "kept-0", Content: "kept"})
			}
		},
	}
}

// Whatever way a memory went, and wherever its bytes were: after Checkpoint and
// Settle neither its words nor its names are in any file, and nothing else went.
func TestForgottenInEveryWay(t *testing.T) {
	t.Parallel()
	for moment, pass := range moments() {
		for way, forgetAll := range forgettings() {
			t.Run(moment+", "+way, func(t *testing.T) {
				opts := Options{JournalBytes: minJournalBytes}
				opts.seams.segmentBytes, opts.seams.checkpointBytes = 2000, 1<<40
				s, m := newTestSpace(t, opts)
				var c canaries
				var doomed []Memory
				for i := range 12 {
					doomed = append(doomed, c.memory(fmt.Sprintf("number-%d-", i)))
					remember(t, s, Memory{ID: fmt.Sprint("kept-", i), Content: "kept"}, doomed[i])
				}
				pass(t, s.registry, s)
				kept := list(t, s, Filter{})
				forgetAll(t, s, doomed)
				killed := m.clone()
				require.NoError(t, s.Checkpoint(background))
				require.NoError(t, s.registry.Settle(background))
				requireNowhere(t, m, c.all...)
				kept = slices.DeleteFunc(kept, func(m Memory) bool { return strings.HasPrefix(m.ID, "canary") })
				require.Len(t, kept, 12)
				require.Equal(t, kept, list(t, s, Filter{}))

				r := openMemory(t, killed, opts) // killed after the forgetting
				s = get(t, r, "alpha")
				require.Equal(t, kept, list(t, s, Filter{}))
				require.NoError(t, s.Checkpoint(background))
				require.NoError(t, r.Close())
				requireNowhere(t, killed, c.all...)
			})
		}
	}
}

// A memory that is rewritten from segment to segment is found by the readers of each
// time where it was then.
func TestMovedRecordsAreFound(t *testing.T) {
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 2000, 1<<40
	s, m := newTestSpace(t, opts)
	for i := range 20 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("canary of ", i, ";")})
	}
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	var (
		readers []*reader
		places  []locator
	)
	for i := range 5 {
		r := a.read()
		d, found := r.view.lookup("m19")
		require.True(t, found)
		readers, places = append(readers, r), append(places, r.view.locator(d))
		forget(t, s, fmt.Sprint("m", i), fmt.Sprint("m", i+5), fmt.Sprint("m", 18-i))
		require.NoError(t, s.Checkpoint(background))
	}
	require.Greater(t, len(slices.Compact(places)), 2, "it has moved")
	for _, r := range readers {
		d, found := r.view.lookup("m19")
		require.True(t, found)
		got, err := r.memory(d)
		require.NoError(t, err)
		require.Equal(t, "m19", got.ID)
		r.close()
	}
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, s.registry.Settle(background))
	kept := idsOf(list(t, s, Filter{}))
	require.Len(t, kept, 5)
	for i := range 20 {
		if !slices.Contains(kept, fmt.Sprint("m", i)) {
			requireNowhere(t, m, fmt.Sprint("canary of ", i, ";"))
		}
	}
}

// Many readers that began at different times each see their own snapshot.
func TestReadersOfManyTimes(t *testing.T) {
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 1500, 3000
	s, m := newTestSpace(t, opts)
	type reading struct {
		want []Memory
		next func() (Memory, error, bool)
		stop func()
	}
	var readings []reading
	for i := range 60 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i%7), Content: fmt.Sprint("canary version ", i)})
		if i%5 == 3 {
			forget(t, s, fmt.Sprint("m", i%3))
		}
		if i%6 == 0 {
			first, next, stop := beginReading(t, s)
			want := list(t, s, Filter{})
			require.Equal(t, want[0], first)
			readings = append(readings, reading{want, next, stop})
		}
		if i%9 == 0 {
			require.NoError(t, s.Checkpoint(background))
		}
	}
	_, err := s.ForgetWhere(background, Filter{Kind: Episodic})
	require.NoError(t, err)
	require.NoError(t, s.Checkpoint(background))
	for i, r := range readings {
		if i%3 == 2 {
			r.stop() // one that does not read to its end holds nothing either
			continue
		}
		for _, want := range r.want[1:] {
			got, err, ok := r.next()
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, want, got)
		}
		_, _, ok := r.next()
		require.False(t, ok)
	}
	require.NoError(t, s.registry.Settle(background))
	requireNowhere(t, m, "canary")
	require.Empty(t, list(t, s, Filter{}))
}

// A filter is empty where each of its fields is: the next field, too, keeps ForgetWhere
// from forgetting everything only if it is looked at.
func TestFilterIsZero(t *testing.T) {
	require.True(t, Filter{}.IsZero())
	require.True(t, Filter{Attributes: map[string]string{}}.IsZero())
	some := reflect.ValueOf(Filter{
		After: time.Unix(1, 0), Before: time.Unix(1, 0), Episode: "e", Attributes: map[string]string{"k": "v"}, Kind: Episodic,
	})
	for i := range some.NumField() {
		require.False(t, some.Field(i).IsZero(), "%s has no value here", some.Type().Field(i).Name)
		var f Filter
		reflect.ValueOf(&f).Elem().Field(i).Set(some.Field(i))
		require.False(t, f.IsZero(), some.Type().Field(i).Name)
	}
}
