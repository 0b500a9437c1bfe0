package engram

import (
	"math"
	"path"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDump dumps a space whose only segment is the input, as it is and with its
// checksums made right, and looks in it for records as a salvage does. A dump accounts
// for every byte, and both find what trying each place by itself finds.
func FuzzDump(f *testing.F) {
	f.Fuzz(func(t *testing.T, segment []byte) {
		for _, segment := range [][]byte{segment, sealSegment(segment)} {
			requireProportional(t, len(segment), func() { requireDumped(t, segment) })
			requireRecords(t, segment, exampleIdentity(), math.MaxUint64)
		}
	})
}

// requireDumped requires a dump of the segment to be whole. It keeps no piece.
func requireDumped(t *testing.T, segment []byte) {
	t.Helper()
	key := exampleIdentity().key
	if h, err := decodeSegmentHeader(segment); err == nil {
		key = h.identity.key
	}
	end, frames := int64(0), 0
	d := &dumper{ctx: background, contents: true, yield: func(r DumpRecord, err error) bool {
		require.NoError(t, err)
		if r.File != path.Join(string(exampleID), segmentPath(1)) {
			return true
		}
		require.Equal(t, end, r.Offset)
		end += r.Length
		if r.Kind == DumpFrame {
			frames++
			_, n, err := decodeFrame(segment[r.Offset:], key)
			require.NoError(t, err)
			require.EqualValues(t, n, r.Length)
		}
		return true
	}}
	require.NoError(t, d.run(segmentSpace(segment, mark{}), "", exampleID))
	require.EqualValues(t, len(segment), end)
	require.Len(t, framesAt(segment, min(segmentHeaderBytes, len(segment)), key), frames)
}
