//go:build cgo && hnswlib

// Package hnswlib is the C++ library of that name, as far as it is compared with: an
// index of vectors of unit length by inner product (Malkov and Yashunin, Efficient and
// Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World
// Graphs, 2016). Its headers are not part of the project; CGO_CXXFLAGS says where they
// are.
package hnswlib

// #cgo CXXFLAGS: -std=c++17 -O3 -march=native
// #include "hnswlib.h"
import "C"

// Index is a graph of vectors. It is not for concurrent use.
type Index struct{ index *C.hnsw_index }

// New returns an index for so many vectors, with m links for each and construction
// candidates when one is added.
func New(dimension, capacity, m, construction int) *Index {
	return &Index{C.hnsw_new(C.size_t(dimension), C.size_t(capacity), C.size_t(m), C.size_t(construction))}
}

// Close frees it.
func (x *Index) Close() { C.hnsw_free(x.index) }

// Add adds the vector by that number.
func (x *Index) Add(number int, vector []float32) {
	C.hnsw_add(x.index, C.size_t(number), (*C.float)(&vector[0]))
}

// SetCandidates says how many candidates a search keeps (ef), at least what it is
// asked for.
func (x *Index) SetCandidates(n int) { C.hnsw_set_candidates(x.index, C.size_t(n)) }

// Search returns the numbers of the n nearest, in no order.
func (x *Index) Search(vector []float32, n int) []int {
	numbers := make([]C.size_t, n)
	found := C.hnsw_search(x.index, (*C.float)(&vector[0]), &numbers[0], C.size_t(n))
	list := make([]int, found)
	for i := range list {
		list[i] = int(numbers[i])
	}
	return list
}

// Bytes is how many bytes it takes, as it stores itself.
func (x *Index) Bytes() int64 { return int64(C.hnsw_bytes(x.index)) }
