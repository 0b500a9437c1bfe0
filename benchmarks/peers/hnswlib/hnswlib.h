// What hnswlib.go calls: hnswlib for C.

#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hnsw_index hnsw_index;

hnsw_index *hnsw_new(size_t dimension, size_t capacity, size_t m, size_t construction);
void hnsw_free(hnsw_index *);
void hnsw_add(hnsw_index *, size_t number, const float *vector);
void hnsw_set_candidates(hnsw_index *, size_t n);
size_t hnsw_search(hnsw_index *, const float *vector, size_t *numbers, size_t n);
size_t hnsw_bytes(hnsw_index *);

#ifdef __cplusplus
}
#endif
