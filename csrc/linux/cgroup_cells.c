/* The cgroup of one cell. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "cgroup_cells.h"
#include "cgroup_files.h"
#include "cgroup_find.h"

#define PREFIX "cell-"
#define NAME_SIZE sizeof(PREFIX "4294967295")
#define NUMBER_SIZE sizeof("-9223372036854775808")
/* PID_MAX_LIMIT of the kernel: pids.max takes nothing above, and nothing above could ever be
 * reached. */
#define PROCESSES_MAX 4194304
#define REMOVE_WAIT_NS INT64_C(10000000)

static void cell_name(uint32_t id, char ret_name[NAME_SIZE])
{
    (void)snprintf(ret_name, NAME_SIZE, PREFIX "%" PRIu32, id);
}

static int is_cell_name(const char *name)
{
    size_t digits;

    if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0)
        return 0;
    name += sizeof(PREFIX) - 1;
    digits = strspn(name, "0123456789");
    return digits > 0 && digits <= 10 && name[digits] == '\0';
}

static void remove_one(int directory, const char *name)
{
    if (is_cell_name(name))
        (void)unlinkat(directory, name, AT_REMOVEDIR);
}

void ox_cgroup_remove_cells(int base_directory)
{
    (void)ox_cgroup_each_name(base_directory, remove_one);
}

/* --- limits
 * ------------------------------------------------------------------------------------ */

static int copy_if_empty(int parent, int directory, const char *name)
{
    char text[4096];
    int r = ox_cgroup_read_file(directory, name, text, sizeof(text));

    if (r == -ENOENT)
        return 0; /* no cpuset in this hierarchy */
    if (r < 0 || (text[0] != '\n' && text[0] != '\0'))
        return r;
    r = ox_cgroup_read_file(parent, name, text, sizeof(text));
    return r < 0 ? r : ox_write_text(directory, name, 0, text);
}

int ox_cgroup_inherit_cpuset(int parent, int directory)
{
    int r = copy_if_empty(parent, directory, "cpuset.cpus");

    return r < 0 ? r : copy_if_empty(parent, directory, "cpuset.mems");
}

static int open_file(int directory, const char *name, int flags)
{
    int fd = openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 ? -errno : fd;
}

/* Some kernels take a limit without a word and keep another one. "max" is more than any number. */
static int check_limit(int fd, int64_t limit)
{
    char text[NUMBER_SIZE + 1];
    char *end = text;
    int64_t taken;
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);

    if (size < 0)
        return -errno;
    text[size] = '\0';
    if (strcmp(text, "max\n") == 0)
        return -ENOTSUP;
    errno = 0;
    taken = strtoll(text, &end, 10);
    return errno == 0 && end != text && taken == limit ? 0 : -ENOTSUP;
}

static int write_limit(int directory, const char *name, int64_t limit)
{
    char text[NUMBER_SIZE];
    int size = snprintf(text, sizeof(text), "%" PRId64, limit);
    int fd = open_file(directory, name, O_RDWR);
    int r;

    if (fd < 0)
        return fd;
    r = write(fd, text, (size_t)size) == size ? check_limit(fd, limit) : -errno;
    ox_close(&fd);
    return r;
}

static int optional(int r)
{
    return r == -ENOENT ? 0 : r;
}

/* The kernel counts pages. Above this many bytes it keeps "no limit" (PAGE_COUNTER_MAX), rightly
 * so. */
static int limit_memory(int directory, int version, int64_t bytes)
{
    int64_t page = sysconf(_SC_PAGESIZE);
    int r;

    if (bytes < 0 || bytes / page >= INT64_MAX / page)
        return 0;
    bytes -= bytes % page;
    if (version == 2) {
        r = write_limit(directory, "memory.max", bytes);
        if (r < 0)
            return r;
        /* Swap is not memory that a limit should buy. The file is missing where there is no swap
         * support. */
        return optional(write_limit(directory, "memory.swap.max", 0));
    }
    r = write_limit(directory, "memory.limit_in_bytes", bytes);
    if (r < 0)
        return r;
    /* Memory and swap together, which must not be less than memory alone: so it comes second. */
    return optional(write_limit(directory, "memory.memsw.limit_in_bytes", bytes));
}

static int limit_processes(int directory, int64_t processes)
{
    if (processes < 0 || processes > PROCESSES_MAX)
        return 0;
    return write_limit(directory, "pids.max", processes);
}

static int write_rate(int directory, int64_t quota)
{
    char text[2 * NUMBER_SIZE], taken[sizeof(text) + 2];
    int r;

    (void)snprintf(text, sizeof(text), "%" PRId64 " %d\n", quota, OX_CGROUP_PERIOD_US);
    r = ox_write_text(directory, "cpu.max", 0, text);
    if (r == 0)
        r = ox_cgroup_read_file(directory, "cpu.max", taken, sizeof(taken));
    return r < 0 ? r : strcmp(taken, text) == 0 ? 0 : -ENOTSUP;
}

static int limit_rate(int directory, int version, int64_t quota)
{
    int r;

    if (quota < 0)
        return 0;
    if (version == 2)
        return write_rate(directory, quota);
    r = write_limit(directory, "cpu.cfs_period_us", OX_CGROUP_PERIOD_US);
    return r < 0 ? r : write_limit(directory, "cpu.cfs_quota_us", quota);
}

/* --- counters
 * ---------------------------------------------------------------------------------- */

/* Writable, because writing resets it; older kernels have it for reading only, or not at all. */
static int open_peak(int directory, int version)
{
    const char *name = version == 1 ? "memory.max_usage_in_bytes" : "memory.peak";
    int fd = open_file(directory, name, O_RDWR);

    if (fd < 0 && fd != -ENOENT)
        fd = open_file(directory, name, O_RDONLY);
    return fd;
}

static int open_counters(const struct ox_cgroup_hierarchy *hierarchy, int directory,
                         struct ox_cgroup *cgroup)
{
    int v1 = hierarchy->version == 1;
    int peak;

    if (hierarchy->controllers & 1U << OX_CONTROLLER_CPU) {
        cgroup->cpu_fd = open_file(directory, v1 ? "cpuacct.usage" : "cpu.stat", O_RDONLY);
        if (cgroup->cpu_fd < 0)
            return cgroup->cpu_fd;
    }
    if (hierarchy->controllers & 1U << OX_CONTROLLER_MEMORY) {
        cgroup->oom_fd =
            open_file(directory, v1 ? "memory.oom_control" : "memory.events", O_RDONLY);
        if (cgroup->oom_fd < 0)
            return cgroup->oom_fd;
        cgroup->usage_fd =
            open_file(directory, v1 ? "memory.usage_in_bytes" : "memory.current", O_RDONLY);
        if (cgroup->usage_fd < 0)
            return cgroup->usage_fd;
        peak = open_peak(directory, hierarchy->version);
        if (peak < 0 && peak != -ENOENT)
            return peak;
        cgroup->peak_fd = peak < 0 ? -1 : peak;
    }
    return 0;
}

/* --- one cell
 * ---------------------------------------------------------------------------------- */

static int create_in(const struct ox_cgroup_hierarchy *hierarchy, const char *name,
                     const struct ox_cgroup_limits *limits, int *ret_directory,
                     struct ox_cgroup *cgroup)
{
    int directory;
    int r = 0;

    if (mkdirat(hierarchy->directory, name, 0755) < 0)
        return -errno;
    directory = openat(hierarchy->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (directory < 0) {
        r = -errno;
        goto out;
    }
    if (hierarchy->has_cpuset)
        r = ox_cgroup_inherit_cpuset(hierarchy->directory, directory);
    if (r == 0 && hierarchy->controllers & 1U << OX_CONTROLLER_MEMORY)
        r = limit_memory(directory, hierarchy->version, limits->memory_bytes);
    if (r == 0 && hierarchy->controllers & 1U << OX_CONTROLLER_PIDS)
        r = limit_processes(directory, limits->processes);
    if (r == 0 && hierarchy->controllers & 1U << OX_CONTROLLER_RATE)
        r = limit_rate(directory, hierarchy->version, limits->cpu_quota_us);
    if (r == 0)
        r = open_counters(hierarchy, directory, cgroup);
out:
    if (r < 0) {
        ox_close(&directory);
        (void)unlinkat(hierarchy->directory, name, AT_REMOVEDIR);
        return r;
    }
    *ret_directory = directory;
    return 0;
}

int ox_cgroup_create(const struct ox_cgroup_base *base, uint32_t id,
                     const struct ox_cgroup_limits *limits, struct ox_cgroup *ret)
{
    struct ox_cgroup cgroup = OX_CGROUP_NONE;
    char name[NAME_SIZE];
    uint32_t made = 0;
    int r = 0;

    if (limits->memory_bytes >= 0 && limits->memory_bytes < sysconf(_SC_PAGESIZE))
        return -EINVAL;
    if (limits->processes == 0)
        return -EINVAL;
    if (limits->cpu_quota_us >= 0 && limits->cpu_quota_us < OX_CGROUP_QUOTA_MIN_US)
        return -EINVAL;
    if (limits->cpu_quota_us >= 0 && !base->rate.is_open)
        return -ENOTSUP;
    cgroup.id = id;
    cgroup.limits = *limits;
    cell_name(id, name);
    for (; made < base->count && r == 0; made += r == 0)
        if (limits->cpu_quota_us >= 0 ||
            base->hierarchies[made].controllers != 1U << OX_CONTROLLER_RATE)
            r = create_in(&base->hierarchies[made], name, limits, &cgroup.directories[made],
                          &cgroup);
    if (r == 0) {
        *ret = cgroup;
        return 0;
    }
    ox_cgroup_forget(&cgroup);
    while (made-- > 0)
        (void)unlinkat(base->hierarchies[made].directory, name, AT_REMOVEDIR);
    return r;
}

int ox_cgroup_attach(const struct ox_cgroup *cgroup, pid_t pid)
{
    char text[NUMBER_SIZE];

    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    for (uint32_t i = 0; i < OX_CGROUP_HIERARCHIES; i++)
        if (cgroup->directories[i] >= 0) {
            int r = ox_write_text(cgroup->directories[i], "cgroup.procs", 0, text);

            if (r < 0)
                return r;
        }
    return 0;
}

void ox_cgroup_forget(struct ox_cgroup *cgroup)
{
    for (uint32_t i = 0; i < OX_CGROUP_HIERARCHIES; i++)
        ox_close(&cgroup->directories[i]);
    ox_close(&cgroup->cpu_fd);
    ox_close(&cgroup->oom_fd);
    ox_close(&cgroup->usage_fd);
    ox_close(&cgroup->peak_fd);
}

/* --- removal
 * ----------------------------------------------------------------------------------- */

/* 1 when no hierarchy has the directory any more. */
static int remove_cell(const struct ox_cgroup_base *base, uint32_t id)
{
    char name[NAME_SIZE];
    int gone = 1;

    cell_name(id, name);
    for (uint32_t i = 0; i < base->count; i++)
        if (unlinkat(base->hierarchies[i].directory, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            gone = 0;
    return gone;
}

int ox_cgroup_remove(struct ox_cgroup_base *base, struct ox_cgroup *cgroup)
{
    const struct timespec pause = { .tv_nsec = 1000000 };
    uint32_t id = cgroup->id;
    int64_t deadline;

    if (id == 0)
        return 0;
    cgroup->id = 0;
    ox_cgroup_forget(cgroup);
    if (remove_cell(base, id))
        return 0;
    if (base->pending_count < OX_CGROUP_PENDING) {
        base->pending[base->pending_count++] = id;
        return -EBUSY;
    }
    for (deadline = ox_now_ns() + REMOVE_WAIT_NS; ox_now_ns() < deadline;) {
        (void)nanosleep(&pause, NULL);
        if (remove_cell(base, id))
            return 0;
    }
    return -EBUSY;
}

uint32_t ox_cgroup_retry(struct ox_cgroup_base *base)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < base->pending_count; i++)
        if (!remove_cell(base, base->pending[i]))
            base->pending[left++] = base->pending[i];
    base->pending_count = left;
    return left;
}
