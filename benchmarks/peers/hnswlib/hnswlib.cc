//go:build cgo && hnswlib

#include "hnswlib.h"

#include <hnswlib/hnswlib.h>

struct hnsw_index {
  hnswlib::InnerProductSpace space;
  hnswlib::HierarchicalNSW<float> graph;

  hnsw_index(size_t dimension, size_t capacity, size_t m, size_t construction)
      : space(dimension), graph(&space, capacity, m, construction) {}
};

hnsw_index *hnsw_new(size_t dimension, size_t capacity, size_t m, size_t construction) {
  return new hnsw_index(dimension, capacity, m, construction);
}

void hnsw_free(hnsw_index *x) { delete x; }

void hnsw_add(hnsw_index *x, size_t number, const float *vector) { x->graph.addPoint(vector, number); }

void hnsw_set_candidates(hnsw_index *x, size_t n) { x->graph.setEf(n); }

size_t hnsw_search(hnsw_index *x, const float *vector, size_t *numbers, size_t n) {
  auto found = x->graph.searchKnn(vector, n);
  size_t count = found.size();
  for (size_t i = 0; i < count; i++) {
    numbers[i] = found.top().second;
    found.pop();
  }
  return count;
}

size_t hnsw_bytes(hnsw_index *x) { return x->graph.indexFileSize(); }
