package simd_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/simd"
)

// fence is memory between two pages that nobody may touch: a kernel that reads
// beyond its slices faults, and one that writes beyond them leaves a mark.
type fence struct {
	mapped, usable []byte
}

const untouched = 0xA5

func newFence(t *testing.T, size int) *fence {
	t.Helper()
	page := syscall.Getpagesize()
	size = (size + page - 1) / page * page
	mapped, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(mapped)) })
	require.NoError(t, syscall.Mprotect(mapped[:page], syscall.PROT_NONE))
	require.NoError(t, syscall.Mprotect(mapped[page+size:], syscall.PROT_NONE))
	return &fence{mapped, mapped[page : page+size]}
}

// place returns n elements that lie against the page at the end of the fence, or
// at its start; all other bytes are marked.
func place[T any](f *fence, n int, atEnd bool) []T {
	for i := range f.usable {
		f.usable[i] = untouched
	}
	if n == 0 {
		return nil
	}
	var element T
	offset := 0
	if atEnd {
		offset = len(f.usable) - n*int(unsafe.Sizeof(element))
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&f.usable[offset])), n)
}

// requireUntouched is about what lies between the slice that was placed and the
// other end of the fence.
func (f *fence) requireUntouched(t *testing.T, placed int, atEnd bool) {
	t.Helper()
	rest := f.usable[placed:]
	if atEnd {
		rest = f.usable[:len(f.usable)-placed]
	}
	require.Empty(t, bytes.TrimLeft(rest, string([]byte{untouched})))
}

// forEachFence runs a test with every set, number of rows and side of the fence.
func forEachFence(t *testing.T, test func(t *testing.T, set simd.Set, count int, atEnd bool)) {
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for _, count := range []int{1, 3, 4, 5, 8, 11} {
			test(t, set, count, false)
			test(t, set, count, true)
		}
	})
}

func TestFencedDot(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 1))
	left, right, out := newFence(t, 1<<13), newFence(t, 1<<13), newFence(t, 1)
	forEachFence(t, func(t *testing.T, set simd.Set, count int, atEnd bool) {
		for dim := range 140 {
			q, rows, got := place[float32](left, dim, atEnd), place[float32](right, dim*count, atEnd), place[float32](out, count, atEnd)
			fillFloats(q, source)
			fillFloats(rows, source)
			set.DotRows(got, q, rows)
			for i := range got {
				require.InDelta(t, dotByDefinition(q, rows[i*dim:][:dim]), got[i], 0)
			}
			out.requireUntouched(t, 4*count, atEnd)
		}
	})
}

func TestFencedScanCodes(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	left, right, out := newFence(t, 1<<12), newFence(t, 1<<12), newFence(t, 1)
	forEachFence(t, func(t *testing.T, set simd.Set, count int, atEnd bool) {
		for words := range 34 {
			planes, codes := place[uint64](left, (2+count%2*2)*words, atEnd), place[uint64](right, words*count, atEnd)
			got := place[uint32](out, count, atEnd)
			fillWords(planes, source)
			fillWords(codes, source)
			set.ScanCodes(got, planes, codes, words)
			for i := range got {
				require.Equal(t, scanByDefinition(planes, codes[i*words:][:words]), got[i])
			}
			out.requireUntouched(t, 4*count, atEnd)
		}
	})
}

func TestFencedIntegers(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 3))
	left, right, list, out := newFence(t, 1<<12), newFence(t, 1<<12), newFence(t, 1), newFence(t, 1)
	forEachFence(t, func(t *testing.T, set simd.Set, count int, atEnd bool) {
		for dim := 0; dim < 260; dim += 64 {
			q, codes := place[int8](left, dim, atEnd), place[uint8](right, dim/2*count, atEnd)
			got, rows := place[int32](out, count, atEnd), place[uint32](list, count, atEnd)
			fillInt8(q, source)
			fillBytes(codes, source)
			want := make([]int32, count)
			simd.Portable.DotInt4(want, q, codes)
			set.DotInt4(got, q, codes)
			require.Equal(t, want, append([]int32{}, got...))
			for i := range rows {
				rows[i] = uint32(count - 1 - i)
			}
			set.DotInt4At(got, q, codes, rows)
			slices.Reverse(got)
			require.Equal(t, want, append([]int32{}, got...))
			out.requireUntouched(t, 4*count, atEnd)
		}
	})
}

func TestFencedScore(t *testing.T) {
	counts, offsets, factors := newFence(t, 1), newFence(t, 1), newFence(t, 1)
	out, bits := newFence(t, 1), newFence(t, 1)
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for count := range 200 {
			for _, atEnd := range []bool{false, true} {
				scores, reached := place[float32](out, count, atEnd), place[uint64](bits, (count+63)/64, atEnd)
				x, y, z := place[uint32](counts, count, atEnd), place[float32](offsets, count, atEnd), place[float32](factors, count, atEnd)
				for i := range x {
					x[i], y[i], z[i] = uint32(i), 1, 2
				}
				set.Score(scores, reached, x, y, z, simd.Line{A: 1, B: 1, C: 1}, 20)
				for i := range scores {
					require.InDelta(t, 2*(i+2), scores[i], 0)
					require.Equal(t, i >= 8, reached[i/64]>>(i%64)&1 == 1)
				}
				out.requireUntouched(t, 4*count, atEnd)
				bits.requireUntouched(t, 8*len(reached), atEnd)
			}
		}
	})
}

func TestFencedHadamard(t *testing.T) {
	out := newFence(t, 1<<13)
	forEachSet(t, func(t *testing.T, set simd.Set) {
		for dim := 1; dim <= 2048; dim *= 2 {
			for _, atEnd := range []bool{false, true} {
				x := place[float32](out, dim, atEnd)
				fillFloats(x, rand.New(rand.NewPCG(1, 4)))
				want := append([]float32{}, x...)
				hadamardByDefinition(want)
				set.Hadamard(x)
				require.Equal(t, floatBits(want), floatBits(x))
				out.requireUntouched(t, 4*dim, atEnd)
			}
		}
	})
}
