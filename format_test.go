package engram

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// update rewrites what these tests compare with: the dumps in docs/format.md,
// the golden directory and the named fuzz seeds.
var update = flag.Bool("update", false, "rewrite dumps, goldens and seeds")

const formatDocument = "docs/format.md"

// The example of docs/format.md: one space with two operations, the second of
// which was moved to a segment of kind bodies by a checkpoint.
const (
	exampleID      SpaceID = "ann"
	exampleEpoch   uint32  = 1
	exampleRequest         = "r1"
)

func exampleIdentity() identity {
	id := identity{
		created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(),
		key:     0x8877665544332211,
	}
	for i := range id.incarnation {
		id.incarnation[i] = byte(0xa0 + i)
	}
	return id
}

func exampleTag() generationTag {
	var tag generationTag
	for i := range tag {
		tag[i] = byte(0xc0 + i)
	}
	return tag
}

func exampleOperations() []operation {
	stored := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	return []operation{
		{kind: opConfigure, seq: 1, storedAt: exampleIdentity().created, config: SpaceConfig{MaxMemories: 1000}},
		{
			kind: opRemember, seq: 2, storedAt: stored.UnixNano(),
			request: request{id: exampleRequest, hash: 0x1122334455667788, operations: 1},
			memory: Memory{
				ID: "m1", Content: "green tea, Ann said", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				Episode: "tea", Attributes: map[string]string{"lang": "en"}, Embedding: []float32{1, -0.5},
				Confidence: 0.5, Kind: Semantic, Seq: 2, StoredAt: stored,
			},
		},
	}
}

// exampleRecord is the record of the operation, sealed.
func exampleRecord(op *operation) []byte {
	record := encodeOperation(op)
	sealOperation(record, exampleIdentity().key, op.seq, "", op.replaced)
	return record
}

// exampleFrames are the frames of the two operations, and those encoded.
func exampleFrames() (frames []frame, encoded [][]byte) {
	sum := uint32(0)
	for _, op := range exampleOperations() {
		f := frame{prev: sum, count: 1, firstSeq: op.seq, epoch: exampleEpoch, kind: kindLog}
		b := sealFrame(append(make([]byte, frameHeaderBytes), exampleRecord(&op)...), exampleIdentity().key, &f)
		frames, encoded = append(frames, f), append(encoded, b)
		sum = f.checksum
	}
	return frames, encoded
}

// exampleSegment is the log's first segment, with both frames.
func exampleSegment() []byte {
	_, encoded := exampleFrames()
	header := encodeSegmentHeader(segmentHeader{kind: kindLog, identity: exampleIdentity(), number: 1, firstSeq: 1})
	return append(header, bytes.Join(encoded, nil)...)
}

// exampleBodies is the segment that replaces it: the checkpoint began segment 2.
func exampleBodies() []byte {
	op := exampleOperations()[1]
	b := binary.LittleEndian.AppendUint64(make([]byte, frameHeaderBytes), op.seq)
	b = append(b, exampleRecord(&op)...)
	f := frame{count: 1, firstSeq: op.seq, epoch: exampleEpoch, kind: kindBodies}
	header := encodeSegmentHeader(segmentHeader{
		kind: kindBodies, identity: exampleIdentity(), number: 3, firstSeq: op.seq,
		prevNumber: 1, prevEnd: int64(len(exampleSegment())),
	})
	return append(header, sealFrame(b, exampleIdentity().key, &f)...)
}

// exampleMark is where the log goes on behind the checkpoint.
func exampleMark() mark {
	frames, _ := exampleFrames()
	return mark{seq: 2, segment: 2, offset: segmentHeaderBytes, sum: frames[1].checksum}
}

// exampleLastBody is the only frame of the segment of kind bodies.
func exampleLastBody() lastFrame {
	return lastFrame{offset: segmentHeaderBytes, sum: binary.LittleEndian.Uint32(exampleBodies()[segmentHeaderBytes+4:])}
}

func exampleCheckpoint() []byte {
	s := newStore()
	for _, op := range exampleOperations() {
		n := len(exampleRecord(&op))
		op.record = locator{segment: 3, offset: segmentHeaderBytes + frameHeaderBytes + 8, length: n}
		op.analysis = English.analyzeMemory(op.memory.Content)
		s.apply(&op)
	}
	s.publish()
	op := exampleOperations()[1]
	return encodeStore(s, exampleMark(), []segmentEntry{{
		number: 3, kind: kindBodies, end: int64(len(exampleBodies())), last: exampleLastBody(),
		use: segmentUse{live: int64(len(exampleRecord(&op)))},
	}})
}

func exampleState() spaceState {
	checkpoint := exampleCheckpoint()
	op := exampleOperations()[1]
	return spaceState{
		counter: 4, id: exampleID, mark: exampleMark(), config: SpaceConfig{MaxMemories: 1000}, dimension: 2,
		checkpoint: checkpointRef{seq: 2, segment: 2, size: int64(len(checkpoint)), sum: crc32.Checksum(checkpoint, castagnoli)},
		memories:   1, bytes: int64(len(exampleRecord(&op))),
	}
}

func exampleHead() head {
	return head{counter: 6, epoch: exampleEpoch, generation: 2, files: []headFile{
		{number: 1, generation: 2, tag: exampleTag()},
		{number: 2},
	}}
}

// exampleGroup holds the frame of the second operation.
func exampleGroup() ([]byte, []groupFrame) {
	frames, encoded := exampleFrames()
	list := []groupFrame{{
		space: exampleIdentity().incarnation, id: exampleID,
		firstSeq: frames[1].firstSeq, count: 1, bytes: encoded[1],
	}}
	return appendGroup(nil, exampleTag(), 0, promise{generation: 1, offset: 4096}, list), list
}

// exampleDumps are the files and pieces that the document shows, as encoded.
func exampleDumps() map[string][]byte {
	group, _ := exampleGroup()
	return map[string][]byte{
		"segment":    exampleSegment(),
		"bodies":     exampleBodies(),
		"identity":   encodeIdentityPage(exampleIdentity()),
		"slot":       encodeSlot(exampleIdentity(), exampleState()),
		"head":       encodeHead(exampleHead()),
		"group":      group,
		"checkpoint": exampleCheckpoint(),
	}
}

// dumpBlock matches a fenced block of the document: its name and its lines.
var dumpBlock = regexp.MustCompile("(?s)\n```hex ([a-z]+)\n(.*?)```\n")

// documentDumps returns the bytes that the document shows.
func documentDumps(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(formatDocument)
	require.NoError(t, err)
	dumps := make(map[string][]byte)
	for _, match := range dumpBlock.FindAllStringSubmatch(string(text), -1) {
		dumps[match[1]] = parseDump(t, match[2])
	}
	return dumps
}

// parseDump is the inverse of dump.
func parseDump(t *testing.T, text string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "|")
		if line == "*" {
			continue // the next line says how far
		}
		fields := strings.Fields(line)
		var at int
		_, err := fmt.Sscanf(fields[0], "%x", &at)
		require.NoError(t, err, line)
		b = append(b, make([]byte, at-len(b))...)
		row, err := hex.DecodeString(strings.Join(fields[1:], ""))
		require.NoError(t, err, line)
		b = append(b, row...)
	}
	return b
}

// dump shows bytes as hexdump -C does, but leaves out zeros only: "*" stands
// for rows of them.
func dump(b []byte) string {
	var out strings.Builder
	skipping := false
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		if len(bytes.Trim(row, "\x00")) == 0 && at > 0 && at+16 < len(b) {
			if !skipping {
				out.WriteString("*\n")
			}
			skipping = true
			continue
		}
		skipping = false
		printable := bytes.Map(func(r rune) rune {
			if r < ' ' || r > '~' || r == '|' || r == '`' {
				return '.'
			}
			return r
		}, row)
		fmt.Fprintf(&out, "%08x  %-48s |%s|\n", at, fmt.Sprintf("% x", row), printable)
	}
	return out.String()
}

// The dumps of the document are what the code writes, byte for byte.
func TestFormatEncodes(t *testing.T) {
	examples := exampleDumps()
	if *update {
		text, err := os.ReadFile(formatDocument)
		require.NoError(t, err)
		rewritten := dumpBlock.ReplaceAllStringFunc(string(text), func(block string) string {
			name := dumpBlock.FindStringSubmatch(block)[1]
			return "\n```hex " + name + "\n" + dump(examples[name]) + "```\n"
		})
		require.NoError(t, os.WriteFile(formatDocument, []byte(rewritten), 0o644))
	}
	shown := documentDumps(t)
	require.Len(t, shown, len(examples))
	for name, b := range examples {
		require.Equal(t, dump(b), dump(shown[name]), name)
	}
}

// What the document says of a place in a dump stands there: each row of the
// table behind it begins with an offset and the bytes at it, up to "..".
func TestFormatAnnotations(t *testing.T) {
	text, err := os.ReadFile(formatDocument)
	require.NoError(t, err)
	shown := documentDumps(t)
	row := regexp.MustCompile("(?m)^\\| ([0-9a-f]+) \\| (`.*?) \\|")
	rows := 0
	for _, part := range strings.Split(string(text), "\n```hex ")[1:] {
		name, part, _ := strings.Cut(part, "\n")
		_, table, _ := strings.Cut(part, "```\n")
		table, _, _ = strings.Cut(table, "\n#")
		for _, r := range row.FindAllStringSubmatch(table, -1) {
			rows++
			var at int
			_, err := fmt.Sscanf(r[1], "%x", &at)
			require.NoError(t, err)
			stated, _, _ := strings.Cut(strings.ReplaceAll(r[2], "`", ""), "..")
			b, err := hex.DecodeString(strings.Join(strings.Fields(stated), ""))
			require.NoError(t, err, r[0])
			require.Equal(t, b, shown[name][at:at+len(b)], "%s: %s", name, r[0])
		}
	}
	require.Greater(t, rows, 30)
}

// The code reads from the dumps of the document what the document says of them.
func TestFormatDecodesSegments(t *testing.T) {
	shown, id := documentDumps(t), exampleIdentity()
	h, err := decodeSegmentHeader(shown["segment"])
	require.NoError(t, err)
	require.Equal(t, segmentHeader{kind: kindLog, identity: id, number: 1, firstSeq: 1}, h)

	frames, _ := exampleFrames()
	b := shown["segment"][segmentHeaderBytes:]
	for i, op := range exampleOperations() {
		f, n, err := decodeFrame(b, id.key)
		require.NoError(t, err)
		require.Equal(t, frames[i], f)
		requireOperation(t, op, f.payload)
		b = b[n:]
	}
	require.Empty(t, b)

	h, err = decodeSegmentHeader(shown["bodies"])
	require.NoError(t, err)
	require.Equal(t, segmentHeader{
		kind: kindBodies, identity: id, number: 3, firstSeq: 2, prevNumber: 1, prevEnd: int64(len(shown["segment"])),
	}, h)
	f, n, err := decodeFrame(shown["bodies"][segmentHeaderBytes:], id.key)
	require.NoError(t, err)
	require.Len(t, shown["bodies"], segmentHeaderBytes+n)
	require.Equal(t, kindBodies, f.kind)
	require.EqualValues(t, 2, binary.LittleEndian.Uint64(f.payload))
	requireOperation(t, exampleOperations()[1], f.payload[8:])
}

// requireOperation requires that the record decodes to op, and op encodes to it.
func requireOperation(t *testing.T, op operation, record []byte) {
	t.Helper()
	decoded, err := decodeOperation(record, exampleIdentity().key, op.seq)
	require.NoError(t, err)
	if op.kind != opRemember {
		decoded.memory = Memory{}
	}
	require.Equal(t, op, decoded)
	require.Equal(t, record, exampleRecord(&decoded))
}

func TestFormatDecodesSpaceFile(t *testing.T) {
	shown, id := documentDumps(t), exampleIdentity()
	got, err := decodeIdentityPage(shown["identity"])
	require.NoError(t, err)
	require.Equal(t, id, got)
	state, err := decodeSlot(shown["slot"], id)
	require.NoError(t, err)
	require.Equal(t, exampleState(), state)
}

func TestFormatDecodesJournal(t *testing.T) {
	shown := documentDumps(t)
	h, err := decodeHead(shown["head"])
	require.NoError(t, err)
	require.Equal(t, exampleHead(), h)

	_, frames := exampleGroup()
	g, ok := decodeGroup(shown["group"], exampleTag())
	require.True(t, ok)
	require.Equal(t, promise{generation: 1, offset: 4096}, g.promise)
	require.Len(t, shown["group"], g.total)
	require.Len(t, g.entries, 1)
	e := g.entries[0]
	require.True(t, e.intact(shown["group"]))
	held := groupFrame{
		space: e.space, id: e.id, firstSeq: e.firstSeq, count: e.count, bytes: shown["group"][e.offset:][:e.length],
	}
	require.Equal(t, frames[0], held)
}

func TestFormatDecodesCheckpoint(t *testing.T) {
	shown, id := documentDumps(t), exampleIdentity()
	c, err := decodeCheckpoint(shown["checkpoint"], id)
	require.NoError(t, err)
	s := newStore()
	s.load(c)
	s.publish()
	require.Equal(t, exampleMark(), c.start)
	require.Equal(t, []segmentEntry{{
		number: 3, kind: kindBodies, end: int64(len(shown["bodies"])), last: exampleLastBody(), use: segmentUse{live: int64(exampleState().bytes)},
	}}, c.segments)

	v := s.view()
	d, found := v.lookup("m1")
	require.True(t, found)
	loc := v.locator(d)
	requireOperation(t, exampleOperations()[1], shown["bodies"][loc.offset:][:loc.length])
	require.Equal(t, "tea", v.episodeName(d))
	for _, term := range []string{"green", "tea", "ann", "say"} {
		require.Equal(t, []posting{{ordinal: 0, count: 1}}, v.list(nil, term), term)
	}
	require.Equal(t, shown["checkpoint"], encodeStore(s, c.start, c.segments))
}

// Which version SPACE has says the copy that tells it, whatever became of the other.
func TestFormatVersionOfSpace(t *testing.T) {
	id := exampleIdentity()
	intact := encodeSpaceFile(id, spaceState{id: exampleID})
	for pages, at := range map[[2]int]int{{0, 3}: 3, {3, 0}: 0, {1, 2}: 2, {2, 1}: 1} {
		b := bytes.Clone(intact)
		clear(b[pages[0]*pageBytes:][:pageBytes])
		sealBlock(putU32(b[at*pageBytes:][:pageBytes], 8, 7))
		_, _, err := decodeSpaceFile(b)
		var version *VersionError
		require.ErrorAs(t, err, &version)
		require.EqualValues(t, 7, version.Version, "page %d", at)
	}
}
