/* Processors by sched_setaffinity(2), of the calling thread only. */
#include "../core.h"
#include "../posix/place.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BITS (8 * sizeof(unsigned long))

struct mask {
    unsigned long words[OX_PROCESSORS_MAX / WORD_BITS];
};

static void make_mask(int processor, struct mask *ret)
{
    memset(ret, processor < 0 ? 0xff : 0, sizeof(*ret));
    if (processor >= 0)
        ret->words[(unsigned)processor / WORD_BITS] = 1ul << ((unsigned)processor % WORD_BITS);
}

/* Number of bytes that the kernel has written, the rest is cleared. */
static long get_mask(void *ret_words, size_t capacity)
{
    memset(ret_words, 0, capacity);
    return syscall(SYS_sched_getaffinity, 0, capacity, ret_words);
}

int ox_place_only(int processor)
{
    struct mask mask;

    if (processor >= OX_PROCESSORS_MAX)
        return -EINVAL;
    make_mask(processor, &mask);
    return syscall(SYS_sched_setaffinity, 0, sizeof(mask), &mask) < 0 ? -errno : 0;
}

int ox_place_hold(struct ox_place *place)
{
    long size = get_mask(place->before, sizeof(place->before));
    int processor = sched_getcpu();
    struct mask only;

    place->processor = -1;
    if (size <= 0 || processor < 0 || processor >= OX_PROCESSORS_MAX)
        return -1;
    make_mask(processor, &only);
    place->size = (unsigned)size;
    place->changed = memcmp(&only, place->before, sizeof(only)) != 0;
    if (place->changed && ox_place_only(processor) < 0)
        return -1;
    place->processor = processor;
    return processor;
}

void ox_place_release(struct ox_place *place)
{
    struct mask only, now;

    if (place->processor < 0)
        return;
    make_mask(place->processor, &only);
    place->processor = -1;
    if (!place->changed || get_mask(&now, sizeof(now)) <= 0 ||
        memcmp(&now, &only, sizeof(now)) != 0)
        return;
    (void)syscall(SYS_sched_setaffinity, 0, place->size, place->before);
}
