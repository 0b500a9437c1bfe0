package engram

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// damagedFrames draws frames of the example's space, whose contents hold frames and
// headers themselves, and damages them.
func damagedFrames(t *rapid.T) []byte {
	key := exampleIdentity().key
	var b []byte
	seq := uint64(rapid.IntRange(1, 20).Draw(t, "first"))
	for range rapid.IntRange(1, 6).Draw(t, "frames") {
		f := frame{firstSeq: seq, kind: rapid.SampledFrom([]uint16{kindLog, kindBodies}).Draw(t, "kind")}
		payload := make([]byte, frameHeaderBytes)
		for f.count = 0; f.count < uint32(rapid.IntRange(1, 5).Draw(t, "operations")); f.count++ {
			content := rapid.SampledFrom([]string{
				"cup", strings.Repeat("tea", 5*sumStride), string(b), strings.Repeat(string(b[:min(len(b), frameHeaderBytes+40)]), 4),
				strings.Repeat("\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x0c\x00\x00\x00", 30),
			}).Draw(t, "content")
			op := operation{kind: opRemember, seq: seq, memory: Memory{ID: "m", Content: content, Time: unixTime(1), Confidence: 1}}
			if f.kind == kindBodies {
				payload = binary.LittleEndian.AppendUint64(payload, seq)
			}
			payload = append(payload, exampleRecord(&op)...)
			seq++
		}
		b = append(b, sealFrame(payload, key, &f)...)
	}
	for range rapid.IntRange(0, 4).Draw(t, "damages") {
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "near a header") {
			at = min(at&^7+rapid.IntRange(0, 64).Draw(t, "further"), len(b)-1)
		}
		switch rapid.IntRange(0, 2).Draw(t, "way") {
		case 0:
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		case 1:
			b = slices.Insert(b, at, rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "inserted")...)
		default:
			b = slices.Delete(b, at, min(at+rapid.IntRange(1, 40).Draw(t, "deleted"), len(b)-1))
		}
	}
	return b
}

// recordsAt are the records in b that verify, each place and record tried by itself.
func recordsAt(b []byte, key, before uint64) map[uint64]locator {
	records := make(map[uint64]locator)
	for i := 0; i+frameHeaderBytes <= len(b); {
		n, ok := looksLikeFrame(b[i:])
		if !ok {
			i++
			continue
		}
		end := min(i+n, len(b))
		seq, bodies := binary.LittleEndian.Uint64(b[i+16:]), b[i+28] == byte(kindBodies)
		for at := i + frameHeaderBytes; ; seq++ {
			if bodies {
				if end-at < 8 {
					break
				}
				seq, at = binary.LittleEndian.Uint64(b[at:]), at+8
			}
			length, err := splitRecord(b[at:end])
			if err != nil {
				break
			}
			if seq < before && operationSum(b[at:at+length], key, seq) == binary.LittleEndian.Uint32(b[at+4:]) {
				records[seq] = locator{segment: 7, offset: int64(at), length: length}
			}
			at += length
		}
		if _, _, err := decodeFrame(b[i:], key); err != nil {
			n = 1
		}
		i += n
	}
	return records
}

func wreckOf(id identity) *wreck {
	return &wreck{identity: id, records: make(map[uint64]salvaged)}
}

// Behind damage all records are found that are there, whatever the contents look like.
func TestWreckFindsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := damagedFrames(t)
		requireRecords(t, b, exampleIdentity(), rapid.SampledFrom([]uint64{math.MaxUint64, 1, 5, 12}).Draw(t, "before"))
	})
}

// requireRecords requires that those records are found in b that recordsAt finds.
func requireRecords(t tester, b []byte, id identity, before uint64) {
	t.Helper()
	w, found := wreckOf(id), make(map[uint64]locator)
	require.NoError(t, w.take(background, b, locator{segment: 7}, b, before))
	for seq, r := range w.records {
		require.Equal(t, b[r.offset:][:r.length], r.bytes)
		found[seq] = r.locator
	}
	require.Equal(t, recordsAt(b, id.key, before), found)
}

// chainedHeaders are headers of frames, one every 64 bytes, behind each of which
// records follow up to the end of what it claims to have. None of these verifies.
func chainedHeaders(n int) []byte {
	unit := make([]byte, 64)
	putU32(unit, 0, 4<<20) // of the frame
	putU32(unit, 12, 1)
	putU32(unit, 16, 1)
	putU32(unit, 28, uint32(kindLog))
	putU32(unit, 32, 64) // of the record
	return slices.Repeat(unit, n/64)
}

// What it takes to look for records in contents that are full of headers does not
// grow with what each of these leads to, and what stands behind them is found.
func TestWreckOfHeaders(t *testing.T) {
	t.Parallel()
	written, ends := fuzzSegment(fuzzOperations())
	frames := written[segmentHeaderBytes:]
	for name, contents := range map[string][]byte{"headers": headers(), "headers and records": chainedHeaders(8 << 20)} {
		w := wreckOf(exampleIdentity())
		require.NoError(t, w.take(t.Context(), slices.Concat(contents, frames), locator{}, nil, math.MaxUint64), name)
		require.Len(t, w.records, len(ends), name)
	}
}

// To look for records ends with its context also where it finds nothing for long.
func TestWreckEndsAmongHeaders(t *testing.T) {
	ctx := &endingContext{background, 100}
	require.ErrorIs(t, wreckOf(exampleIdentity()).take(ctx, headers(), locator{}, nil, math.MaxUint64), context.Canceled)
}
