package engram

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// rememberIn returns a drawn operation that remembers.
func rememberIn(t *rapid.T, id string) operation {
	m := Memory{
		ID: id, Kind: Episodic, Time: time.Unix(rapid.Int64Range(0, 5).Draw(t, "time"), 0),
		Content:    rapid.StringMatching(`(Ann: )?([abc] ){1,3}`).Draw(t, "content"),
		Episode:    rapid.SampledFrom([]string{"", "d", "e", "f"}).Draw(t, "episode"),
		Attributes: rapid.MapOfN(rapid.SampledFrom([]string{"k", "l"}), rapid.SampledFrom([]string{"v", "w"}), 0, 2).Draw(t, "attributes"),
	}
	if rapid.Bool().Draw(t, "embedded") {
		m.Embedding = []float32{1, 2, 3, 4, 5, 6, 7, rapid.Float32Range(-1, 1).Draw(t, "x")}
	}
	return operation{kind: opRemember, memory: m, analysis: English.analyzeMemory(m.Content)}
}

// foundIn returns what the view finds by ids, by time, and by episodes with what
// is counted of each, as seqs.
func foundIn(v *view) (found []uint64) {
	for i := range 9 {
		if d, has := v.lookup(fmt.Sprint("m", i)); has {
			found = append(found, v.seqOf(d))
		}
	}
	v.scan(&Filter{}, func(d uint32) bool {
		found = append(found, v.seqOf(d))
		if e := v.episodeOf(d); e != 0 {
			use := v.episodeUse(e)
			found = append(found, uint64(use.documents), uint64(use.tokens))
			for _, m := range v.members(nil, e) {
				found = append(found, v.seqOf(m))
			}
		}
		return true
	})
	return found
}

// A store that changes its image again and again, while operations go on, says the
// same as one that has never had any.
func TestSuccessorFollowsTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moving, still := newStore(), newStore()
		var next *successor
		seq := uint64(0)
		apply := func(op operation) {
			seq++
			op.seq, op.record = seq, locator{segment: 1, offset: int64(100 * seq), length: 100}
			for _, s := range []*store{moving, still} {
				own := op
				s.apply(&own)
				s.publish()
			}
		}
		id := func() string { return fmt.Sprint("m", rapid.IntRange(0, 8).Draw(t, "id")) }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				a, b := moving.digested(), still.digested()
				require.Equal(t, b.sum(), a.sum())
				require.Equal(t, foundIn(still.view()), foundIn(moving.view()))
			},
			"remember": func(t *rapid.T) { apply(rememberIn(t, id())) },
			"replace": func(t *rapid.T) {
				for range 3 {
					apply(rememberIn(t, id()))
				}
			},
			"forget": func(t *rapid.T) { apply(operation{kind: opForget, ids: []string{id(), id()}}) },
			"begin": func(t *rapid.T) {
				if next != nil {
					return
				}
				c, err := decodeCheckpoint(encodeStore(moving, mark{seq: seq, segment: 1, offset: segmentHeaderBytes}, nil), exampleIdentity())
				require.NoError(t, err)
				next = newSuccessor(c.image, &moving.view().recent)
			},
			"follow": func(*rapid.T) {
				if next != nil {
					next.follow(&moving.view().recent)
				}
			},
			"rebase": func(*rapid.T) {
				if next != nil {
					moving.rebase(next, nil, nil)
					next = nil
				}
			},
		})
	})
}

// A switch of vectors while a checkpoint ends leaves none of the earlier ones, which
// are of another dimension, beside those that come later.
func TestSuccessorOutlivesASwitch(t *testing.T) {
	s, seq := newStore(), uint64(0)
	apply := func(op operation) {
		seq++
		op.seq, op.record = seq, locator{segment: 1, offset: int64(100 * seq), length: 100}
		s.apply(&op)
		s.publish()
	}
	say := func(id string, embedding ...float32) {
		apply(operation{kind: opRemember, memory: Memory{ID: id, Time: time.Unix(0, 0), Kind: Episodic, Embedding: embedding}})
	}
	say("imaged", 1, 2)
	c, err := decodeCheckpoint(encodeStore(s, mark{seq: seq, segment: 1, offset: segmentHeaderBytes}, nil), exampleIdentity())
	require.NoError(t, err)
	say("copied", 3, 4)
	next := newSuccessor(c.image, &s.view().recent)
	next.follow(&s.view().recent)
	say("imaged")
	say("copied")
	apply(operation{kind: opReembed, embedder: "x", dimension: 100})
	apply(operation{kind: opSwitch, generation: seq, embedder: "x"})
	before, behind := vector(100), vector(100)
	before[1], behind[2] = 1, 1
	say("before", before...)
	s.rebase(next, nil, nil)
	say("behind", behind...)

	v := s.view()
	require.Equal(t, int64(2), v.vectors)
	for id, embedding := range map[string][]float32{"before": before, "behind": behind} {
		d, found := v.lookup(id)
		require.True(t, found)
		codes, row := v.codesOf(d)
		require.Equal(t, 2, codes.Rows())
		require.Equal(t, s.rotations.encode(embedding).Fine, codes.Slice(row, row+1).Fine, id)
	}
}
