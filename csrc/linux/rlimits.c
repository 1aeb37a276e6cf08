/* Limits of processes: the warden has those that never change, its children inherit them
 * (setrlimit(2)), so that a launch sets only its own. */
#include "rlimits.h"

#include <errno.h>
#include <sys/resource.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define NONE ((uint64_t)RLIM_INFINITY)

static struct ox_wire_rlimit fixed[] = {
    /* core(5): 0 is ignored when core_pattern is a pipe, 1 is not. */
    { .resource = RLIMIT_CORE, .soft = 1, .hard = 1 },
    { .resource = RLIMIT_MEMLOCK, .soft = 64 * KIB, .hard = 64 * KIB },
    { .resource = RLIMIT_MSGQUEUE, .soft = 0, .hard = 0 },
    { .resource = RLIMIT_NICE, .soft = 0, .hard = 0 },
    { .resource = RLIMIT_RTPRIO, .soft = 0, .hard = 0 },
    { .resource = RLIMIT_SIGPENDING, .soft = 1024, .hard = 1024 },
    { .resource = RLIMIT_STACK, .soft = 8 * MIB, .hard = 64 * MIB },
    /* Address space is not memory: runtimes reserve far more than they use. The cgroup holds the
     * limit. */
    { .resource = RLIMIT_AS, .soft = NONE, .hard = NONE },
    { .resource = RLIMIT_DATA, .soft = NONE, .hard = NONE },
};

static uint64_t most[RLIM_NLIMITS];
/* Processes with the uid of plugins that are none: the warden, where it has no other. NONE: there is
 * no telling how many. */
static uint64_t beside;
static int stands_in;

static void clamp(struct ox_wire_rlimit *limit)
{
    if (limit->hard > most[limit->resource])
        limit->hard = most[limit->resource];
    if (limit->soft > limit->hard)
        limit->soft = limit->hard;
}

void ox_rlimits_stand_in(int64_t memory_bytes, int shares_uid, int counts_strangers)
{
    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (fixed[i].resource == RLIMIT_DATA && memory_bytes >= 0)
            fixed[i].soft = fixed[i].hard = (uint64_t)memory_bytes;
    }
    beside = counts_strangers ? NONE : shares_uid ? 1 : 0;
    stands_in = memory_bytes >= 0;
}

int ox_rlimits_stands_in(void)
{
    return stands_in;
}

int ox_rlimits_fix(void)
{
    for (int resource = 0; resource < (int)RLIM_NLIMITS; resource++) {
        struct rlimit has;

        if (getrlimit((__rlimit_resource_t)resource, &has) < 0)
            return -errno;
        most[resource] = has.rlim_max;
    }
    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        struct ox_wire_rlimit limit = fixed[i];
        struct rlimit value;

        clamp(&limit);
        value = (struct rlimit){ .rlim_cur = limit.soft, .rlim_max = limit.hard };
        if (setrlimit((__rlimit_resource_t)limit.resource, &value) < 0)
            return -errno;
    }
    return 0;
}

void ox_rlimits_clamp(struct ox_wire_rlimit *rlimits, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (rlimits[i].resource < 0 || rlimits[i].resource >= (int)RLIM_NLIMITS)
            continue;
        if (rlimits[i].resource == RLIMIT_NPROC && beside == NONE) {
            rlimits[i].soft = rlimits[i].hard = NONE;
        } else if (rlimits[i].resource == RLIMIT_NPROC && rlimits[i].hard < NONE - beside) {
            rlimits[i].soft += beside;
            rlimits[i].hard += beside;
        }
        clamp(&rlimits[i]);
    }
}
