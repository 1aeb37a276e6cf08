/* What is due first: a binary heap of things that know their place in it. */
#ifndef OX_HEAP_H
#define OX_HEAP_H

#include "../core.h"

/* Part of whatever is in a heap. */
struct ox_due {
    int64_t at;
    size_t place;
};

struct ox_heap {
    struct ox_due **members; /* the first one is due first */
    size_t count;
    size_t capacity;
};

/* -ENOMEM: it is not in the heap. */
int ox_heap_add(struct ox_heap *heap, struct ox_due *due);

void ox_heap_remove(struct ox_heap *heap, struct ox_due *due);

void ox_heap_set(struct ox_heap *heap, struct ox_due *due, int64_t at);

#endif
