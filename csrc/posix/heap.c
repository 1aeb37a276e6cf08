/* What is due first: a binary heap of things that know their place in it. */
#include "heap.h"

#include <errno.h>
#include <stdlib.h>

static void put(struct ox_heap *heap, struct ox_due *due, size_t place)
{
    heap->members[place] = due;
    due->place = place;
}

static void rise(struct ox_heap *heap, struct ox_due *due)
{
    size_t place = due->place;

    while (place > 0 && heap->members[(place - 1) / 2]->at > due->at) {
        put(heap, heap->members[(place - 1) / 2], place);
        place = (place - 1) / 2;
    }
    put(heap, due, place);
}

static void sink(struct ox_heap *heap, struct ox_due *due)
{
    size_t place = due->place;

    for (;;) {
        size_t child = 2 * place + 1;

        if (child + 1 < heap->count && heap->members[child + 1]->at < heap->members[child]->at)
            child++;
        if (child >= heap->count || heap->members[child]->at >= due->at)
            break;
        put(heap, heap->members[child], place);
        place = child;
    }
    put(heap, due, place);
}

void ox_heap_set(struct ox_heap *heap, struct ox_due *due, int64_t at)
{
    due->at = at;
    rise(heap, due);
    sink(heap, due);
}

int ox_heap_add(struct ox_heap *heap, struct ox_due *due)
{
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity == 0 ? 16 : heap->capacity * 2;
        struct ox_due **members = realloc(heap->members, capacity * sizeof(struct ox_due *));

        if (members == NULL)
            return -ENOMEM;
        heap->members = members;
        heap->capacity = capacity;
    }
    put(heap, due, heap->count++);
    rise(heap, due);
    return 0;
}

void ox_heap_remove(struct ox_heap *heap, struct ox_due *due)
{
    struct ox_due *last = heap->members[--heap->count];

    if (last == due)
        return;
    put(heap, last, due->place);
    ox_heap_set(heap, last, last->at);
}
