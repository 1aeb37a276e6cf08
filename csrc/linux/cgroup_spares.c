/* Cgroups of cells that have ended, for cells with the same limits.
 *
 * Making, attaching to and removing one in each hierarchy costs a quarter of a cell; its limits were
 * read back when it was made and nobody else could change them. What it has counted stays: CPU time
 * and kills are read as differences, a peak is reset or the cgroup is not kept. */
#include "cgroup.h"

#include <string.h>

#include "../posix/counters.h"
#include "cgroup_files.h"
#include "cgroup_find.h"

/* What may stay charged: the kernel gives back some kernel memory later, and keeps a stock of pages
 * for each processor. */
#define RESIDUE_BYTES (512u * 1024u)

/* The controller counts a process until it has been reaped. */
static int holds_no_process(const struct ox_cgroup_base *base, const struct ox_cgroup *cgroup)
{
    for (uint32_t i = 0; i < base->count; i++) {
        char text[32];

        if ((base->hierarchies[i].controllers & 1U << OX_CONTROLLER_PIDS) == 0)
            continue;
        return ox_cgroup_read_file(cgroup->directories[i], "pids.current", text, sizeof(text)) ==
                   0 &&
               strcmp(text, "0\n") == 0;
    }
    return 0;
}

static int is_as_new(const struct ox_cgroup_base *base, const struct ox_cgroup *cgroup)
{
    uint64_t bytes;

    return cgroup->id != 0 && ox_cgroup_read_usage(cgroup->usage_fd, &bytes) == 0 &&
           bytes <= RESIDUE_BYTES &&
           (cgroup->peak_fd < 0 || ox_cgroup_reset_peak(cgroup->peak_fd) == 0) &&
           holds_no_process(base, cgroup);
}

int ox_cgroup_take(struct ox_cgroup_base *base, uint32_t id, const struct ox_cgroup_limits *limits,
                   struct ox_cgroup *ret)
{
    for (uint32_t i = base->spares_count; i-- > 0;) {
        struct ox_cgroup *spare = &base->spares[i];

        if (spare->limits.memory_bytes != limits->memory_bytes ||
            spare->limits.processes != limits->processes ||
            spare->limits.cpu_quota_us != limits->cpu_quota_us)
            continue;
        *ret = *spare;
        *spare = base->spares[--base->spares_count];
        return 0;
    }
    return ox_cgroup_create(base, id, limits, ret);
}

void ox_cgroup_give_back(struct ox_cgroup_base *base, struct ox_cgroup *cgroup)
{
    if (!is_as_new(base, cgroup)) {
        (void)ox_cgroup_remove(base, cgroup); /* one that is busy is kept pending */
        return;
    }
    if (base->spares_count == OX_CGROUP_SPARES) { /* the oldest, roughly, makes room */
        (void)ox_cgroup_remove(base, &base->spares[0]);
        base->spares[0] = base->spares[--base->spares_count];
    }
    base->spares[base->spares_count++] = *cgroup;
    *cgroup = (struct ox_cgroup)OX_CGROUP_NONE;
}
