package engram

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the sections of vectors say of themselves must be possible, whole as their
// checksums are.
func TestDamageCheckpointVectors(t *testing.T) {
	_, err := decodeCheckpoint(reembeddedCheckpoint(), exampleIdentity())
	require.NoError(t, err)
	zeros := func(n int) []byte { return make([]byte, n) }
	for name, c := range map[string]struct {
		kind uint32
		at   int
		with []byte
	}{
		"no generation":            {sectionDerived, 0, zeros(8)},
		"an id of the embedder":    {sectionDerived, 9, []byte{1}},
		"a row less":               {sectionDerived, 10, []byte{1}},
		"a row more":               {sectionDerived, 10, []byte{3}},
		"a document not there":     {sectionDerived, 18, []byte{3}},
		"a document twice":         {sectionDerived, 18, []byte{0}},
		"one without a vector":     {sectionDerived, 18, []byte{2}},
		"a later seq":              {sectionDerived, 22, []byte{10}},
		"a record too long":        {sectionDerived, 54, []byte{0xff, 0xff, 0xff, 0xff}},
		"next: a row less":         {sectionNext, 0, []byte{1}},
		"next: a row more":         {sectionNext, 0, []byte{3}},
		"next: no dimension":       {sectionNext, 4, zeros(4)},
		"next: dimension":          {sectionNext, 4, []byte{1, 0x10}},
		"next: another dimension":  {sectionNext, 4, []byte{65}},
		"next: a scale":            {sectionNext, 99, []byte{0xff}},
		"next: a document":         {sectionNext, 116, []byte{3}},
		"next: a document twice":   {sectionNext, 116, []byte{0}},
		"next: a later seq":        {sectionNext, 128, []byte{10}},
		"next: a record too long":  {sectionNext, 152, []byte{0xff, 0xff, 0xff, 0xff}},
		"next: no generation":      {sectionNext, 160, zeros(8)},
		"next: the present one":    {sectionNext, 160, []byte{1}},
		"next: a later generation": {sectionNext, 160, []byte{10}},
		"next: id of the embedder": {sectionNext, 169, []byte{1}},
		"next: no id":              {sectionNext, 168, []byte{0}},
	} {
		_, err := decodeCheckpoint(reembeddedWith(c.kind, c.at, c.with...), exampleIdentity())
		require.ErrorIs(t, err, errCheckpoint, name)
	}
	for kind, name := range map[uint32]string{sectionDerived: "present", sectionNext: "next"} {
		b := reembeddedCheckpoint()
		i := map[uint32]int{sectionDerived: 7, sectionNext: 8}[kind]
		b = append(b, 0)
		e := b[checkpointHeaderBytes+i*sectionEntryBytes:]
		if kind == sectionDerived { // the byte behind it is one between the two
			b = b[:len(b)-1]
		}
		e[16]++
		_, err := decodeCheckpoint(sealCheckpoint(b), exampleIdentity())
		require.ErrorIs(t, err, errCheckpoint, "%s: a byte behind", name)
	}
}

// Damage of anything that vectors are in is noticed, or changes no answer.
func TestDamageOfVectors(t *testing.T) {
	t.Parallel()
	m := newMemoryFS()
	r := openMemory(t, m, damageOptions(m, false))
	s := create(t, r, damagedSpace)
	for i := range 12 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprint("cup ", i, " of the dog")})
	}
	e, next := crashEmbedder(1), crashEmbedder(2)
	require.NoError(t, s.adopt(background, e))
	embedAll(t, s, e, 5)
	_, err := s.reembed(background, next)
	require.NoError(t, err)
	texts, err := s.withoutVector(background, next, 8, nil, embeddedRange{})
	require.NoError(t, err)
	require.NoError(t, s.embed(background, next, &texts))
	forget(t, s, "m3")
	require.NoError(t, s.Checkpoint(background))
	remember(t, s, Memory{ID: "m20", Content: "a canine"})
	embedAll(t, s, e, 5)
	require.NoError(t, r.Close())

	ask := func(m *memoryFS) (answers [][]Recollection, err error) {
		opts := damageOptions(m, true)
		opts.Embedder = e
		r, err := Open("", opts)
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Close()) }()
		s := get(t, r, damagedSpace)
		for _, text := range []string{"dog", "cup 7", "canine"} {
			answer, err := s.Recall(background, Cue{Text: text, Limit: 20})
			if err != nil {
				return nil, err
			}
			answers = append(answers, answer.Recollections)
		}
		report, err := s.Verify(background)
		if err == nil && len(report.Spare) > 0 {
			err = errSpare
		}
		return answers, err
	}
	want, err := ask(m)
	require.NoError(t, err)
	require.Positive(t, want[0][0].Why.Vector)
	files := m.files(".")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, string(damagedSpace)+"/") {
			continue
		}
		noticed, content := 0, files[name]
		for at := 0; at < len(content); at += max(len(content)/scaled(60), 1) {
			b := bytes.Clone(content)
			b[at] ^= 1 << (at % 8)
			damaged := m.clone()
			damaged.put(name, b)
			got, err := ask(damaged)
			switch {
			case errors.Is(err, errSpare):
				require.Equal(t, spaceFile, path.Base(name))
				noticed++
			case err != nil:
				require.ErrorIs(t, err, ErrCorrupt, "%s at %d", name, at)
				noticed++
			default:
				require.Equal(t, want, got, "%s at %d", name, at)
			}
		}
		require.Positive(t, noticed, name)
	}
}

var errSpare = errors.New("a copy is damaged")

// So must what the section of a partition says, of itself and of the rows.
func TestDamageCheckpointPartition(t *testing.T) {
	c, err := decodeCheckpoint(partitionedCheckpoint(), exampleIdentity())
	require.NoError(t, err)
	x := &c.image.present.vectors
	require.Equal(t, column32(appendU32(appendU32(appendU32(nil, 1), 3), 3)), x.ends)
	require.Equal(t, column32(appendU32(appendU32(appendU32(nil, 1), 0), 2)), x.documents)
	require.Equal(t, []int{1, 0, 2}, []int{x.row(0), x.row(1), x.row(2)})
	for name, c := range map[string]struct {
		kind uint32
		at   int
		with []byte
	}{
		"a later seq":              {sectionPartition, 0, []byte{5}},
		"trained on less than no":  {sectionPartition, 15, []byte{0x80}},
		"a gap below none":         {sectionPartition, 23, []byte{0xbf}},
		"a gap beyond any":         {sectionPartition, 22, []byte{0x14, 0x40}},
		"a gap that is no number":  {sectionPartition, 22, []byte{0xf8, 0x7f}},
		"nothing scanned":          {sectionPartition, 24, []byte{0}},
		"more scanned than there":  {sectionPartition, 24, []byte{8}},
		"no depth":                 {sectionPartition, 28, []byte{0}},
		"deeper than there":        {sectionPartition, 28, []byte{8}},
		"no leaves":                {sectionPartition, 32, []byte{0}},
		"a leaf less":              {sectionPartition, 32, []byte{2}},
		"a leaf more":              {sectionPartition, 32, []byte{4}},
		"a leaf that begins later": {sectionPartition, 36, []byte{2}},
		"a leaf before another":    {sectionPartition, 40, []byte{0}},
		"rows behind the last":     {sectionPartition, 44, []byte{2}},
		"a row more than there":    {sectionPartition, 44, []byte{4}},
		"no groups":                {sectionPartition, 48, []byte{0}},
		"a group without a leaf":   {sectionPartition, 56, []byte{0}},
		"a scale":                  {sectionPartition, 131, []byte{0xff}},
		"a document not there":     {sectionVectors, 164, []byte{3}},
		"a document twice":         {sectionVectors, 164, []byte{2}},
		"documents not in order":   {sectionVectors, 168, []byte{2, 0, 0, 0, 0}},
	} {
		_, err := decodeCheckpoint(changedSection(partitionedCheckpoint(), c.kind, c.at, c.with...), exampleIdentity())
		require.ErrorIs(t, err, errCheckpoint, name)
	}
}
