package simd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/simd"
)

func TestNumbersInBytes(t *testing.T) {
	b := make([]byte, 40)
	for i := range b {
		b[i] = byte(i)
	}
	for offset := range 9 { // aligned and not
		require.Equal(t, []uint64{
			0x0706050403020100 + uint64(offset)*0x0101010101010101,
			0x0f0e0d0c0b0a0908 + uint64(offset)*0x0101010101010101,
		}, simd.Uint64s(b[offset:][:16]))
	}
	copy(b[4:], []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0})
	require.Equal(t, []float32{1, -2}, simd.Float32s(b[4:12]))
	copy(b[5:], b[4:12])
	require.Equal(t, []float32{1, -2}, simd.Float32s(b[5:13]))
	var numbers [2]float32
	simd.CopyFloat32s(numbers[:], b[5:13])
	require.Equal(t, [2]float32{1, -2}, numbers)
	simd.CopyFloat32s(nil, nil)
	require.Empty(t, simd.Uint64s(nil))
	require.Empty(t, simd.Float32s(nil))
}
