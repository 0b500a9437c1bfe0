package engram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engramdb/engram/internal/crashfs"
)

// exported returns the export of the space and its seq.
func exported(t tester, s *Space) (string, uint64) {
	t.Helper()
	var b bytes.Buffer
	seq, err := s.Export(background, &b)
	require.NoError(t, err)
	return b.String(), seq
}

func imported(t tester, r *Registry, id SpaceID, export string) *Space {
	t.Helper()
	s, err := r.Import(background, id, strings.NewReader(export))
	require.NoError(t, err)
	return s
}

// anyMemory draws a memory with everything that one can have.
func anyMemory(t *rapid.T, dimension int) Memory {
	text := rapid.StringN(0, 40, -1)
	name := rapid.StringMatching(`[a-zé<&>"\\/ ]{1,8}`)
	m := Memory{
		ID:         name.Draw(t, "id"),
		Content:    "x" + text.Draw(t, "content"),
		Time:       time.Unix(0, rapid.Int64Range(earliestTime.UnixNano(), latestTime.UnixNano()).Draw(t, "time")),
		Confidence: rapid.Float64Range(math.SmallestNonzeroFloat64, 1).Draw(t, "confidence"),
		Kind:       rapid.SampledFrom([]Kind{"", Episodic, Semantic}).Draw(t, "kind"),
		Attributes: rapid.MapOfN(name, text, 0, 3).Draw(t, "attributes"),
	}
	if rapid.Bool().Draw(t, "in an episode") {
		m.Episode = name.Draw(t, "episode")
	}
	if rapid.Bool().Draw(t, "with an embedding") {
		m.Embedding = rapid.SliceOfN(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32), dimension, dimension).Draw(t, "embedding")
		m.Embedding[0] = rapid.SampledFrom([]float32{math.SmallestNonzeroFloat32, 1, -1.0 / 3}).Draw(t, "not zero")
		m.Embedding[dimension-1] = float32(math.Copysign(0, -1))
	}
	return m
}

// An export that is imported exports to the same bytes, and is the same memories.
func TestExportImportRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		opts := Options{Clock: newStepClock(), Durability: rapid.SampledFrom([]Durability{Sync, None}).Draw(t, "durability")}
		opts.seams.segmentBytes, opts.seams.checkpointBytes = 2000, 3000
		m := newMemoryFS()
		r := openMemory(t, m, opts)
		s, err := r.Create(background, "first", SpaceConfig{
			MaxMemories: 1000, TextB: rapid.Float64Range(0, 1).Draw(t, "b"),
			Analyzer:      rapid.SampledFrom([]Analyzer{"", English, EnglishAll, Plain, CJK}).Draw(t, "analyzer"),
			AutoAssociate: rapid.IntRange(0, 2).Draw(t, "auto"),
		})
		require.NoError(t, err)
		for range rapid.IntRange(0, 12).Draw(t, "writes") {
			receipts := remember(t, s, anyMemory(t, 3), anyMemory(t, 3))
			associateAny(t, s)
			if rapid.IntRange(0, 4).Draw(t, "forget") == 0 {
				forget(t, s, receipts[0].ID)
			}
		}
		export, seq := exported(t, s)
		require.Equal(t, infoOf(t, s).Seq, seq)
		readable, _, err := s.feed.look(seq)
		require.NoError(t, err)
		require.True(t, readable, "what was exported is durable")

		second := imported(t, r, "second", export)
		requireSame := func(r *Registry) {
			again, _ := exported(t, get(t, r, "second"))
			require.Equal(t, export, again)
			require.Equal(t, unbound(list(t, get(t, r, "first"), Filter{})), unbound(list(t, get(t, r, "second"), Filter{})))
			for _, m := range list(t, get(t, r, "first"), Filter{}) {
				require.Equal(t, associationsOf(t, get(t, r, "first"), m.ID), associationsOf(t, get(t, r, "second"), m.ID))
			}
		}
		requireSame(r)
		require.Equal(t, infoOf(t, s).Config, infoOf(t, second).Config)
		other := map[bool]Analyzer{true: Plain, false: CJK}[infoOf(t, s).Config.Analyzer == CJK]
		_, err = second.Configure(background, SpaceConfig{Analyzer: other})
		require.ErrorIs(t, err, ErrInvalid, "the analyzer of the export is the space's, for good")
		digests := []string{verified(t, s).Digest, verified(t, second).Digest}
		require.Equal(t, 1+infoOf(t, s).Memories+s.Stats().Content.Associations, int64(infoOf(t, second).Seq), "an operation each")
		left := m.clone()
		remember(t, second, Memory{ID: "one more", Content: "it goes on"})
		require.NoError(t, r.Close())
		killed := openMemory(t, left, opts)
		requireSame(killed)
		require.Equal(t, []string{verified(t, get(t, killed, "first")).Digest, verified(t, get(t, killed, "second")).Digest}, digests)
		require.NoError(t, killed.Close())
	})
}

// associateAny draws associations between the memories of the space.
func associateAny(t *rapid.T, s *Space) {
	ids := idsOf(list(t, s, Filter{}))
	if len(ids) < 2 {
		return
	}
	id := rapid.SampledFrom(ids)
	for range rapid.IntRange(0, 3).Draw(t, "associations") {
		from, to := id.Draw(t, "from"), id.Draw(t, "to")
		if from == to {
			continue
		}
		kind := rapid.SampledFrom([]string{"", AssociationSimilar, `<"\\">`, "\u2028é"}).Draw(t, "kind of association")
		associate(t, s, from, to, kind, rapid.Float64Range(math.SmallestNonzeroFloat64, 1).Draw(t, "weight"))
	}
}

// The order in which associations were made, or were at last given a weight, does
// not show in an export, and a graph as large as any is carried over whole.
func TestExportImportManyAssociations(t *testing.T) {
	t.Parallel()
	const memories, each = 250, 80
	var head, edges strings.Builder
	fmt.Fprintf(&head, `{"format":"engram-export","version":1,"memories":%d,"config":{"auto_associate":2}}`+"\n", memories)
	for i := range memories {
		fmt.Fprintf(&head, `{"id":"m%d","content":"one of many"}`+"\n", i)
	}
	random := rand.New(rand.NewPCG(3, 4))
	lines := make([]string, 0, memories*each)
	for i := range memories {
		for k, j := range random.Perm(memories - 1)[:each] {
			if j >= i {
				j++
			}
			lines = append(lines, fmt.Sprintf(`{"association":{"from":"m%d","to":"m%d","kind":"kind %d","weight":%v}}`, i, j, k%MaxAssociationKinds, 1-random.Float64()))
		}
	}
	r, _ := newRegistry(t, Options{Clock: newStepClock()})
	random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	for _, line := range lines {
		edges.WriteString(line + "\n")
	}
	s := imported(t, r, "first", head.String()+edges.String())
	require.EqualValues(t, memories*each, s.Stats().Content.Associations, "none were made by likeness")
	export, seq := exported(t, s)
	require.EqualValues(t, 1+memories+memories*each, seq)
	second := imported(t, r, "second", export)
	asleep(t, second)
	again, _ := exported(t, second)
	require.Equal(t, export, again)
	answer, err := s.Recall(background, Cue{IDs: []string{"m7"}, Limit: 100})
	require.NoError(t, err)
	same, err := second.Recall(background, Cue{IDs: []string{"m7"}, Limit: 100})
	require.NoError(t, err)
	require.Equal(t, unboundRecall(answer), unboundRecall(same))
}

// unboundRecall is what of an answer does not depend on the space.
func unboundRecall(answer Recall) []Recollection {
	for i := range answer.Recollections {
		m := &answer.Recollections[i].Memory
		m.Space, m.Seq = "", 0
	}
	return answer.Recollections
}

// What was exported before associations were part of an export imports as ever.
func TestImportWithoutAssociations(t *testing.T) {
	r, _ := newRegistry(t, Options{})
	s := imported(t, r, "alpha", strings.Replace(importHeader, `"config"`, `"memories":1,"config"`, 1)+`{"id":"a","content":"x"}`)
	require.Zero(t, s.Stats().Content.Associations)
	export, _ := exported(t, s)
	require.Contains(t, export, `"memories":1,"associations":0,`)
}

// unbound is what of memories does not depend on the space that they are in.
func unbound(list []Memory) []Memory {
	slices.SortFunc(list, func(a, b Memory) int { return strings.Compare(a.ID, b.ID) })
	for i := range list {
		list[i].Space, list[i].Seq = "", 0
	}
	return list
}

// The example of docs/export.md is what is exported, and has every field that a
// memory has, but what binds it to its space.
func TestExportSchema(t *testing.T) {
	content, err := os.ReadFile("docs/export.md")
	require.NoError(t, err)
	match := regexp.MustCompile("(?s)```json export\n(.*?)```").FindSubmatch(content)
	require.NotNil(t, match)
	r, _ := newRegistry(t, Options{Clock: newStepClock()})
	s := imported(t, r, "alpha", string(match[1]))
	export, _ := exported(t, s)
	require.Equal(t, string(match[1]), export)

	first := strings.Split(export, "\n")[1]
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(first), &line))
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Memory]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "space" || name == "seq" {
			require.NotContains(t, line, name)
		} else {
			require.Contains(t, line, name, "a field that is not exported is lost")
		}
	}
}

func TestImportDefaults(t *testing.T) {
	clock := newStepClock()
	r, _ := newRegistry(t, Options{Clock: clock})
	s := imported(t, r, "alpha", `{"format":"engram-export","version":1,"config":{}}`+"\n"+`{"content":"by hand"}`)
	all := list(t, s, Filter{})
	require.Len(t, all, 1)
	require.Equal(t, all[0].StoredAt, all[0].Time)
	require.Equal(t, generatedID(all[0].StoredAt.UnixNano(), 2), all[0].ID)
	require.InDelta(t, 1, all[0].Confidence, 0)
	require.Equal(t, []string{all[0].ID}, recalledIDs(recall(t, s, Cue{Text: "hand"})))
}

const importHeader = `{"format":"engram-export","version":1,"config":{}}` + "\n"

// refusedImports are exports with the line that is refused and why.
func refusedImports() map[string]struct {
	export string
	line   int
	want   error
} {
	type refused = struct {
		export string
		line   int
		want   error
	}
	good := `{"id":"a","content":"x"}` + "\n"
	two := importHeader + good + `{"id":"b","content":"x"}` + "\n"
	edge := `{"association":{"from":"a","to":"b","weight":1}}` + "\n"
	kinds, fan := two, importHeader+good
	for i := range MaxAssociationKinds + 1 {
		kinds += fmt.Sprintf(`{"association":{"from":"a","to":"b","kind":"k%d","weight":1}}`+"\n", i)
	}
	for i := range MaxAssociations + 1 {
		fan += fmt.Sprintf(`{"id":"m%d","content":"x"}`+"\n", i)
	}
	for i := range MaxAssociations + 1 {
		fan += fmt.Sprintf(`{"association":{"from":"a","to":"m%d","weight":1}}`+"\n", i)
	}
	return map[string]refused{
		"nothing":           {"", 1, ErrInvalid},
		"no header":         {good, 1, ErrInvalid},
		"another format":    {`{"format":"x","version":1}`, 1, ErrInvalid},
		"later version":     {`{"format":"engram-export","version":2,"new":1}`, 1, ErrVersion},
		"version in words":  {`{"format":"engram-export","version":"1"}`, 1, ErrInvalid},
		"unknown setting":   {`{"format":"engram-export","version":1,"config":{"x":1}}`, 1, ErrInvalid},
		"bad setting":       {`{"format":"engram-export","version":1,"config":{"text_b":2}}`, 1, ErrInvalid},
		"cut short":         {strings.Replace(importHeader, `"config"`, `"memories":2,"config"`, 1) + good, 3, ErrInvalid},
		"more than said":    {strings.Replace(importHeader, `"config"`, `"memories":0,"config"`, 1) + good, 3, ErrInvalid},
		"no JSON":           {importHeader + good + "{", 3, ErrInvalid},
		"empty line":        {importHeader + "\n" + good, 2, ErrInvalid},
		"two values":        {importHeader + `{"id":"a","content":"x"} {}`, 2, ErrInvalid},
		"unknown field":     {importHeader + `{"id":"a","text":"x"}`, 2, ErrInvalid},
		"field twice":       {importHeader + `{"id":"a","content":"x","content":"x"}`, 2, ErrInvalid},
		"twice, in case":    {importHeader + `{"id":"a","content":"x","Content":"y"}`, 2, ErrInvalid},
		"attribute twice":   {importHeader + `{"id":"a","content":"x","attributes":{"k":"1","k":"2"}}`, 2, ErrInvalid},
		"header twice":      {`{"format":"engram-export","version":1,"config":{},"config":{}}`, 1, ErrInvalid},
		"weight twice":      {two + `{"association":{"from":"a","to":"b","weight":1,"weight":1}}`, 4, ErrInvalid},
		"of a space":        {importHeader + `{"id":"a","content":"x","space":"beta"}`, 2, ErrInvalid},
		"with a seq":        {importHeader + `{"id":"a","content":"x","seq":2}`, 2, ErrInvalid},
		"repeated id":       {importHeader + good + `{"id":"b","content":"x"}` + "\n" + good, 4, ErrInvalid},
		"no content":        {importHeader + `{"id":"a"}`, 2, ErrInvalid},
		"invalid UTF-8":     {importHeader + "{\"id\":\"a\",\"content\":\"\xff\"}", 2, ErrInvalid},
		"dimension":         {importHeader + `{"id":"a","content":"x","embedding":[1]}` + "\n" + `{"id":"b","content":"x","embedding":[1,2]}`, 3, ErrInvalid},
		"float32 overflow":  {importHeader + `{"id":"a","content":"x","embedding":[1e39]}`, 2, ErrInvalid},
		"time out of range": {importHeader + `{"id":"a","content":"x","stored_at":"1000-01-01T00:00:00Z"}`, 2, ErrInvalid},
		"long content":      {importHeader + `{"id":"a","content":"` + strings.Repeat("x", MaxContentBytes+1) + `"}`, 2, ErrLimit},
		"edge to nothing":   {two + `{"association":{"from":"a","to":"c","weight":1}}`, 4, ErrMemoryNotFound},
		"edge from nothing": {two + edge + `{"association":{"from":"c","to":"a","weight":1}}`, 5, ErrMemoryNotFound},
		"edge too early":    {importHeader + good + edge + `{"id":"b","content":"x"}`, 3, ErrMemoryNotFound},
		"memory behind":     {two + edge + `{"id":"c","content":"x"}`, 5, ErrInvalid},
		"edge to itself":    {two + `{"association":{"from":"a","to":"a","weight":1}}`, 4, ErrInvalid},
		"no weight":         {two + `{"association":{"from":"a","to":"b"}}`, 4, ErrInvalid},
		"too much weight":   {two + `{"association":{"from":"a","to":"b","weight":1.5}}`, 4, ErrInvalid},
		"no association":    {two + `{"association":null}`, 4, ErrInvalid},
		"edge with more":    {two + `{"association":{"from":"a","to":"b","weight":1},"id":"c","content":"x"}`, 4, ErrInvalid},
		"memory with edge":  {two + `{"id":"c","content":"x","association":{"from":"a","to":"b","weight":1}}`, 4, ErrInvalid},
		"unknown in edge":   {two + `{"association":{"from":"a","to":"b","weight":1,"seq":1}}`, 4, ErrInvalid},
		"repeated edge":     {two + edge + `{"association":{"from":"a","to":"b","kind":"related","weight":0.5}}`, 5, ErrInvalid},
		"edges cut short":   {strings.Replace(two, `"config"`, `"associations":2,"config"`, 1) + edge, 5, ErrInvalid},
		"long kind":         {two + `{"association":{"from":"a","to":"b","weight":1,"kind":"` + strings.Repeat("k", 65) + `"}}`, 4, ErrLimit},
		"too many kinds":    {kinds, 4 + MaxAssociationKinds, ErrLimit},
		"too many edges":    {fan, 2 + 2*(MaxAssociations+1), ErrLimit},
		"long line":         {importHeader + good + strings.Repeat(" ", maxExportLineBytes+1), 3, ErrLimit},
	}
}

// What is refused names its line and leaves nothing, and the id free.
func TestImportRefuses(t *testing.T) {
	r, m := newRegistry(t, Options{})
	for name, refused := range refusedImports() {
		t.Run(name, func(t *testing.T) {
			_, err := r.Import(background, "alpha", strings.NewReader(refused.export))
			var at *ImportError
			require.ErrorAs(t, err, &at)
			require.ErrorIs(t, err, refused.want)
			require.Equal(t, refused.line, at.Line)
			require.Empty(t, spaceIDs(r, ""))
			require.Empty(t, m.files(tmpDir))
			_, err = r.Get(background, "alpha")
			require.ErrorIs(t, err, ErrSpaceNotFound)
		})
	}
	imported(t, r, "alpha", importHeader)
	_, err := r.Import(background, "beta", strings.NewReader(`{"format":"engram-export","version":"1"}`))
	var invalid *InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "version", invalid.Field)
	for _, vector := range []string{"[1]", "[0,0]", "[]"} {
		_, err = r.Import(background, "beta", strings.NewReader(
			`{"format":"engram-export","version":1,"embedder":{"id":"m","dimension":2}}`+"\n"+`{"content":"x","vector":`+vector+`}`))
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "vector", invalid.Field, "as the line has it")
	}
	unread := &countingReader{}
	_, err = r.Import(background, "alpha", unread)
	require.ErrorIs(t, err, ErrSpaceExists)
	require.Zero(t, unread.reads)
	_, err = r.Import(background, "../x", unread)
	require.ErrorIs(t, err, ErrInvalidSpaceID)
}

// A line may be as long as its limit, whether a line feed is behind it or not.
func TestImportOfTheLongestLine(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, Options{})
	line := `{"content":"x"` + strings.Repeat(" ", maxExportLineBytes-len(`{"content":"x"}`)) + "}"
	for i, end := range []string{"", "\n"} {
		s := imported(t, r, SpaceID(fmt.Sprint("long-", i)), importHeader+line+end)
		require.Equal(t, int64(1), infoOf(t, s).Memories)
		_, err := r.Import(background, "longer", strings.NewReader(importHeader+line+" "+end))
		require.ErrorIs(t, err, ErrLimit)
	}
}

// countingReader yields memories for ever, each of a kilobyte.
type countingReader struct {
	reads int
	then  func(reads int) error
	left  []byte
}

func (c *countingReader) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		c.reads++
		if c.then != nil {
			if err := c.then(c.reads); err != nil {
				return 0, err
			}
		}
		c.left = []byte(importHeader)
		if c.reads > 1 {
			c.left = fmt.Appendf(nil, `{"id":"%d","content":%q}`+"\n", c.reads, strings.Repeat("x", 1000))
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// An import ends with its source, its context and its registry, and reads no
// more of the source than it has written, but a frame.
func TestImportEnds(t *testing.T) {
	broken := errors.New("the connection has gone")
	ctx, cancel := context.WithCancel(background)
	m := newMemoryFS()
	r := openMemory(t, m, Options{})
	for _, ending := range []struct {
		then func(reads int) error
		want error
	}{
		{func(reads int) error { return map[bool]error{true: broken}[reads == 1000] }, broken},
		{func(reads int) error {
			if reads == 1000 {
				written := 0
				for _, content := range m.files(tmpDir) {
					written += len(content)
				}
				require.Greater(t, written, 1000*1000-2*softFrameBytes)
				cancel()
			}
			return nil
		}, context.Canceled},
		{func(reads int) error {
			if reads == 10 {
				go func() { _ = r.Close() }()
			}
			return nil
		}, ErrClosed},
	} {
		use := ctx
		if !errors.Is(ending.want, context.Canceled) {
			use = background
		}
		_, err := r.Import(use, "alpha", &countingReader{then: ending.then})
		require.ErrorIs(t, err, ending.want)
		require.Empty(t, m.files(tmpDir))
	}
	require.NoError(t, r.Close())
}

func TestExportEnds(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	for i := range 10 {
		remember(t, s, Memory{ID: fmt.Sprint(i), Content: strings.Repeat("x", 5000)})
	}
	ctx, cancel := context.WithCancel(background)
	read, write := io.Pipe()
	go func() {
		_, _ = read.Read(make([]byte, 10))
		cancel()
		_, _ = io.Copy(io.Discard, read)
	}()
	_, err := s.Export(ctx, write)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, read.CloseWithError(io.ErrClosedPipe))
	_, err = s.Export(background, write)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	remember(t, s, Memory{Content: "small"})
	remember(t, s, Memory{Content: strings.Repeat("x", 5000)})
	name := "alpha/wal/00000001.wal"
	m.flipOpen(name, len(m.files(".")[name])-100)
	var precedes bytes.Buffer
	_, err = s.Export(background, &precedes)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Equal(t, 12, strings.Count(precedes.String(), "\n"), "the header and what precedes the damage")
}

// Cut before any of its calls, an import has left the whole space or nothing.
func TestCrashImport(t *testing.T) {
	t.Parallel()
	row := faultRow{"an import cut at each of its calls", "states", 1_800}
	forCrashSeeds(t, row, func(x *crashRun) { // with a checkpoint at its end, and without
		export := importHeader
		for i := range 60 {
			export += fmt.Sprintf(`{"id":"m%d","content":%q,"stored_at":"2026-01-01T00:00:00Z","time":"2026-01-01T00:00:00Z"}`+"\n", i, strings.Repeat("x ", 200+i))
		}
		for i := range 60 {
			export += fmt.Sprintf(`{"association":{"from":"m%d","to":"m%d","kind":"next","weight":0.5}}`+"\n", i, (i+1)%60)
		}
		found := map[bool]int{}
		for cut := 0; ; cut++ {
			calls, power := cut/2, cut%2 == 0
			y := x.fork()
			y.opts = Options{seams: seams{segmentBytes: 8000, checkpointBytes: []int64{1 << 20, 12_000}[x.seed%2]}}
			y.fs, y.journal = crashfs.New(), minJournalBytes
			require.NoError(x.t, y.begin())
			y.create("aaa")
			y.cut(calls)
			_, err := y.r.Import(background, "fresh", strings.NewReader(export))
			ended := y.fs.Ended()
			y.end(power)
			require.NoError(x.t, y.begin())
			s, missing := y.r.Get(background, "fresh")
			require.True(x.t, missing == nil || err != nil, "call %d", calls)
			found[missing == nil]++
			y.row.count(1)
			if missing == nil {
				got, _ := exported(x.t, s)
				want := imported(x.t, y.r, "again", export)
				again, _ := exported(x.t, want)
				require.Equal(x.t, again, got, "call %d", calls)
				require.Equal(x.t, int64(60), infoOf(x.t, s).Memories)
				require.EqualValues(x.t, 60, s.Stats().Content.Associations)
			}
			y.power = false
			y.end(false)
			if !ended && !power {
				break
			}
		}
		require.Greater(x.t, found[false], 10)
		require.Greater(x.t, found[true], 1)
	})
}

// Whatever is imported is refused, or exports to what imports to the same.
func FuzzImport(f *testing.F) {
	for _, refused := range refusedImports() {
		if len(refused.export) < 1000 {
			f.Add([]byte(refused.export))
		}
	}
	f.Add([]byte(importHeader + `{"id":"a","content":"x","time":"2026-01-02T03:04:05.000000006Z","episode":"e","attributes":{"k":"v"},"embedding":[1,-0.5],"confidence":0.5,"kind":"semantic"}`))
	f.Add([]byte(importHeader + `{"id":"a","content":"x"}` + "\n" + `{"id":"b","content":"x"}` + "\n" +
		`{"association":{"from":"b","to":"a","kind":"causes","weight":0.25}}` + "\n" + `{"association":{"from":"a","to":"b","weight":1}}`))
	f.Fuzz(func(t *testing.T, export []byte) {
		r, m := newRegistry(t, Options{})
		s, err := r.Import(background, "alpha", bytes.NewReader(export))
		if err != nil {
			var at *ImportError
			require.ErrorAs(t, err, &at)
			require.Empty(t, m.files("alpha"))
			return
		}
		first, _ := exported(t, s)
		second, _ := exported(t, imported(t, r, "beta", first))
		require.Equal(t, first, second)
	})
}

// A space that is deleted while an export settles it is gone, not failing.
func TestExportOvertakenByDelete(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{Durability: None})
	s := create(t, r, "alpha")
	remember(t, s, Memory{Content: "x"})
	deleted := false
	f.SetHook(func(c crashfs.Call) error {
		if c.Op == crashfs.OpOpen && path.Base(c.Name) == spaceFile && !deleted {
			deleted = true
			require.NoError(t, r.Delete(background, "alpha"))
		}
		return nil
	})
	_, err := s.Export(background, io.Discard)
	require.ErrorIs(t, err, ErrSpaceDeleted)
	require.NoError(t, r.Close())
}

// panickingReader is a source that fails its caller.
type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("no source") }

// A source that panics leaves the id free, and nothing that Close waits for: who
// recovers from it goes on.
func TestImportFromASourceThatPanics(t *testing.T) {
	r, m := newRegistry(t, Options{})
	header := `{"format":"engram-export","version":1,"config":{}}` + "\n"
	for _, src := range []io.Reader{panickingReader{}, io.MultiReader(strings.NewReader(header), panickingReader{})} {
		require.PanicsWithValue(t, "no source", func() { _, _ = r.Import(background, "alpha", src) })
		_, err := r.Get(background, "alpha")
		require.ErrorIs(t, err, ErrSpaceNotFound)
		require.Empty(t, m.files(tmpDir))
	}
	create(t, r, "alpha")
}
