//go:build !amd64 && !arm64

package simd

import "unsafe"

func detect() []Set { return nil }

// The kernels: each does what it can of the front of its rows and returns their
// number. Here that is none.

func (Set) dotRows(_, _, _ []float32) int { return 0 }

func (Set) scanCodes(_ []uint32, _, _ []uint64, _ int) int { return 0 }

func (Set) dotInt4(_ []int32, _ []int8, _ []uint8, _ []uint32) int { return 0 }

func (Set) score(_ []float32, _ []uint64, _ []uint32, _, _ []float32, _ *Line, _ float32) int {
	return 0
}

func (Set) hadamard(_ []float32, _ float32) bool { return false }

func prefetch(unsafe.Pointer, int) {}
