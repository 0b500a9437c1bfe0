package engram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// The fuzz targets of everything that is read from disk. Each input is tried
// as it is, where nothing may be accepted that was not written, and with its
// checksums made right, where it must neither panic nor take memory out of
// proportion. The named seeds under testdata/fuzz are written by fuzzSeeds.

// requireProportional requires that f takes memory only in proportion to the
// bytes that it is given.
func requireProportional(t *testing.T, size int, f func()) {
	t.Helper()
	const (
		fixed  = 256 << 10 // what an empty store, and the test around f, take
		factor = 256       // an empty text is a byte there and a string and a map's place here
	)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(fixed+factor*size), "bytes for %d of input", size)
}

func FuzzFrame(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, key uint64, at uint32, flip byte) {
		requireProportional(t, len(data), func() {
			fr, n, err := decodeFrame(data, key)
			if err != nil {
				require.ErrorIs(t, err, errNotFrame)
				return
			}
			requireFrame(t, data[:n], key, &fr)
		})

		if len(data) == 0 || len(data) > maxFrameBytes {
			return
		}
		fr := frame{prev: at, count: uint32(flip) + 1, firstSeq: key | 1, epoch: at, kind: kindLog}
		sealed := sealFrame(append(make([]byte, frameHeaderBytes), data...), key, &fr)
		requireFrame(t, sealed, key, &fr)
		if flip == 0 {
			return
		}
		_, _, err := decodeFrame(sealed, key^uint64(flip))
		require.ErrorIs(t, err, errNotFrame, "under another space's key")
		sealed[int(at)%len(sealed)] ^= flip
		_, _, err = decodeFrame(sealed, key)
		require.ErrorIs(t, err, errNotFrame, "byte %d changed", int(at)%len(sealed))
	})
}

// requireFrame requires that b decodes to the frame and the frame encodes to b.
func requireFrame(t *testing.T, b []byte, key uint64, want *frame) {
	t.Helper()
	got, n, err := decodeFrame(b, key)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	require.Equal(t, *want, got)
	if len(bytes.Trim(b[frameHeaderBytes+len(got.payload):], "\x00")) > 0 {
		return // padding that this version does not write
	}
	again := got
	require.Equal(t, b, sealFrame(append(make([]byte, frameHeaderBytes), got.payload...), key, &again))
}

func FuzzOperation(f *testing.F) {
	f.Fuzz(func(t *testing.T, record []byte, key, seq uint64) {
		requireProportional(t, len(record), func() {
			if op, err := decodeOperation(record, key, seq); err == nil {
				requireCanonical(t, &op, key)
			}
		})
		if len(record) < operationHeaderBytes || len(record) > maxFrameBytes {
			return
		}
		sealed := bytes.Clone(record)
		binary.LittleEndian.PutUint32(sealed, uint32(len(sealed)))
		binary.LittleEndian.PutUint32(sealed[4:], operationSum(sealed, key, seq))
		requireProportional(t, len(sealed), func() {
			op, err := decodeOperation(sealed, key, seq)
			if err != nil {
				require.True(t, errors.Is(err, errNotOperation) || errors.Is(err, errUnknownVersion), err)
				return
			}
			requireCanonical(t, &op, key)
		})
		_, err := decodeOperation(sealed, key, seq+1)
		require.ErrorIs(t, err, errNotOperation, "in another's place")
	})
}

// requireCanonical requires that what op encodes to decodes to the same.
func requireCanonical(t *testing.T, op *operation, key uint64) {
	t.Helper()
	if op.kind == opRemember && op.memory.ID == "" {
		return // would be encoded with room for an id
	}
	first := encodeOperation(op)
	sealOperation(first, key, op.seq, "", op.replaced)
	again, err := decodeOperation(first, key, op.seq)
	require.NoError(t, err)
	second := encodeOperation(&again)
	sealOperation(second, key, op.seq, "", again.replaced)
	require.Equal(t, first, second)
}

func FuzzSpaceFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		requireProportional(t, len(data), func() {
			id, state, err := decodeSpaceFile(data)
			if err != nil {
				requireSpaceFileError(t, err)
				return
			}
			require.Equal(t, exampleIdentity(), id, "an identity that was not written")
			require.Contains(t, []uint64{exampleState().counter, exampleState().counter + 1}, state.counter, "a state that was not written")
		})
		if len(data) != spaceFileBytes {
			return
		}
		sealed := bytes.Clone(data)
		for at := 0; at < len(sealed); at += pageBytes {
			sealBlock(sealed[at:][:pageBytes])
		}
		id, state, err := decodeSpaceFile(sealed)
		if err != nil {
			requireSpaceFileError(t, err)
			return
		}
		require.NoError(t, state.id.Validate())
		page := encodeSlot(id, state)
		again, err := decodeSlot(page, id)
		require.NoError(t, err)
		require.Equal(t, page, encodeSlot(id, again))
	})
}

func requireSpaceFileError(t *testing.T, err error) {
	t.Helper()
	require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), err)
	require.True(t, isDamage("", err), err)
}

func FuzzCheckpoint(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		// As it is: recovery compares it with the sum in SPACE, so only what was
		// written gets further.
		sum := crc32.Checksum(exampleCheckpoint(), castagnoli)
		if len(data) == len(exampleCheckpoint()) && crc32.Checksum(data, castagnoli) == sum {
			require.Equal(t, exampleCheckpoint(), data)
		}
		requireCheckpoint(t, data)
		requireCheckpoint(t, sealCheckpoint(data))
	})
}

// requireCheckpoint requires that the checkpoint is refused, or loads into a
// store whose image loads into the same.
func requireCheckpoint(t *testing.T, data []byte) {
	t.Helper()
	requireProportional(t, len(data), func() {
		c, err := decodeCheckpoint(data, exampleIdentity())
		if err != nil {
			return
		}
		first := encodeLoaded(c)
		again, err := decodeCheckpoint(first, exampleIdentity())
		require.NoError(t, err)
		require.Equal(t, first, encodeLoaded(again))
	})
}

// encodeLoaded is the checkpoint of a store that was loaded from one.
func encodeLoaded(c *checkpoint) []byte {
	s := newStore()
	s.load(c)
	s.publish()
	return encodeStore(s, c.start, c.segments)
}

// encodeStore is a checkpoint of the store.
func encodeStore(s *store, start mark, segments []segmentEntry) []byte {
	c := checkpoint{
		identity: exampleIdentity(), start: start, config: s.config, dimension: s.dimension,
		segments: segments, requests: s.requestList(),
	}
	b, err := c.encode(s.view(), nil)
	if err != nil {
		panic(err)
	}
	return b
}

// sealCheckpoint makes the checksums of header and sections right.
func sealCheckpoint(data []byte) []byte {
	if len(data) < checkpointHeaderBytes {
		return data
	}
	b := bytes.Clone(data)
	count := int(min(binary.LittleEndian.Uint32(b[12:]), maxCheckpointSections))
	for i := range count {
		at := checkpointHeaderBytes + i*sectionEntryBytes
		if at+sectionEntryBytes > len(b) {
			break
		}
		from, n := binary.LittleEndian.Uint64(b[at+8:]), binary.LittleEndian.Uint64(b[at+16:])
		if from <= uint64(len(b)) && n <= uint64(len(b))-from {
			binary.LittleEndian.PutUint32(b[at+24:], crc32.Checksum(b[from:from+n], castagnoli))
		}
	}
	sealBlock(b[:checkpointHeaderBytes])
	return b
}
