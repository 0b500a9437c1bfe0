package simd

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// littleEndian says how this machine stores numbers.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Uint64s returns the little-endian numbers in b, whose length is a multiple of
// 8: b itself, where it is aligned and the machine stores numbers alike, else a
// copy. b must not change as long as the result is in use.
func Uint64s(b []byte) []uint64 {
	if len(b) == 0 {
		return nil
	}
	if littleEndian && uintptr(unsafe.Pointer(&b[0]))%8 == 0 {
		return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
	}
	list := make([]uint64, len(b)/8)
	for i := range list {
		list[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return list
}

// Float32s is [Uint64s] for numbers of four bytes.
func Float32s(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	if littleEndian && uintptr(unsafe.Pointer(&b[0]))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
	}
	list := make([]float32, len(b)/4)
	CopyFloat32s(list, b)
	return list
}

// CopyFloat32s copies the little-endian numbers in b, which are as many as dst has.
func CopyFloat32s(dst []float32, b []byte) {
	if littleEndian && len(dst) > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst)), b)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
}

// Prefetch asks the memory for elements that are read soon, where that is known to
// help, and does not wait for them.
func Prefetch[T uint64 | float32](x []T) {
	if len(x) > 0 {
		prefetch(unsafe.Pointer(&x[0]), len(x)*int(unsafe.Sizeof(x[0])))
	}
}
