/* A cgroup for each cell: memory, number of processes, CPU time of the whole tree and its rate.
 *
 * Used by the launcher, which is one thread. Each controller is taken from version 1 or 2,
 * wherever the machine has it. A base directory "oxgen-<pid>-<random>" is made in each
 * hierarchy, below the launcher's own cgroup; version 2 does not limit children of a cgroup that
 * holds processes (cgroup-v2, "No Internal Process Constraint"), so there it is the nearest
 * ancestor that can. Limits of the cgroups in between do not hold for the cells then. A
 * controller that must be enabled for that on the way stays enabled.
 *
 * Each base directory is locked (flock) while its launcher lives; a later start removes unlocked
 * ones. The lock belongs to the open file, so a child that does not exec must call
 * ox_cgroup_base_forget(), or it keeps the lock of a dead launcher. */
#ifndef OX_CGROUP_H
#define OX_CGROUP_H

#include "../core.h"

#include <sys/types.h>

#define OX_CGROUP_HIERARCHIES 4
/* Of each period a cell may use its quota, on all processors together. */
#define OX_CGROUP_PERIOD_US 100000
#define OX_CGROUP_QUOTA_MIN_US 1000
#define OX_CGROUP_PENDING 256
#define OX_CGROUP_SPARES 16

struct ox_cgroup_hierarchy {
    int version;
    unsigned controllers; /* bit 1 << enum ox_controller */
    int parent;           /* holds the base */
    int directory;        /* the base, locked */
    int has_cpuset;       /* version 1: what a cgroup may run on has to be set first */
};

/* Text for people: what stands in the way, and the narrowest change that helps. */
struct ox_cgroup_problem {
    char cause[256];
    char remedy[512];
};

/* -1: no bound. memory_bytes is at least a page and is rounded down to pages, processes at least
 * 1, cpu_quota_us at least OX_CGROUP_QUOTA_MIN_US of each period; it takes
 * ox_cgroup_rate_open(). */
struct ox_cgroup_limits {
    int64_t memory_bytes;
    int64_t processes;
    int64_t cpu_quota_us;
};

/* Where the rate of CPU time can be bounded. Nothing is made for it before a cell asks: the
 * controller costs every switch between processes. */
struct ox_cgroup_rate {
    int is_held;  /* it can be bounded, as far as can be told without doing it */
    int is_open;  /* and was */
    int is_apart; /* in a hierarchy that has nothing else of ours */
    uint32_t at;  /* which one, once open or unless apart */
    struct ox_cgroup_hierarchy apart; /* its parent only, until it is open */
};

struct ox_cgroup {
    uint32_t id; /* of its directories, not 0 */
    struct ox_cgroup_limits limits;
    int directories[OX_CGROUP_HIERARCHIES];
    int cpu_fd;   /* for ox_cgroup_read_cpu_ns() */
    int oom_fd;   /* for ox_cgroup_read_oom_kills() */
    int usage_fd; /* for ox_cgroup_read_usage(): what is charged now */
    int peak_fd;  /* for ox_cgroup_read_peak(); -1: the kernel has none (version 2 before 5.19) */
};

#define OX_CGROUP_NONE \
    { \
        .directories = { -1, -1, -1, -1 }, .cpu_fd = -1, .oom_fd = -1, .usage_fd = -1, \
        .peak_fd = -1 \
    }

struct ox_cgroup_base {
    int memory_version; /* 1 or 2 */
    uint32_t count;
    struct ox_cgroup_hierarchy hierarchies[OX_CGROUP_HIERARCHIES];
    struct ox_cgroup_rate rate;
    char name[64];
    /* Cells whose directories could not be removed yet. */
    uint32_t pending_count;
    uint32_t pending[OX_CGROUP_PENDING];
    /* Those of ended cells, as good as new. */
    uint32_t spares_count;
    struct ox_cgroup spares[OX_CGROUP_SPARES];
};

/* Find the hierarchies, remove what dead launchers left, make and lock the base. All three
 * controllers or none; without the one for the rate of CPU time ret_problem says why, and
 * ret->rate.is_held is 0. */
int ox_cgroup_base_open(struct ox_cgroup_base *ret, struct ox_cgroup_problem *ret_problem);

/* Get ready for limits of the rate; once, by the first cell that has one. */
int ox_cgroup_rate_open(struct ox_cgroup_base *base);

/* Make "cell-<id>" with limits that were read back. -EEXIST: the id is in use or not removed
 * yet; -EINVAL: a limit that is too small; -ENOTSUP: the kernel did not take a limit as given. */
int ox_cgroup_create(const struct ox_cgroup_base *base, uint32_t id,
                     const struct ox_cgroup_limits *limits, struct ox_cgroup *ret);

/* The same, or one that was given back and has these limits. */
int ox_cgroup_take(struct ox_cgroup_base *base, uint32_t id, const struct ox_cgroup_limits *limits,
                   struct ox_cgroup *ret);

/* Keep it for ox_cgroup_take() if nothing is left in it and what it has counted can be told from
 * what it will count; else ox_cgroup_remove(). */
void ox_cgroup_give_back(struct ox_cgroup_base *base, struct ox_cgroup *cgroup);

/* Move a process, in every hierarchy, before it has threads or children. On failure it may have
 * moved in some. */
int ox_cgroup_attach(const struct ox_cgroup *cgroup, pid_t pid);

/* Close the descriptors, remove the directories. -EBUSY: the kernel still counts a process in
 * it; removal is tried again by ox_cgroup_retry(), at the latest by ox_cgroup_base_close().
 * Waits 10 ms at most, and only when OX_CGROUP_PENDING others are waiting. Accepts a cgroup
 * that was forgotten, and one of id 0, which is none. */
int ox_cgroup_remove(struct ox_cgroup_base *base, struct ox_cgroup *cgroup);

/* Try to remove what is pending. Returns how many are left. Never waits. */
uint32_t ox_cgroup_retry(struct ox_cgroup_base *base);

/* Remove everything below the base and the base; waits up to 500 ms for processes to go. What is
 * left then is removed by the next launcher that starts here. */
void ox_cgroup_base_close(struct ox_cgroup_base *base);

/* Close the descriptors and remove nothing: for a child of the launcher. */
void ox_cgroup_base_forget(struct ox_cgroup_base *base);

/* The same for one cell. */
void ox_cgroup_forget(struct ox_cgroup *cgroup);

#endif
