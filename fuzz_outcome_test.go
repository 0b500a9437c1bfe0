package engram

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What becomes of each named seed. A fuzz target only judges what was accepted;
// it would not see that too much, or too little, is.

func TestFuzzSeedsOfOperation(t *testing.T) {
	unknown := []string{"unknown-field", "filter-in-filter"}
	accepted := []string{"configure", "remember", "forget-ids", "forget-filter", "associate", "dissociate", "linked", "configure-links", "no-fields", "optional-field", "length-not-minimal", "attributes-many-empty", "embed", "embedder", "reembed", "switch", "partition", "partition-none"}
	for name, seed := range operationSeeds() {
		_, err := decodeOperation(seed[0].([]byte), seed[1].(uint64), seed[2].(uint64))
		switch {
		case slices.Contains(accepted, name):
			require.NoError(t, err, name)
		case slices.Contains(unknown, name):
			require.ErrorIs(t, err, errUnknownVersion, name)
		default:
			require.ErrorIs(t, err, errNotOperation, name)
		}
	}
}

func TestFuzzSeedsOfFrame(t *testing.T) {
	accepted := []string{"intact", "two", "length-changes"}
	for name, seed := range frameSeeds() {
		_, _, err := decodeFrame(seed[0].([]byte), seed[1].(uint64))
		if slices.Contains(accepted, name) {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, errNotFrame, name)
		}
	}
}

func TestFuzzSeedsOfCheckpoint(t *testing.T) {
	accepted := []string{"intact", "no-memories", "section-optional", "associations", "vectors", "partition"}
	for name, seed := range checkpointSeeds() {
		content := sealCheckpoint(seed[0].([]byte))
		_, err := decodeCheckpoint(content, exampleIdentity())
		switch {
		case slices.Contains(accepted, name):
			require.NoError(t, err, name)
		case name == "section-unknown" || name == "other-analyzer" || name == "analyzer-unknown":
			require.ErrorIs(t, err, errUnknownVersion, name)
		default:
			require.ErrorIs(t, err, errCheckpoint, name)
		}
	}
}

// What becomes of each seed of SPACE: a target that only compares what it
// accepts would not see that it accepts too much, or too little.
func TestFuzzSeedsOfSpaceFile(t *testing.T) {
	accepted := map[string]uint64{ // with the state of that counter
		"intact": 5, "identity-first": 5, "identity-second": 5, "slot-newer-damaged": 4,
		"slot-older-damaged": 5, "slots-swapped": 5, "renaming": 5, "version-damaged": 5,
		// A name that is none makes its slot damaged.
		"name-too-long": 4, "name-invalid": 4,
	}
	for name, seed := range spaceFileSeeds() {
		_, state, err := decodeSpaceFile(seed[0].([]byte))
		if counter, ok := accepted[name]; ok {
			require.NoError(t, err, name)
			require.Equal(t, counter, state.counter, name)
			continue
		}
		require.Error(t, err, name)
		requireSpaceFileError(t, err)
		require.Equal(t, name == "version-unknown", errors.Is(err, ErrVersion), name)
	}
}

// The same for segments: how many operations each has, and whether it is damaged.
func TestFuzzSeedsOfSegment(t *testing.T) {
	type outcome struct {
		seq     uint64
		damaged bool
		verdict Verdict
	}
	all := uint64(len(fuzzOperations()))
	expected := map[string]outcome{
		"settled":               {all, false, Clean},
		"tail":                  {all, false, Completed},
		"zeros-behind":          {all, false, TornTail},
		"old-frame-behind":      {all, false, TornTail},
		"torn-in-frame":         {4, false, TornTail},
		"torn-at-frame":         {5, false, Completed},
		"frame-damaged-above":   {4, false, TornTail},
		"frame-missing":         {3, false, TornTail},
		"frame-twice":           {3, false, TornTail},
		"frames-swapped":        {2, false, TornTail},
		"byte-inserted":         {3, false, TornTail},
		"lying-length":          {3, false, TornTail},
		"cut-below-mark":        {0, true, Refused},
		"frame-damaged-settled": {3, true, Refused},
		"frames-swapped-marked": {3, true, Refused},
		"frame-replaced-marked": {3, true, Refused},
		"header-damaged":        {0, true, Refused},
		"header-only":           {0, true, Refused},
		"empty":                 {0, true, Refused},
		"fewer-operations":      {1, false, TornTail},
	}
	_, ends := fuzzSegment(fuzzOperations())
	for name, seed := range segmentSeeds() {
		r := recoverSegment(t, segmentSpace(seed[0].([]byte), ends[seed[1].(byte)]), false)
		found := outcome{r.store.seq, r.damage != nil, r.report.Verdict}
		require.Equal(t, expected[name], found, name)
	}
}

func TestFuzzSeedsOfJournal(t *testing.T) {
	type outcome struct {
		frames  int // accepted
		damaged int // of them
		failed  bool
	}
	all := len(fuzzOperations())
	expected := map[string]outcome{
		"intact":              {all, 0, false},
		"head-first-damaged":  {all, 0, false},
		"head-second-damaged": {all, 0, false},
		"head-cut":            {all, 0, false},
		"torn-in-table":       {all - 2, 0, false},
		"torn-in-frame":       {all - 2, 0, false},
		"last-frame-damaged":  {all - 2, 0, false},
		"frame-damaged":       {all, 1, false},
		"group-twice":         {0, 0, true},
		"no-groups":           {0, 0, false},
		"tags-only":           {0, 0, false},
		"another-generation":  {0, 0, false},
	}
	for name, seed := range journalSeeds() {
		want, ok := expected[name]
		if !ok {
			want = outcome{failed: true}
		}
		var got outcome
		j, err := openFuzzedJournal(t, seed[0].([]byte), seed[1].([]byte), false)
		if got.failed = err != nil; !got.failed {
			frames, err := j.collect(exampleIdentity().incarnation)
			require.NoError(t, err)
			got.frames = len(frames)
			for _, f := range frames {
				if f.bytes == nil {
					got.damaged++
				}
			}
			require.NoError(t, j.close())
		}
		require.Equal(t, want, got, "%s: %v", name, err)
	}
}
