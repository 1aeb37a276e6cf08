/* The heap of clocks: whatever is added, moved and removed, the first one is due first. */
#include "check.h"

#include <stdint.h>

#include "../../csrc/posix/heap.h"

#define MOST 200

static struct ox_heap heap;
static struct ox_due dues[MOST];
static int inside[MOST];

/* The same numbers every time. */
static unsigned next_number(void)
{
    static unsigned state = 12345;

    state = state * 1103515245u + 12345u;
    return state >> 8;
}

static int first_is_least(void)
{
    size_t count = 0;

    for (int i = 0; i < MOST; i++) {
        if (!inside[i])
            continue;
        count++;
        CHECK(heap.members[0]->at <= dues[i].at);
        CHECK(heap.members[dues[i].place] == &dues[i]);
    }
    CHECK_EQUAL(heap.count, count);
    return 0;
}

static int the_first_is_due_first_whatever_happens(void)
{
    for (int step = 0; step < 20000; step++) {
        int i = (int)(next_number() % MOST);
        int64_t at = next_number() % 1000;

        if (!inside[i]) {
            dues[i].at = at;
            CHECK_EQUAL(ox_heap_add(&heap, &dues[i]), 0);
            inside[i] = 1;
        } else if (next_number() % 3 == 0) {
            ox_heap_remove(&heap, &dues[i]);
            inside[i] = 0;
        } else {
            ox_heap_set(&heap, &dues[i], at);
        }
        if (first_is_least() != 0)
            return 1;
    }
    free(heap.members);
    return 0;
}

static int they_come_out_in_order(void)
{
    int64_t before = -1;

    for (int i = 0; i < MOST; i++) {
        dues[i].at = next_number() % 50;
        CHECK_EQUAL(ox_heap_add(&heap, &dues[i]), 0);
    }
    while (heap.count > 0) {
        CHECK(heap.members[0]->at >= before);
        before = heap.members[0]->at;
        ox_heap_remove(&heap, heap.members[0]);
    }
    free(heap.members);
    return 0;
}

static const struct check_test tests[] = {
    TEST(the_first_is_due_first_whatever_happens),
    TEST(they_come_out_in_order),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
