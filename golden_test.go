package engram

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The golden directories are data directories of each format version that was
// released, as a killed process left them. They are opened forever. -update
// writes that of the present version anew; once released it is never written again.
const (
	goldenRoot    = "testdata/golden"
	goldenVersion = "v1"
	goldenData    = "data"
	goldenAnswers = "answers.json"
)

// goldenSpace is what a space of a golden directory answers. Activations are
// not in it: scoring may change, what is stored may not.
type goldenSpace struct {
	Info         SpaceInfo         `json:"info"`
	Memories     []Memory          `json:"memories"`     // all of them, with everything
	Associations []Association     `json:"associations"` // all of them, by where they come from
	Vectors      []string          `json:"vectors"`      // of memories: the id, whose it is, and whose the next one
	Missing      []string          `json:"missing"`      // ids that were forgotten
	First        map[string]string `json:"first"`        // the id that a word brings to mind first
	Repeated     goldenRepetition  `json:"repeated"`     // a request that was seen before
	Journal      bool              `json:"journal"`      // part of it is above the mark, in the journal
	MarkSeq      uint64            `json:"mark_seq"`     // as found
	FromSeq      uint64            `json:"from_seq"`     // of the checkpoint; 0 for none
	LastSeq      uint64            `json:"last_seq"`     // as recovered
}

type goldenRepetition struct {
	RequestID string  `json:"request_id"`
	Memory    Memory  `json:"memory"`
	Receipt   Receipt `json:"receipt"`
}

func goldenTime(minutes int) time.Time {
	return time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
}

func goldenOptions(m *memoryFS) Options {
	created := byte(0)
	return Options{
		Clock: newStepClock(), JournalBytes: minJournalBytes,
		seams: seams{fs: m, segmentBytes: 2048, newIdentity: func() (identity, error) {
			created++
			id := exampleIdentity()
			id.incarnation[15], id.key = created, id.key+uint64(created)
			return id, nil
		}},
	}
}

// buildGolden makes the present version's data directory: a space with a
// checkpoint, segments of both kinds and a log behind them, another with
// nothing but a log, and the journal of both, which nothing has settled.
func buildGolden(t *testing.T) (*memoryFS, map[SpaceID]*goldenSpace) {
	t.Helper()
	m := newMemoryFS()
	r := openMemory(t, m, goldenOptions(m))
	gardener, err := r.Create(background, "gardener", SpaceConfig{MaxMemories: 10_000, MaxBytes: 1 << 20, TextK1: 1.5, TextB: 0.5, AutoAssociate: 2})
	require.NoError(t, err)
	for i, content := range []string{
		"The pear tree by the gate was planted in spring.", "Slugs ate the first lettuce.", "Rain filled the barrel to the brim.",
		"Naïve café owners buy the zucchini — 12 € a crate.", "Wasps nest under the shed's roof.", "日本の大根 grows well here.",
	} {
		remember(t, gardener, Memory{
			ID: "g" + string(rune('0'+i)), Content: content, Time: goldenTime(i), Episode: "season " + string(rune('1'+i/3)),
			Attributes: map[string]string{"bed": string(rune('a' + i%2)), "note": ""}, Embedding: []float32{float32(i), -1, 0.25},
		})
	}
	associate(t, gardener, "g0", "g1", "beside", 0.75)
	associate(t, gardener, "g1", "g0", "", 0.1)
	associate(t, gardener, "g2", "g0", "forgotten with it", 1)
	remember(t, gardener, Memory{ID: "g1", Content: "Slugs ate the second lettuce, too.", Time: goldenTime(1), Confidence: 0.25, Kind: Semantic})
	forget(t, gardener, "g2", "g4")
	require.NoError(t, gardener.Checkpoint(background))
	remember(t, gardener, Memory{Content: "An id was not given for this one.", Time: goldenTime(20)})
	associate(t, gardener, "g5", "g3", "sold at", 1)
	_, err = gardener.Dissociate(background, Association{From: "g1", To: "g0"})
	require.NoError(t, err)
	require.NoError(t, r.Settle(background))

	visitor := create(t, r, "visitor_1")
	remember(t, visitor,
		Memory{ID: "g0", Content: "The gate was open.", Time: goldenTime(30)},
		Memory{ID: "g1", Content: "Nobody was in the garden.", Time: goldenTime(31)})
	_, err = visitor.ForgetWhere(background, Filter{After: goldenTime(31), Before: goldenTime(32)})
	require.NoError(t, err)

	buildGoldenVectors(t, create(t, r, "translator"))

	answers := map[SpaceID]*goldenSpace{
		"gardener":   {Missing: []string{"g2", "g4", "g6"}, First: map[string]string{"pears": "g0", "slugs": "g1", "café": "g3", "大根": "g5", "apples": "g7"}},
		"visitor_1":  {Missing: []string{"g1", "g2"}, First: map[string]string{"gate": "g0"}},
		"translator": {Missing: []string{"g2"}, First: map[string]string{"hund": "g1"}},
	}
	for id, a := range answers {
		request := goldenRepetition{RequestID: "request of " + string(id), Memory: Memory{ID: "g7", Content: "Apples at last.", Time: goldenTime(40)}}
		if id == "visitor_1" {
			request.Memory = Memory{Content: "A note was left at the door.", Time: goldenTime(41)}
		}
		request.Receipt, err = get(t, r, id).Remember(background, request.Memory, RequestID(request.RequestID))
		require.NoError(t, err)
		a.Repeated = request
	}
	killed := m.clone()
	require.NoError(t, r.Close())
	return killed, answers
}

// buildGoldenVectors has the space embedded three times, the last one not to its
// end: the first vectors are gone, and of the last some are in the checkpoint, some
// behind it.
func buildGoldenVectors(t *testing.T, s *Space) {
	t.Helper()
	for i, content := range []string{"The cat, die Katze.", "The dog, der Hund.", "The bird, der Vogel.", "The tree, der Baum."} {
		remember(t, s, Memory{ID: "g" + string(rune('0'+i)), Content: content, Time: goldenTime(50 + i)})
	}
	require.NoError(t, s.adopt(background, crashEmbedder(1)))
	embedAll(t, s, crashEmbedder(1), 3)
	_, err := s.reembed(background, crashEmbedder(2))
	require.NoError(t, err)
	embedAll(t, s, crashEmbedder(2), 2)
	require.NoError(t, s.switchVectors(background, s.awake.Load().store.view()))
	_, err = s.reembed(background, crashEmbedder(3))
	require.NoError(t, err)
	some := func() {
		texts, err := s.withoutVector(background, crashEmbedder(3), 1, nil, embeddedRange{})
		require.NoError(t, err)
		require.NoError(t, s.embed(background, crashEmbedder(3), &texts))
	}
	some()
	forget(t, s, "g2")
	require.NoError(t, s.Checkpoint(background))
	some()
}

// writeGolden writes the data directory, without what opening makes anew and
// without the zeros behind what the journal's files hold, and its answers.
func writeGolden(t *testing.T) {
	t.Helper()
	killed, answers := buildGolden(t)
	dir := filepath.Join(goldenRoot, goldenVersion)
	require.NoError(t, os.RemoveAll(dir))
	stored := killed.clone()
	stored.put(reserveFile, nil)
	for name, content := range stored.files(journalDir) {
		if name != headName {
			stored.put(path.Join(journalDir, name), bytes.TrimRight(content, "\x00"))
		}
	}
	stored.write(t, filepath.Join(dir, goldenData))

	// Read-only: otherwise the background may have completed a log before it is asked.
	r := openMemory(t, killed, Options{ReadOnly: true})
	for id, a := range answers {
		fillGolden(t, r, id, a)
	}
	require.NoError(t, r.Close())
	b, err := json.MarshalIndent(answers, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, goldenAnswers), append(b, '\n'), 0o644))
}

// fillGolden asks the space everything but what the caller knows.
func fillGolden(t *testing.T, r *Registry, id SpaceID, a *goldenSpace) {
	t.Helper()
	s := get(t, r, id)
	a.Memories = list(t, s, Filter{})
	vectors := make(crashState)
	for _, m := range a.Memories {
		vectors[m.ID] = crashMemory{content: m.Content}
	}
	require.NoError(t, readVectors(s, vectors))
	a.Vectors = nil
	for _, m := range a.Memories {
		if made := vectors[m.ID]; made.vector != "" || made.next != "" {
			a.Vectors = append(a.Vectors, m.ID+" "+made.vector+" "+made.next)
		}
	}
	a.Associations = nil
	for _, m := range a.Memories {
		for _, association := range associationsOf(t, s, m.ID) {
			if association.From == m.ID {
				a.Associations = append(a.Associations, association)
			}
		}
	}
	a.Info = s.Info()
	report := s.Stats().Operator.Recovery
	a.Journal, a.MarkSeq, a.FromSeq, a.LastSeq = report.FromJournal > 0, report.MarkSeq, report.CheckpointSeq, report.LastSeq
}

// copyGolden copies a golden data directory, as opening writes, and puts the
// zeros back that the journal's files were made with.
func copyGolden(t *testing.T, version string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), goldenData)
	require.NoError(t, os.CopyFS(to, os.DirFS(filepath.Join(goldenRoot, version, goldenData))))
	files, err := os.ReadDir(filepath.Join(to, journalDir))
	require.NoError(t, err)
	for _, file := range files {
		if file.Name() != headName {
			require.NoError(t, os.Truncate(filepath.Join(to, journalDir, file.Name()), minJournalBytes))
		}
	}
	return to
}

func readGoldenAnswers(t *testing.T, version string) map[SpaceID]goldenSpace {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenRoot, version, goldenAnswers))
	require.NoError(t, err)
	var answers map[SpaceID]goldenSpace
	require.NoError(t, json.Unmarshal(b, &answers))
	return answers
}

func goldenVersions(t *testing.T) []string {
	t.Helper()
	if *update {
		writeGolden(t)
	}
	entries, err := os.ReadDir(goldenRoot)
	require.NoError(t, err)
	var versions []string
	for _, e := range entries {
		versions = append(versions, e.Name())
	}
	require.Contains(t, versions, goldenVersion)
	return versions
}

// Every released format is read: read-only without changing a byte, and for
// writing, as often as one likes.
func TestGolden(t *testing.T) {
	for _, version := range goldenVersions(t) {
		t.Run(version, func(t *testing.T) {
			dir, answers := copyGolden(t, version), readGoldenAnswers(t, version)
			before := treeHash(t, dir)
			report, err := Check(background, dir)
			require.NoError(t, err)
			require.Equal(t, CheckRecoverable, report.Verdict, report)
			r := openIn(t, dir, Options{ReadOnly: true})
			requireGolden(t, r, answers, true)
			require.NoError(t, r.Close())
			require.Equal(t, before, treeHash(t, dir))

			for range 2 {
				r := openIn(t, dir, Options{JournalBytes: minJournalBytes})
				requireGolden(t, r, answers, false)
				for id, a := range answers {
					receipt, err := get(t, r, id).Remember(background, a.Repeated.Memory, RequestID(a.Repeated.RequestID))
					require.NoError(t, err)
					require.Equal(t, a.Repeated.Receipt, receipt)
				}
				require.NoError(t, r.Close())
			}
			report, err = Check(background, dir)
			require.NoError(t, err)
			require.Equal(t, CheckClean, report.Verdict, report)
		})
	}
}

// requireGolden holds the registry to the answers; asFound says that nothing
// can have completed its logs before.
func requireGolden(t *testing.T, r *Registry, answers map[SpaceID]goldenSpace, asFound bool) {
	t.Helper()
	require.Len(t, spaceIDs(r, ""), len(answers))
	for id, want := range answers {
		s := get(t, r, id)
		got := goldenSpace{Missing: want.Missing, First: want.First, Repeated: want.Repeated}
		fillGolden(t, r, id, &got)
		if !asFound {
			got.Journal, got.MarkSeq = want.Journal, want.MarkSeq
		}
		require.Equal(t, want, got, id)
		for _, id := range want.Missing {
			_, err := s.Lookup(background, id)
			require.ErrorIs(t, err, ErrMemoryNotFound)
		}
		for word, id := range want.First {
			recalled := recalledIDs(recall(t, s, Cue{Text: word}))
			require.NotEmpty(t, recalled, word)
			require.Equal(t, id, recalled[0], word)
		}
	}
}

// The golden directory has what it is there for.
func TestGoldenHolds(t *testing.T) {
	goldenVersions(t)
	dir := filepath.Join(goldenRoot, goldenVersion, goldenData)
	segments := map[uint16]int{}
	checkpoints, total := 0, 0
	require.NoError(t, filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		total += len(content)
		if strings.HasPrefix(entry.Name(), "checkpoint-") {
			checkpoints++
		}
		if strings.HasSuffix(entry.Name(), walSuffix) {
			h, errHeader := decodeSegmentHeader(content)
			segments[h.kind]++
			requireReencoded(t, h, content)
			return errors.Join(err, errHeader)
		}
		return err
	}))
	require.Positive(t, checkpoints)
	require.Positive(t, segments[kindLog])
	require.Positive(t, segments[kindBodies])
	require.Less(t, total, 128<<10, "bytes in the repository")
	answers := readGoldenAnswers(t, goldenVersion)
	for id, a := range answers {
		require.True(t, a.Journal, id)
		require.Less(t, a.MarkSeq, a.LastSeq, id)
	}
	require.Positive(t, answers["gardener"].FromSeq)
	require.Equal(t, []string{"g0 meanings-2 ", "g1 meanings-2 meanings-3", "g3 meanings-2 meanings-3"}, answers["translator"].Vectors)
}

// requireReencoded requires that the present code writes what is in the segment.
func requireReencoded(t *testing.T, h segmentHeader, content []byte) {
	t.Helper()
	require.Equal(t, content[:segmentHeaderBytes], encodeSegmentHeader(h))
	for b := content[segmentHeaderBytes:]; len(b) > 0; {
		f, n, err := decodeFrame(b, h.identity.key)
		require.NoError(t, err)
		records := f.payload
		for i := range uint64(f.count) {
			seq := f.firstSeq + i
			if f.kind == kindBodies {
				seq, records = bodySeq(records)
			}
			size, err := splitRecord(records)
			require.NoError(t, err)
			op, err := decodeOperation(records[:size], h.identity.key, seq)
			require.NoError(t, err)
			record := encodeOperation(&op)
			sealOperation(record, h.identity.key, seq, "", op.replaced)
			require.Equal(t, records[:size], record)
			records = records[size:]
		}
		require.Empty(t, records)
		b = b[n:]
	}
}

// bodySeq reads the seq before a record of a frame of kind bodies.
func bodySeq(b []byte) (uint64, []byte) { return binary.LittleEndian.Uint64(b), b[8:] }
