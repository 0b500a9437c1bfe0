package rabitq_test

import (
	"slices"

	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

func drawVectors(draw func([]float32), count, dim int) []float32 {
	vectors := make([]float32, count*dim)
	for i := range count {
		draw(vectors[i*dim:][:dim])
	}
	return vectors
}

func encodeAll(rotation *rabitq.Rotation, vectors []float32) *rabitq.Codes {
	codes, encoder := new(rabitq.Codes), rabitq.NewEncoder(rotation)
	for v := range slices.Chunk(vectors, rotation.Dim()) {
		encoder.Append(codes, v)
	}
	return codes
}

// nearest returns the rows of the highest dot products with q, by comparing all.
func nearest(vectors, q []float32, limit int) []rabitq.Candidate {
	products, rows := make([]float32, len(vectors)/len(q)), make([]uint32, len(vectors)/len(q))
	simd.Best().DotRows(products, q, vectors)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rabitq.Best(products, rows, limit)
}

// ranked returns the limit best of the candidates by the vectors themselves.
func ranked(candidates []rabitq.Candidate, vectors, q []float32, limit int) []rabitq.Candidate {
	var products []float32
	var rows []uint32
	for _, candidate := range candidates {
		products = append(products, simd.Best().Dot(q, vectors[int(candidate.Row)*len(q):][:len(q)]))
		rows = append(rows, candidate.Row)
	}
	return rabitq.Best(products, rows, limit)
}

// recall is the share of the truth that was found.
func recall(truth, found []rabitq.Candidate) float64 {
	rows := make(map[uint32]bool)
	for _, candidate := range found {
		rows[candidate.Row] = true
	}
	hits := 0
	for _, candidate := range truth {
		if rows[candidate.Row] {
			hits++
		}
	}
	return float64(hits) / float64(len(truth))
}
