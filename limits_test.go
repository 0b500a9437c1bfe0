package engram

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// limitCase is an argument at its limit and one beyond it.
type limitCase struct {
	name    string
	at      func(s *Space) error
	beyond  func(s *Space) error
	got     int64
	max     int64
	sizable bool // the limit is on bytes as encoded: got is not known exactly
}

func remembering(m Memory) func(*Space) error {
	return func(s *Space) error {
		_, err := s.Remember(background, m)
		return err
	}
}

func asking(cue Cue) func(*Space) error {
	return func(s *Space) error {
		_, err := s.Recall(background, cue)
		return err
	}
}

func batching(n int, m Memory) func(*Space) error {
	return func(s *Space) error {
		ms := make([]Memory, n)
		for i := range ms {
			ms[i] = m
		}
		_, err := s.RememberBatch(background, ms)
		return err
	}
}

func attributes(n, key, value int) map[string]string {
	all := make(map[string]string, n)
	for i := range n {
		k := fmt.Sprint(i)
		all[k+strings.Repeat("k", max(key-len(k), 0))] = strings.Repeat("v", value)
	}
	return all
}

func vector(n int) []float32 {
	v := make([]float32, n)
	v[0] = 1
	return v
}

func names(n, length int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%0*d", length, i)
	}
	return list
}

func forgetting(ids []string) func(*Space) error {
	return func(s *Space) error {
		_, err := s.Forget(background, ids)
		return err
	}
}

func limitCases() []limitCase {
	x := func(n int) string { return strings.Repeat("x", n) }
	filtering := func(f Filter) Cue { return Cue{Filter: f} }
	withRequest := func(n int) func(*Space) error {
		return func(s *Space) error {
			_, err := s.Remember(background, Memory{Content: "x"}, RequestID(x(n)))
			return err
		}
	}
	// Four memories of 1 MiB less 4 KiB, and the rest.
	full := func(rest int) func(*Space) error {
		return func(s *Space) error {
			ms := []Memory{{ID: "e", Content: x(rest)}}
			for i := range 4 {
				ms = append(ms, Memory{ID: fmt.Sprint(i), Content: x(MaxContentBytes - 4096)})
			}
			_, err := s.RememberBatch(background, ms)
			return err
		}
	}
	return []limitCase{
		{name: "id", at: remembering(Memory{ID: x(256), Content: "x"}), beyond: remembering(Memory{ID: x(257), Content: "x"}), got: 257, max: 256},
		{name: "content", at: remembering(Memory{Content: x(1 << 20)}), beyond: remembering(Memory{Content: x(1<<20 + 1)}), got: 1<<20 + 1, max: 1 << 20},
		{name: "episode", at: remembering(Memory{Content: "x", Episode: x(256)}), beyond: remembering(Memory{Content: "x", Episode: x(257)}), got: 257, max: 256},
		{name: "dimension", at: remembering(Memory{Embedding: vector(4096)}), beyond: remembering(Memory{Embedding: vector(4097)}), got: 4097, max: 4096},
		{name: "attributes", at: remembering(Memory{Content: "x", Attributes: attributes(64, 0, 1)}), beyond: remembering(Memory{Content: "x", Attributes: attributes(65, 0, 1)}), got: 65, max: 64},
		{name: "attribute key", at: remembering(Memory{Content: "x", Attributes: attributes(1, 1024, 0)}), beyond: remembering(Memory{Content: "x", Attributes: attributes(1, 1025, 0)}), got: 1025, max: 1024},
		{name: "attribute value", at: remembering(Memory{Content: "x", Attributes: attributes(64, 1024, 1024)}), beyond: remembering(Memory{Content: "x", Attributes: attributes(1, 0, 1025)}), got: 1025, max: 1024},
		{name: "batch", at: batching(1024, Memory{Content: "x"}), beyond: batching(1025, Memory{Content: "x"}), got: 1025, max: 1024},
		{name: "batch bytes", at: full(4*4096 - 5*64), beyond: full(4 * 4096), max: 4 << 20, sizable: true},
		{name: "forget ids", at: forgetting(names(4096, 256)), beyond: forgetting(names(4097, 4)), got: 4097, max: 4096},
		{name: "forget id", at: forgetting(names(1, 256)), beyond: forgetting(names(1, 257)), got: 257, max: 256},
		{name: "request id", at: withRequest(128), beyond: withRequest(129), got: 129, max: 128},
		{name: "cue text", at: asking(Cue{Text: x(64 << 10)}), beyond: asking(Cue{Text: x(64<<10 + 1)}), got: 64<<10 + 1, max: 64 << 10},
		{name: "cue limit", at: asking(Cue{Text: "x", Limit: 1000}), beyond: asking(Cue{Text: "x", Limit: 1001}), got: 1001, max: 1000},
		{name: "cue ids", at: asking(Cue{IDs: names(1024, 4)}), beyond: asking(Cue{IDs: names(1025, 4)}), got: 1025, max: 1024},
		{name: "cue dimension", at: asking(Cue{Embedding: vector(4096)}), beyond: asking(Cue{Embedding: vector(4097)}), got: 4097, max: 4096},
		{name: "filter attributes", at: asking(filtering(Filter{Attributes: attributes(64, 1024, 1024)})), beyond: asking(filtering(Filter{Attributes: attributes(65, 0, 0)})), got: 65, max: 64},
		{name: "filter episode", at: asking(filtering(Filter{Episode: x(256)})), beyond: asking(filtering(Filter{Episode: x(257)})), got: 257, max: 256},
	}
}

func TestLimits(t *testing.T) {
	opts := Options{JournalBytes: minJournalBytes, seams: seams{checkpointBytes: 1 << 40}}
	s, m := newTestSpace(t, opts)
	remember(t, s, Memory{ID: "first", Content: "first"})
	for _, c := range limitCases() {
		require.NoError(t, s.registry.Settle(background)) // after that nothing happens in the background
		before, stats := m.files("."), s.Stats()
		err := c.beyond(s)
		require.ErrorIs(t, err, ErrLimit, c.name)
		var limit *LimitError
		require.ErrorAs(t, err, &limit)
		require.Equal(t, c.max, limit.Max, c.name)
		if c.sizable {
			require.Greater(t, limit.Got, limit.Max)
		} else {
			require.Equal(t, c.got, limit.Got, c.name)
		}
		requireUnchanged(t, before, m, c.name)
		require.Equal(t, stats, s.Stats(), c.name)
		require.NoError(t, c.at(s), c.name)
	}
	killed := openMemory(t, m.clone(), Options{})
	require.Equal(t, list(t, s, Filter{}), list(t, get(t, killed, "alpha"), Filter{}), "what is at its limit is recovered")
	require.NoError(t, killed.Close())
}

func TestInvalidMemories(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	before := m.files(".")
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, bad := range map[string]Memory{
		"content: empty":         {},
		"content: not UTF-8":     {Content: "a\xffb"},
		"id: not UTF-8":          {ID: "a\xff", Content: "x"},
		"id: control character":  {ID: "a\nb", Content: "x"},
		"id: delete":             {ID: "a\x7f", Content: "x"},
		"id: NUL":                {ID: "\x00", Content: "x"},
		"id: control beyond":     {ID: "a\u009b31mb", Content: "x"},
		"episode: control":       {Episode: "a\tb", Content: "x"},
		"attributes: empty key":  {Attributes: map[string]string{"": "v"}, Content: "x"},
		"attributes: not UTF-8":  {Attributes: map[string]string{"k": "\xff"}, Content: "x"},
		"embedding: NaN":         {Embedding: []float32{1, nan}},
		"embedding: infinity":    {Embedding: []float32{-inf, 1}},
		"embedding: zero vector": {Embedding: make([]float32, 8)},
		"confidence: negative":   {Confidence: -0.1, Content: "x"},
		"confidence: above one":  {Confidence: 1.001, Content: "x"},
		"confidence: NaN":        {Confidence: math.NaN(), Content: "x"},
		"kind: unknown":          {Kind: "procedural", Content: "x"},
		"time: too early":        {Time: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), Content: "x"},
		"time: too late":         {Time: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC), Content: "x"},
	} {
		_, err := s.Remember(background, bad)
		require.ErrorIs(t, err, ErrInvalid, name)
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
		field, _, _ := strings.Cut(name, ":")
		require.Equal(t, field, invalid.Field, name)
	}
	_, err := s.RememberBatch(background, nil)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Remember(background, Memory{Content: "x"}, RequestID("a\nb"))
	require.ErrorIs(t, err, ErrInvalid)
	requireUnchanged(t, before, m)
}

func TestInvalidCuesAndFilters(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{Embedding: vector(4)})
	for name, bad := range map[string]Cue{
		"text: not UTF-8":          {Text: "\xff"},
		"embedding: NaN":           {Embedding: []float32{float32(math.NaN()), 0, 0, 0}},
		"embedding: zero":          {Embedding: make([]float32, 4)},
		"embedding: dimension":     {Embedding: vector(5)},
		"ids: empty":               {IDs: []string{"a", ""}},
		"limit: negative":          {Limit: -1},
		"min_activation: negative": {MinActivation: -0.1},
		"min_activation: above":    {MinActivation: 1.1},
		"min_activation: NaN":      {MinActivation: math.NaN()},
		"filter.kind: unknown":     {Filter: Filter{Kind: "x"}},
		"filter.episode: control":  {Filter: Filter{Episode: "\n"}},
		"filter.after: too early":  {Filter: Filter{After: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}},
		"filter.before: too late":  {Filter: Filter{Before: time.Date(2262, 5, 1, 0, 0, 0, 0, time.UTC)}},
		"filter.attributes: key":   {Filter: Filter{Attributes: map[string]string{"": ""}}},
	} {
		_, err := s.Recall(background, bad)
		require.ErrorIs(t, err, ErrInvalid, name)
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
		field, _, _ := strings.Cut(name, ":")
		require.Equal(t, field, invalid.Field, name)
		if strings.HasPrefix(name, "filter") {
			_, err = s.ForgetWhere(background, bad.Filter)
			require.ErrorIs(t, err, ErrInvalid, name)
			for _, err := range s.Memories(background, bad.Filter) {
				require.ErrorIs(t, err, ErrInvalid, name)
			}
		}
	}
}

// The times that validate admits are stored to the nanosecond.
func TestTimesAtTheEdge(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	times := []time.Time{earliestTime, time.Unix(0, -1).UTC(), time.Unix(0, 0).UTC(), time.Unix(0, 1).UTC(), latestTime}
	for i, at := range times {
		remember(t, s, Memory{ID: fmt.Sprint(i), Content: "x", Time: at})
	}
	all := list(t, s, Filter{})
	for i, at := range times {
		require.Equal(t, at, all[i].Time)
		only := Filter{After: at}
		if at != latestTime {
			only.Before = at.Add(1)
		}
		require.Equal(t, []string{fmt.Sprint(i)}, idsOf(list(t, s, only)))
	}
	require.Len(t, list(t, s, Filter{After: earliestTime}), 5)
	require.Empty(t, list(t, s, Filter{Before: earliestTime}))
	bounds := fmt.Sprintf("must be from %s to %s", earliestTime.Format(time.RFC3339), latestTime.Format(time.RFC3339))
	for _, at := range []time.Time{earliestTime.Add(-1), latestTime.Add(1)} {
		_, err := s.Remember(background, Memory{Content: "x", Time: at})
		require.EqualError(t, err, "time: "+bounds)
		_, err = s.ForgetWhere(background, Filter{After: at})
		require.EqualError(t, err, "filter.after: "+bounds)
		_, err = s.Recall(background, Cue{Filter: Filter{Before: at}})
		require.EqualError(t, err, "filter.before: "+bounds)
	}
	killed := openMemory(t, m.clone(), Options{})
	require.Equal(t, all, list(t, get(t, killed, "alpha"), Filter{}))
	require.NoError(t, killed.Close())
}

func requireQuota(t *testing.T, err error, quota string, used, most int64) {
	t.Helper()
	require.ErrorIs(t, err, ErrQuota)
	var q *QuotaError
	require.ErrorAs(t, err, &q)
	require.Equal(t, QuotaError{Space: "alpha", Quota: quota, Used: used, Max: most}, *q)
}

func TestQuotaOfMemories(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	_, err := s.Configure(background, SpaceConfig{MaxMemories: 3})
	require.NoError(t, err)
	x := func(id string) Memory { return Memory{ID: id, Content: "x"} }
	remember(t, s, x("a"), x("b"))
	before := m.files(".")
	_, err = s.RememberBatch(background, []Memory{x("c"), x("d")})
	requireQuota(t, err, "memories", 2, 3)
	requireUnchanged(t, before, m)
	remember(t, s, x("c"), x("a"), x("c"), x("b")) // replaces two and adds one
	_, err = s.Remember(background, x(""))
	requireQuota(t, err, "memories", 3, 3)
	remember(t, s, x("a"))
	forget(t, s, "a")
	_, err = s.RememberBatch(background, []Memory{x(""), x("")})
	requireQuota(t, err, "memories", 2, 3)
	remember(t, s, x(""))

	_, err = s.Configure(background, SpaceConfig{MaxMemories: 1})
	require.NoError(t, err)
	require.Len(t, list(t, s, Filter{}), 3, "a lowered quota forgets nothing")
	_, err = s.Remember(background, x("d"))
	requireQuota(t, err, "memories", 3, 1)
	remember(t, s, x("b")) // it does not grow the space
	killed := openMemory(t, m.clone(), Options{})
	s = get(t, killed, "alpha")
	_, err = s.Remember(background, x("d"))
	requireQuota(t, err, "memories", 3, 1)
	_, err = s.Configure(background, SpaceConfig{})
	require.NoError(t, err)
	remember(t, s, x("d"))
	require.NoError(t, killed.Close())
}

func TestQuotaOfBytes(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	content := func(n int) string { return strings.Repeat("x", n) }
	remember(t, s, Memory{ID: "a", Content: content(1000)})
	one := s.Info().Bytes
	require.Greater(t, one, int64(1000))
	_, err := s.Configure(background, SpaceConfig{MaxBytes: 3 * one})
	require.NoError(t, err)
	remember(t, s, Memory{ID: "b", Content: content(1000)})
	before := m.files(".")
	_, err = s.Remember(background, Memory{ID: "c", Content: content(1001)})
	requireQuota(t, err, "bytes", 2*one, 3*one)
	requireUnchanged(t, before, m)
	remember(t, s, Memory{ID: "c", Content: content(1000)})
	require.Equal(t, 3*one, s.Info().Bytes)
	_, err = s.Remember(background, Memory{ID: "a", Content: content(1001)})
	requireQuota(t, err, "bytes", 3*one, 3*one)
	remember(t, s, Memory{ID: "a", Content: content(999)}, Memory{ID: "b", Content: content(1001)})
	require.Equal(t, 3*one, s.Info().Bytes)
	forget(t, s, "a", "b", "c")
	require.Zero(t, s.Info().Bytes)
}

// What waits behind a new configuration is checked against it, also where one
// group could have taken all.
func TestQuotaHoldsBehindConfigure(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	release := holdJournal(s.registry)
	defer release()
	done := make(chan error, 10)
	queued := 0
	start := func(f func() error) {
		go func() { done <- f() }()
		if queued > 0 { // the first one is taken
			waitQueued(t, s, queued)
		} else {
			waitBusy(t, s)
		}
		queued++
	}
	start(func() error { return remembering(Memory{ID: "first", Content: "x"})(s) })
	start(func() error {
		_, err := s.Configure(background, SpaceConfig{MaxMemories: 2})
		return err
	})
	for i := range 4 {
		start(func() error { return remembering(Memory{ID: fmt.Sprint(i), Content: "x"})(s) })
	}
	release()
	refused := 0
	for range queued {
		if err := <-done; err != nil {
			require.ErrorIs(t, err, ErrQuota)
			refused++
		}
	}
	require.Equal(t, 3, refused)
	require.Equal(t, int64(2), s.Info().Memories)
}

// An embedding of a dimension that the space does not have leaves nothing in memory:
// what it takes to make codes of that dimension neither.
func TestRefusedDimensionsLeaveNothing(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	a, err := s.use(background)
	require.NoError(t, err)
	defer a.uses.Add(-1)
	rotations := func() (n int) {
		a.store.rotations.made.Range(func(any, any) bool {
			n++
			return true
		})
		return n
	}
	refused := func(want error, opts ...WriteOption) {
		t.Helper()
		for n := range 20 {
			_, err := s.Remember(background, Memory{Embedding: one32(n + 4)}, opts...)
			require.ErrorIs(t, err, want)
		}
	}
	refused(ErrConflict, ExpectSeq(99))
	require.Zero(t, rotations())
	remember(t, s, Memory{Embedding: one32(3)})
	refused(ErrInvalid)
	require.Equal(t, 1, rotations())
}

// one32 is a vector of that dimension.
func one32(dimension int) []float32 {
	v := make([]float32, dimension)
	v[0] = 1
	return v
}
