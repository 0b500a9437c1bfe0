package engram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/rabitq"
)

// seeds are the inputs of one fuzz target, by name.
type seeds map[string][]any

// fuzzSeeds are the named seeds under testdata/fuzz, by target: what is intact,
// and each way to be damaged that some rule of docs/format.md is about.
func fuzzSeeds() map[string]seeds {
	return map[string]seeds{
		"FuzzFrame":      frameSeeds(),
		"FuzzOperation":  operationSeeds(),
		"FuzzSegment":    segmentSeeds(),
		"FuzzDump":       dumpSeeds(),
		"FuzzCheckpoint": checkpointSeeds(),
		"FuzzSpaceFile":  spaceFileSeeds(),
		"FuzzJournal":    journalSeeds(),
	}
}

func frameSeeds() seeds {
	_, encoded := exampleFrames()
	b, key := encoded[1], exampleIdentity().key
	with := func(change func(b []byte) []byte) []any {
		return []any{change(bytes.Clone(b)), key, uint32(7), byte(1)}
	}
	return seeds{
		"intact":       with(func(b []byte) []byte { return b }),
		"two":          with(func(b []byte) []byte { return slices.Concat(encoded[0], b) }),
		"empty":        with(func([]byte) []byte { return nil }),
		"zeros":        with(func([]byte) []byte { return make([]byte, 64) }),
		"header-only":  with(func(b []byte) []byte { return b[:frameHeaderBytes] }),
		"torn":         with(func(b []byte) []byte { return b[:len(b)-9] }),
		"lying-length": with(func(b []byte) []byte { return putU32(b, 0, maxFrameBytes) }),
		"over-limit":   with(func(b []byte) []byte { return putU32(b, 0, 1<<32-1) }),
		"no-count":     with(func(b []byte) []byte { return putU32(b, 12, 0) }),
		"last-seq-overflows": with(func(b []byte) []byte {
			return putU32(slices.Replace(b, 16, 24, bytes.Repeat([]byte{0xff}, 8)...), 12, 1<<32-1)
		}),
		"unknown-kind":   with(func(b []byte) []byte { return putU32(b, 28, 9) }),
		"foreign-key":    {b, key + 1, uint32(0), byte(0x80)},
		"length-changes": {b, key, uint32(0), byte(0x08)},
	}
}

func putU32(b []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

func operationSeeds() seeds {
	key := exampleIdentity().key
	list := fuzzOperations()
	of := func(op operation) []any { return []any{exampleRecord(&op), key, op.seq} }
	kindFields := func(kind operationKind, b ...byte) []any {
		record := append(make([]byte, operationHeaderBytes), b...)
		record[8] = byte(kind)
		putU32(record, 0, uint32(len(record)))
		return []any{putU32(record, 4, operationSum(record, key, 9)), key, uint64(9)}
	}
	fields := func(b ...byte) []any { return kindFields(opRemember, b...) }
	forget, filter := list[len(list)-2], list[len(list)-1]
	associate := list[len(list)-3]
	linked := list[2]
	linked.links = []link{{seq: 1, weight: 0.5}, {seq: 2, weight: 0.25}}
	configure := list[0]
	configure.config.AutoAssociate = 3
	dissociate := associate
	dissociate.association.Weight = 0
	embed := operation{
		kind: opEmbed, seq: 9, generation: 5, version: 7, storedAt: 1, memory: Memory{ID: "m1", Embedding: []float32{1, -0.5}},
	}
	change := operation{seq: 9, generation: 5, embedder: "model-2", dimension: 2, storedAt: 1}
	changed := func(kind operationKind) []any {
		change.kind = kind
		return of(change)
	}
	all := seeds{
		"embed":                 of(embed),
		"embedder":              changed(opEmbedder),
		"reembed":               changed(opReembed),
		"switch":                changed(opSwitch),
		"embedder-no-dimension": kindFields(opEmbedder, tagEmbedder, 1, 'e'),
		"reembed-no-dimension":  kindFields(opReembed, tagEmbedder, 1, 'e'),
		"dimension-none":        fields(append([]byte{tagDimension, 8}, make([]byte, 8)...)...),
		"dimension-beyond":      fields(tagDimension, 8, 1, 0x10, 0, 0, 0, 0, 0, 0),
		"generation-short":      fields(tagGeneration, 1, 1),
		"configure":             of(list[0]),
		"remember":              of(list[1]),
		"forget-ids":            of(forget),
		"forget-filter":         of(filter),
		"associate":             of(associate),
		"dissociate":            of(dissociate),
		"linked":                of(linked),
		"configure-links":       of(configure),
		"link-cut":              fields(append([]byte{tagLinks, 15}, make([]byte, 15)...)...),
		"links-many":            fields(append([]byte{tagLinks, 144, 1}, make([]byte, 144)...)...),
		"weight-of-one-byte":    fields(tagWeight, 1, 1),
		"no-fields":             fields(),
		"unknown-field":         fields(99, 1, 0),
		"optional-field":        fields(tagID, 1, 'a', 200, 2, 1, 2),
		"field-beyond-record":   fields(tagContent, 0xff, 0xff, 0x7f, 'a'),
		"length-not-minimal":    fields(tagContent, 0x80, 0x80, 0x00),
		"length-overflows":      fields(append([]byte{tagContent}, bytes.Repeat([]byte{0xff}, 11)...)...),
		"attributes-odd":        fields(tagAttributes, 2, 1, 'a'),
		"attributes-many-empty": fields(append([]byte{tagAttributes, 0x80, 0x08}, make([]byte, 1024)...)...),
		"embedding-cut":         fields(tagEmbedding, 3, 0, 0, 0),
		"filter-in-filter":      fields(tagFilter, 4, tagFilter, 2, tagKind, 0),
		"request-too-short":     fields(tagRequest, 4, 1, 2, 3, 4),
		"time-of-seven-bytes":   fields(tagTime, 7, 1, 2, 3, 4, 5, 6, 7),
	}
	maps.Copy(all, partitionSeeds(of, kindFields))
	return all
}

func partitionSeeds(of func(op operation) []any, kindFields func(kind operationKind, b ...byte) []any) seeds {
	divide := operation{kind: opPartition, seq: 9, generation: 5, dimension: 2, storedAt: 1, partition: *examplePartition()}
	idle := divide
	idle.partition = partition{trained: 7}
	leavesWithout, slackWithout := divide, divide
	leavesWithout.partition = partition{trained: 7, leaves: divide.partition.leaves}
	slackWithout.partition.leaves = nil
	beyond, nowhere, narrow, wide, shallow, deep := divide, divide, divide, divide, divide, divide
	beyond.partition.slack, nowhere.partition.slack = 5, math.NaN()
	narrow.partition.scanned, wide.partition.scanned = 0, 8
	shallow.partition.depth, deep.partition.depth = 0, 8
	return seeds{
		"partition":             of(divide),
		"partition-none":        of(idle),
		"partition-unmeasured":  of(leavesWithout),
		"partition-no-leaves":   of(slackWithout),
		"partition-beyond":      of(beyond),
		"partition-nowhere":     of(nowhere),
		"partition-narrow":      of(narrow),
		"partition-wide":        of(wide),
		"partition-shallow":     of(shallow),
		"partition-deep":        of(deep),
		"partition-no-bytes":    kindFields(opPartition, append([]byte{tagDimension, 8, 2, 0, 0, 0, 0, 0, 0, 0, tagLeaves, 8}, make([]byte, 8)...)...),
		"partition-undescribed": kindFields(opPartition, append([]byte{tagLeaves, 8}, make([]byte, 8)...)...),
		"trained-negative":      kindFields(opRemember, append([]byte{tagTrained, 8}, bytes.Repeat([]byte{0xff}, 8)...)...),
		"scanned-beyond":        kindFields(opRemember, tagScanned, 8, 0, 0, 0, 0, 1, 0, 0, 0),
	}
}

func segmentSeeds() seeds {
	b, ends := fuzzSegment(fuzzOperations())
	all := byte(len(ends) - 1)
	at := func(i int) int { return int(ends[i].offset) }
	flipped := func(offset int) []byte {
		c := bytes.Clone(b)
		c[offset] ^= 0x10
		return c
	}
	count := bytes.Clone(b)
	putU32(count, at(0)+12, 3)
	return seeds{
		"settled":               {b, all},
		"tail":                  {b, byte(1)},
		"empty":                 {[]byte{}, byte(0)},
		"header-only":           {b[:segmentHeaderBytes], byte(0)},
		"header-damaged":        {flipped(20), all},
		"torn-in-frame":         {b[:at(4)-5], byte(2)},
		"torn-at-frame":         {b[:at(4)], byte(2)},
		"cut-below-mark":        {b[:at(3)], byte(4)},
		"frame-damaged-settled": {flipped(at(2) + 40), all},
		"frame-damaged-above":   {flipped(at(3) + 40), byte(1)},
		"frame-missing":         {slices.Concat(b[:at(2)], b[at(3):]), byte(1)},
		"frame-twice":           {slices.Concat(b[:at(2)], b[at(1):]), byte(1)},
		"frames-swapped":        {slices.Concat(b[:at(1)], b[at(2):at(3)], b[at(1):at(2)], b[at(3):]), byte(1)},
		"frames-swapped-marked": {slices.Concat(b[:at(2)], b[at(3):at(4)], b[at(2):at(3)], b[at(4):]), all},
		"frame-replaced-marked": {slices.Concat(b[:at(2)], b[at(3):at(4)], b[at(3):]), all},
		"byte-inserted":         {slices.Insert(bytes.Clone(b), at(2), 0), byte(2)},
		"zeros-behind":          {append(bytes.Clone(b), make([]byte, 100)...), all},
		"old-frame-behind":      {slices.Concat(b, b[at(2):at(3)]), all},
		"lying-length":          {putU32(bytes.Clone(b), at(2), maxFrameBytes), byte(1)},
		"fewer-operations":      {count, byte(0)},
	}
}

// dumpSeeds are the segments of segmentSeeds, and some whose contents look like frames.
func dumpSeeds() seeds {
	b, ends := fuzzSegment(fuzzOperations())
	list := seeds{
		"headers":             {slices.Concat(b[:ends[0].offset], headers()[:600], b[ends[0].offset:])},
		"headers-and-records": {slices.Concat(b[:ends[0].offset], chainedHeaders(640), b[ends[0].offset:])},
		"frame-in-frame":      {slices.Insert(bytes.Clone(b), int(ends[1].offset)+frameHeaderBytes+8, b[ends[2].offset:ends[3].offset]...)},
		"no-header":           {b[segmentHeaderBytes:]},
		"bodies":              {exampleBodies()},
	}
	for name, seed := range segmentSeeds() {
		list[name] = seed[:1]
	}
	return list
}

func checkpointSeeds() seeds {
	b := exampleCheckpoint()
	sections := checkpointHeaderBytes
	change := func(at int, v ...byte) []any { return []any{slices.Replace(bytes.Clone(b), at, at+len(v), v...)} }
	begin := func(kind int) int { return sectionBegin(b, kind) }
	many := func(kind int) []any { return []any{manyOf(b, kind, 0)} }
	empty := exampleEmptyCheckpoint()
	return seeds{
		"intact":              {b},
		"no-memories":         {empty},
		"cut":                 {b[:len(b)-1]},
		"header-only":         {b[:checkpointHeaderBytes]},
		"many-sections":       change(12, 0xff, 0xff, 0xff, 0xff),
		"section-beyond":      change(sections+8, 0xff, 0xff, 0xff, 0x7f),
		"section-length":      change(sections+16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"section-twice":       change(sections+sectionEntryBytes, sectionState),
		"section-unknown":     {withSection(b, 99, 0)},
		"section-optional":    {withSection(b, 99, sectionOptional)},
		"section-missing":     {putU32(bytes.Clone(b), 12, 5)},
		"other-analyzer":      change(begin(sectionState), 2),
		"many-segments":       many(sectionSegments),
		"many-episodes":       many(sectionEpisodes),
		"many-documents":      {manyOf(empty, sectionDocuments, 0)},
		"many-pairs":          {manyOf(b, sectionDocuments, 4)},
		"many-terms":          many(sectionTerms),
		"seq-beyond":          change(begin(sectionDocuments)+14, 3),
		"record-too-long":     change(begin(sectionDocuments)+38, 0xff, 0xff, 0xff, 0xff),
		"episode-unknown":     change(begin(sectionDocuments)+46, 2),
		"order-unknown":       change(begin(sectionDocuments)+50, 1),
		"flag-unknown":        change(begin(sectionDocuments)+54, 32),
		"pair-unknown":        change(begin(sectionDocuments)+59, 1),
		"pair-too-short":      change(begin(sectionDocuments)+64, 9),
		"episode-elsewhere":   change(begin(sectionEpisodes)+11, 1),
		"episode-words":       change(begin(sectionEpisodes)+15, 5),
		"terms-not-ascending": change(begin(sectionTerms)+20, 'z'),
		"ends-not-ascending":  change(begin(sectionTerms)+4, 0xff),
		"documents-of-term":   change(begin(sectionTerms)+35, 2),
		"posting-beyond":      change(begin(sectionTerms)+67, 4),
		"posting-twice":       change(begin(sectionTerms)+67, 0),
		"analyzer-unknown":    change(begin(sectionState)+8, 9),
		"many-requests":       many(sectionRequests),
		"associations":        {associatedCheckpoint()},
		"vectors":             {reembeddedCheckpoint()},
		"vectors-of-none":     {reembeddedWith(sectionDerived, 0, make([]byte, 8)...)},
		"vectors-many":        {reembeddedWith(sectionDerived, 10, 0xff, 0xff, 0xff)},
		"vector-of-none":      {reembeddedWith(sectionDerived, 18, 9)},
		"vector-not-said":     {reembeddedWith(sectionDerived, 18, 2)},
		"next-many":           {reembeddedWith(sectionNext, 0, 0xff, 0xff, 0xff)},
		"next-dimension":      {reembeddedWith(sectionNext, 4, 0xff, 0xff)},
		"next-not-ascending":  {reembeddedWith(sectionNext, 116, 0)},
		"next-of-present":     {reembeddedWith(sectionNext, 160, 1)},
		"partition":           {partitionedCheckpoint()},
		"partition-many":      {changedSection(partitionedCheckpoint(), sectionPartition, 32, 0xff, 0xff, 0xff)},
		"partition-end":       {changedSection(partitionedCheckpoint(), sectionPartition, 36, 4)},
		"partition-groups":    {changedSection(partitionedCheckpoint(), sectionPartition, 48, 0xff)},
		"partition-row":       {changedSection(partitionedCheckpoint(), sectionVectors, 164, 2)},

		// Of the section of associations: see associatedCheckpoint.
		"association-kinds":    associatedSeed(0, 0xff),
		"association-name":     associatedSeed(1, 0),
		"association-total":    associatedSeed(6, 2),
		"associations-many":    associatedSeed(6, 0xff),
		"association-distance": associatedSeed(30, 0),
		"association-beyond":   associatedSeed(30, 9),
		"association-to-self":  associatedSeed(32, 2),
		"association-to-none":  associatedSeed(32, 3),
		"association-twice":    associatedSeed(20, 1),
		"association-kind":     associatedSeed(33, 1),
		"association-weight":   associatedSeed(40, 0xf8, 0x7f),
		"association-no":       associatedSeed(34, 0, 0, 0, 0, 0, 0, 0, 0),
	}
}

// associatedCheckpoint has three memories of which the first has associations
// to the others, the last one to the first. Their section is the last 42 bytes:
// kinds 1, "next", edges 3, memories 2; distance 1, edges 2, each with where to,
// kind and weight; distance 2, edges 1.
func associatedCheckpoint() []byte {
	s := newStore()
	for i := range 3 {
		m := Memory{ID: fmt.Sprint("m", i), Time: unixTime(0)}
		s.apply(&operation{kind: opRemember, seq: uint64(i + 1), memory: m, record: locator{segment: 1}})
	}
	for i, ends := range [][2]string{{"m2", "m0"}, {"m0", "m2"}, {"m0", "m1"}} {
		a := Association{From: ends[0], To: ends[1], Kind: "next", Weight: 0.5}
		s.apply(&operation{kind: opAssociate, seq: uint64(i + 4), association: a, record: locator{segment: 1}})
	}
	return encodeStore(s, mark{seq: 6, segment: 2, offset: segmentHeaderBytes}, nil)
}

// reembeddedCheckpoint has three memories, of which the first two have vectors of
// the embedder "a", and the first and the last those of "bb", which is next.
func reembeddedCheckpoint() []byte {
	s := newStore()
	for i, op := range []operation{
		{kind: opRemember, memory: Memory{ID: "m0", Time: unixTime(0)}},
		{kind: opRemember, memory: Memory{ID: "m1", Time: unixTime(0)}},
		{kind: opRemember, memory: Memory{ID: "m2", Time: unixTime(0)}},
		{kind: opEmbedder, generation: 1, embedder: "a", dimension: 2},
		{kind: opEmbed, generation: 1, version: 1, memory: Memory{ID: "m0", Embedding: []float32{1, 2}}},
		{kind: opEmbed, generation: 1, version: 2, memory: Memory{ID: "m1", Embedding: []float32{3, 4}}},
		{kind: opReembed, embedder: "bb", dimension: 3},
		{kind: opEmbed, generation: 7, version: 1, memory: Memory{ID: "m0", Embedding: []float32{1, 2, 3}}},
		{kind: opEmbed, generation: 7, version: 3, memory: Memory{ID: "m2", Embedding: []float32{4, 5, 6}}},
	} {
		op.seq, op.record = uint64(i+1), locator{segment: 1, offset: int64(100 * i), length: 50}
		s.apply(&op)
	}
	return encodeStore(s, mark{seq: 9, segment: 2, offset: segmentHeaderBytes}, nil)
}

// reembeddedWith is that with other bytes at a place of a section.
func reembeddedWith(kind uint32, at int, v ...byte) []byte {
	return changedSection(reembeddedCheckpoint(), kind, at, v...)
}

// changedSection is the checkpoint with other bytes at a place of a section.
func changedSection(b []byte, kind uint32, at int, v ...byte) []byte {
	for i := range int(binary.LittleEndian.Uint32(b[12:])) {
		e := b[checkpointHeaderBytes+i*sectionEntryBytes:]
		if binary.LittleEndian.Uint32(e) == kind {
			at += int(binary.LittleEndian.Uint64(e[8:]))
		}
	}
	copy(b[at:], v)
	return sealCheckpoint(b)
}

// examplePartition has three leaves in two groups, for vectors of two dimensions.
func examplePartition() *partition {
	b := appendU32(appendU32(nil, 2), 3)
	b = appendU32(appendU32(b, 1), 3)
	code := func(low, high byte) []byte { return bytes.Repeat([]byte{low | high<<4}, 32) }
	b = append(append(b, code(15, 15)...), code(0, 8)...)
	b = appendU32(appendU32(b, math.Float32bits(1)), math.Float32bits(1))
	b = append(append(append(b, code(15, 15)...), code(0, 15)...), code(0, 0)...)
	b = appendU32(appendU32(appendU32(b, math.Float32bits(1)), math.Float32bits(1)), math.Float32bits(0.5))
	leaves, ok := rabitq.DecodePartition(2, b)
	if !ok {
		panic("no partition")
	}
	return &partition{number: 9, trained: 7, slack: 0.5, scanned: 6, depth: 5, leaves: leaves}
}

// partitionedCheckpoint has three memories with vectors in two of three leaves: of
// section 13, the number is at 0, what it was trained on at 8, the slack at 16, what is
// scanned at 24, how deep at 28, the number of leaves at 32, their ends at 36, and the
// groups from 48 on.
func partitionedCheckpoint() []byte {
	s := newStore()
	for i, op := range []operation{
		{kind: opRemember, memory: Memory{ID: "m0", Time: unixTime(0), Embedding: []float32{-1, -2}}},
		{kind: opRemember, memory: Memory{ID: "m1", Time: unixTime(0), Embedding: []float32{3, 4}}},
		{kind: opRemember, memory: Memory{ID: "m2", Time: unixTime(0), Embedding: []float32{-1, -1}}},
		{kind: opPartition, dimension: 2, partition: *examplePartition()},
	} {
		op.seq, op.record = uint64(i+1), locator{segment: 1, offset: int64(100 * i), length: 50}
		s.apply(&op)
	}
	return encodeStore(s, mark{seq: 4, segment: 2, offset: segmentHeaderBytes}, nil)
}

func associatedSeed(at int, v ...byte) []any {
	b := associatedCheckpoint()
	at += len(b) - 42
	return []any{slices.Replace(b, at, at+len(v), v...)}
}

// withSection is the checkpoint with an empty section more.
func withSection(checkpoint []byte, kind, flags uint32) []byte {
	count := int(binary.LittleEndian.Uint32(checkpoint[12:]))
	end := checkpointHeaderBytes + count*sectionEntryBytes
	b := slices.Insert(bytes.Clone(checkpoint), end, make([]byte, sectionEntryBytes)...)
	for i := range count {
		at := checkpointHeaderBytes + i*sectionEntryBytes + 8
		binary.LittleEndian.PutUint64(b[at:], binary.LittleEndian.Uint64(b[at:])+sectionEntryBytes)
	}
	putU32(putU32(b, end, kind), end+4, flags)
	binary.LittleEndian.PutUint64(b[end+8:], uint64(len(b)))
	return sealCheckpoint(putU32(b, 12, uint32(count+1)))
}

func sectionBegin(checkpoint []byte, kind int) int {
	return int(binary.LittleEndian.Uint64(checkpoint[checkpointHeaderBytes+(kind-1)*sectionEntryBytes+8:]))
}

// manyOf makes a count in the section, at that byte of it, two million. The
// bytes behind it are those of the sections that follow.
func manyOf(checkpoint []byte, kind, at int) []byte {
	b := bytes.Clone(checkpoint)
	at += sectionBegin(b, kind)
	entry := checkpointHeaderBytes + (kind-1)*sectionEntryBytes
	b = append(b, bytes.Repeat([]byte{1}, 32)...)
	copy(b[at:], []byte{0xff, 0xff, 0x7f})
	binary.LittleEndian.PutUint64(b[entry+16:], uint64(len(b)-sectionBegin(b, kind)))
	return b
}

func exampleEmptyCheckpoint() []byte {
	return encodeStore(newStore(), mark{seq: 1, segment: 2, offset: segmentHeaderBytes}, []segmentEntry{})
}

func spaceFileSeeds() seeds {
	id, state := exampleIdentity(), exampleState()
	page := encodeIdentityPage(id)
	next := state
	next.counter++
	b := slices.Concat(page, encodeSlot(id, state), encodeSlot(id, next), page)
	flipped := func(offsets ...int) []any {
		c := bytes.Clone(b)
		for _, at := range offsets {
			c[at] ^= 1
		}
		return []any{c}
	}
	other := exampleIdentity()
	other.incarnation[0]++
	foreign := next
	foreign.counter += 10
	renaming := next
	renaming.next = "renamed"
	return seeds{
		"intact":             {b},
		"empty":              {[]byte{}},
		"cut":                {b[:len(b)-1]},
		"byte-behind":        {append(bytes.Clone(b), 0)},
		"identity-first":     flipped(20),
		"identity-second":    flipped(3*pageBytes + 20),
		"identity-both":      flipped(20, 3*pageBytes+20),
		"identities-differ":  {slices.Concat(page, b[pageBytes:3*pageBytes], encodeIdentityPage(other))},
		"slot-newer-damaged": flipped(2*pageBytes + 40),
		"slot-older-damaged": flipped(pageBytes + 40),
		"slots-damaged":      flipped(pageBytes+40, 2*pageBytes+40),
		"slot-foreign":       {slices.Concat(page, encodeSlot(id, state), encodeSlot(other, foreign), page)},
		"slots-swapped":      {slices.Concat(page, encodeSlot(id, next), encodeSlot(id, state), page)},
		"renaming":           {slices.Concat(page, encodeSlot(id, state), encodeSlot(id, renaming), page)},
		"name-too-long":      {slices.Replace(bytes.Clone(b), 2*pageBytes+144, 2*pageBytes+145, 0xff)},
		"name-invalid":       {slices.Replace(bytes.Clone(b), 2*pageBytes+145, 2*pageBytes+147, '.', '.')},
		"version-damaged":    {slices.Replace(bytes.Clone(b), 8, 9, 2)},
		"version-unknown":    {slices.Concat(sealBlock(putU32(bytes.Clone(page), 8, 2)), b[pageBytes:])},
	}
}

func journalSeeds() seeds {
	file, _ := fuzzGroups(fuzzOperations())
	h := exampleHead()
	older := h
	older.counter--
	head := slices.Concat(encodeHead(h), encodeHead(older))
	g, _ := decodeGroup(file, exampleTag())
	second := g.total
	change := func(at int, v ...byte) []any {
		return []any{head, slices.Replace(bytes.Clone(file), at, at+len(v), v...)}
	}
	twice := h
	twice.files = append(slices.Clone(h.files), h.files[0])
	return seeds{
		"intact":              {head, file},
		"no-groups":           {head, []byte{}},
		"torn-in-table":       {head, file[:len(file)-200]},
		"torn-in-frame":       {head, file[:len(file)-20]},
		"table-damaged":       change(second+70, 0xee),
		"frame-damaged":       change(second-10, 0xee),
		"last-frame-damaged":  change(len(file)-10, 0xee),
		"byte-inserted":       {head, slices.Insert(bytes.Clone(file), second, 0)},
		"byte-deleted":        {head, slices.Delete(bytes.Clone(file), second-9, second-8)},
		"group-missing":       {head, file[second:]},
		"group-twice":         {head, slices.Concat(file[:second], file)},
		"lying-table":         change(44, 0xff, 0xff, 0x0f),
		"lying-total":         change(48, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"lying-count":         change(40, 0xff, 0xff, 0xff, 0xff),
		"lying-entry":         change(groupHeaderBytes+24, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"promise-beyond":      change(second+32, 0xff, 0xff, 0xff),
		"head-first-damaged":  {slices.Replace(bytes.Clone(head), 30, 31, 9), file},
		"head-second-damaged": {slices.Replace(bytes.Clone(head), pageBytes+30, pageBytes+31, 9), file},
		"head-damaged":        {slices.Replace(slices.Replace(bytes.Clone(head), 30, 31, 9), pageBytes+30, pageBytes+31, 9), file},
		"head-cut":            {head[:pageBytes], file},
		"head-empty":          {[]byte{}, file},
		"head-many-files":     {sealHead(putU32(putU32(bytes.Clone(head), 32, maxHeadFiles+1), pageBytes+32, 1<<32-1)), file},
		"head-file-twice":     {slices.Concat(encodeHead(twice), encodeHead(twice)), file},
		"head-file-missing":   {slices.Concat(encodeHead(headOf(7, 0)), encodeHead(headOf(7, 0))), file},
		"tags-only":           {head, bytes.Repeat(file[:tagBytes], 300)},
		"another-generation":  {slices.Concat(encodeHead(headOf(1, 0xee)), encodeHead(headOf(1, 0xee))), file},
	}
}

// headOf names a file of that number only, and the example's tag changed by that.
func headOf(number uint64, change byte) head {
	h := exampleHead()
	h.files = []headFile{{number: number, generation: h.generation, tag: exampleTag()}}
	h.files[0].tag[0] ^= change
	return h
}

// marshalSeed is the file format of a fuzz corpus.
func marshalSeed(values []any) string {
	var b strings.Builder
	b.WriteString("go test fuzz v1\n")
	for _, v := range values {
		switch v := v.(type) {
		case []byte:
			fmt.Fprintf(&b, "[]byte(%q)\n", v)
		case byte:
			fmt.Fprintf(&b, "byte(%q)\n", rune(v))
		default:
			fmt.Fprintf(&b, "%T(%v)\n", v, v)
		}
	}
	return b.String()
}

// The seeds in testdata are those that the present format makes.
func TestFuzzSeeds(t *testing.T) {
	for target, list := range fuzzSeeds() {
		dir := filepath.Join("testdata", "fuzz", target)
		if *update {
			require.NoError(t, os.MkdirAll(dir, 0o755))
			for name, values := range list {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(marshalSeed(values)), 0o644))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(list)) {
			content, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err, "%s/%s: run the tests with -update", target, name)
			require.Equal(t, marshalSeed(list[name]), string(content), "%s/%s: run the tests with -update", target, name)
		}
	}
}
