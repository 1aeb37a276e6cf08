/* The cgroup of a cell: limits, counters, removal; on the machine as it is. */
#define _GNU_SOURCE 1

#include "cgroup_frame.h"

#include <sys/resource.h>

static int read_limit(const struct ox_cgroup_base *base, const struct ox_cgroup *cgroup,
                      int controller, char *ret)
{
    const char *name = NULL;

    for (uint32_t i = 0; i < base->count; i++)
        if (base->hierarchies[i].controllers & 1U << controller) {
            name = controller == OX_CONTROLLER_PIDS    ? "pids.max"
                   : base->hierarchies[i].version == 1 ? "memory.limit_in_bytes"
                                                       : "memory.max";
            return ox_cgroup_read_file(cgroup->directories[i], name, ret, 64);
        }
    return -ENOENT;
}

CGROUP_TEST(test_limits_are_what_was_asked_for)
{
    const struct ox_cgroup_limits limits = { 64 * MIB + 1, 17, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    char text[64];

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 7, &limits, &cgroup), 0);
    CHECK_EQUAL(read_limit(&base, &cgroup, OX_CONTROLLER_MEMORY, text), 0);
    CHECK_EQUAL(atoll(text), 64 * MIB);
    CHECK_EQUAL(read_limit(&base, &cgroup, OX_CONTROLLER_PIDS, text), 0);
    CHECK_EQUAL(atoll(text), 17);
    CHECK(fcntl(cgroup.cpu_fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(cgroup.oom_fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_limits_beyond_the_kernels_are_no_limits)
{
    const struct ox_cgroup_limits limits = { INT64_MAX, INT64_MAX, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    char text[64];

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 7, &limits, &cgroup), 0);
    CHECK_EQUAL(read_limit(&base, &cgroup, OX_CONTROLLER_MEMORY, text), 0);
    CHECK(strcmp(text, "max\n") == 0 || atoll(text) >= INT64_MAX - 65536);
    CHECK_EQUAL(read_limit(&base, &cgroup, OX_CONTROLLER_PIDS, text), 0);
    CHECK(strcmp(text, "max\n") == 0);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_limits_that_nothing_can_live_in_are_refused)
{
    const struct ox_cgroup_limits no_memory = { 0, -1, -1 }, no_process = { -1, 0, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_memory, &cgroup), -EINVAL);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_process, &cgroup), -EINVAL);
    CHECK(!exists(base.hierarchies[0].directory, "cell-1"));
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_an_id_in_use_is_refused)
{
    struct ox_cgroup_base base;
    struct ox_cgroup first, second;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &first), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &second), -EEXIST);
    CHECK(exists(base.hierarchies[0].directory, "cell-1"));
    CHECK_EQUAL(ox_cgroup_create(&base, 2, &no_limits, &second), 0);
    CHECK_EQUAL(remove_at_last(&base, &first), 0);
    CHECK_EQUAL(remove_at_last(&base, &second), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

/* Each number of free descriptors makes it fail at another step, until there are enough. */
CGROUP_TEST(test_a_cell_that_fails_half_way_leaves_nothing)
{
    const struct ox_cgroup_limits limits = { 64 * MIB, 8, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    struct rlimit files;
    int failures = 0;
    int r;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &files), 0);
    for (files.rlim_cur = 3;; files.rlim_cur++) {
        CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &files), 0);
        r = ox_cgroup_create(&base, 1, &limits, &cgroup);
        if (r == 0)
            break;
        CHECK_EQUAL(r, -EMFILE);
        failures++;
        for (uint32_t i = 0; i < base.count; i++)
            CHECK(!exists(base.hierarchies[i].directory, "cell-1"));
    }
    CHECK(failures > 3);
    files.rlim_cur = files.rlim_max;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_process_is_moved_in_every_hierarchy)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    char path[64], text[4096], wanted[128];
    size_t size, found = 0;
    FILE *file;
    pid_t pid;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 3, &no_limits, &cgroup), 0);
    pid = start_in(&cgroup, wait_long);
    CHECK(pid > 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    file = fopen(path, "r");
    CHECK(file != NULL);
    size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    (void)fclose(file);
    (void)snprintf(wanted, sizeof(wanted), "%s/cell-3\n", base.name);
    for (const char *at = text; (at = strstr(at, wanted)) != NULL; at++)
        found++;
    CHECK_EQUAL(found, base.count);
    (void)kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    CHECK_EQUAL(ox_cgroup_attach(&cgroup, pid), -ESRCH);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_more_memory_than_allowed_is_killed_and_counted)
{
    const struct ox_cgroup_limits limits = { 48 * MIB, -1, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    uint64_t kills = 99;
    int status;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &limits, &cgroup), 0);
    CHECK_EQUAL(status_in(&cgroup, touch_little), 0);
    CHECK_EQUAL(ox_cgroup_read_oom_kills(cgroup.oom_fd, &kills), 0);
    CHECK_EQUAL(kills, 0);
    status = status_in(&cgroup, touch_much);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK_EQUAL(ox_cgroup_read_oom_kills(cgroup.oom_fd, &kills), 0);
    CHECK_EQUAL(kills, 1);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    /* The control: nothing but the limit killed it. */
    CHECK_EQUAL(ox_cgroup_create(&base, 2, &no_limits, &cgroup), 0);
    CHECK_EQUAL(status_in(&cgroup, touch_much), 0);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

/* How many children could be there at once, up to ten. */
static int count_forks(void)
{
    pid_t pids[10];
    int count = 0;

    while (count < 10 && (pids[count] = fork()) >= 0) {
        if (pids[count] == 0) {
            (void)sleep(20);
            _exit(0);
        }
        count++;
    }
    for (int i = 0; i < count; i++) {
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, 0);
    }
    return count;
}

CGROUP_TEST(test_processes_are_counted_for_the_whole_tree)
{
    const struct ox_cgroup_limits limits = { -1, 4, -1 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    int status;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &limits, &cgroup), 0);
    status = status_in(&cgroup, count_forks);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 3);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 2, &no_limits, &cgroup), 0);
    status = status_in(&cgroup, count_forks);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 10);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

static int burn(void)
{
    struct timespec now;

    do
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while (now.tv_sec == 0 && now.tv_nsec < 300000000);
    return 0;
}

CGROUP_TEST(test_cpu_time_of_the_tree_is_counted)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    uint64_t before = 0, after = 0;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &cgroup), 0);
    CHECK_EQUAL(ox_cgroup_read_cpu_ns(cgroup.cpu_fd, &before), 0);
    CHECK_EQUAL(status_in(&cgroup, burn), 0);
    CHECK_EQUAL(ox_cgroup_read_cpu_ns(cgroup.cpu_fd, &after), 0);
    CHECK(after - before > 250000000 && after - before < 2000000000);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_the_peak_is_known_and_reset_or_said_not_to_be)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    uint64_t peak = 0, later = 0;
    int r;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &cgroup), 0);
    if (cgroup.peak_fd < 0) {
        CHECK_EQUAL(base.memory_version, 2);
        fprintf(stderr, "no peak on this kernel\n");
        CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
        ox_cgroup_base_close(&base);
        return 0;
    }
    CHECK_EQUAL(status_in(&cgroup, touch_little), 0);
    CHECK_EQUAL(ox_cgroup_read_peak(cgroup.peak_fd, &peak), 0);
    CHECK(peak >= 8 * MIB && peak < 64 * MIB);
    r = ox_cgroup_reset_peak(cgroup.peak_fd);
    fprintf(stderr, "reset: %d\n", r);
    CHECK(r == 0 || (r == -EOPNOTSUPP && base.memory_version == 2));
    CHECK_EQUAL(ox_cgroup_read_peak(cgroup.peak_fd, &later), 0);
    if (r == 0)
        CHECK(later < peak);
    else
        CHECK_EQUAL(later, peak);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_busy_cell_is_removed_later)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    int directory;
    pid_t pid;

    CHECK_EQUAL(open_base(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 5, &no_limits, &cgroup), 0);
    pid = start_in(&cgroup, wait_long);
    CHECK(pid > 0);
    CHECK_EQUAL(ox_cgroup_remove(&base, &cgroup), -EBUSY);
    CHECK_EQUAL(cgroup.cpu_fd, -1);
    CHECK_EQUAL(ox_cgroup_remove(&base, &cgroup), 0); /* nothing is left to do for it */
    CHECK_EQUAL(ox_cgroup_retry(&base), 1);
    (void)kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    for (int tries = 0; tries < 200 && ox_cgroup_retry(&base) > 0; tries++)
        (void)usleep(5000);
    CHECK_EQUAL(ox_cgroup_retry(&base), 0);
    directory = base.hierarchies[0].directory;
    CHECK(!exists(directory, "cell-5"));
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_full_list_neither_blocks_nor_overflows)
{
    static struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    struct timespec before, after;
    int64_t took;
    pid_t pid;

    CHECK_EQUAL(open_base(&base), 0);
    for (uint32_t i = 0; i < OX_CGROUP_PENDING; i++)
        base.pending[i] = 100000 + i;
    base.pending_count = OX_CGROUP_PENDING;
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &cgroup), 0);
    pid = start_in(&cgroup, wait_long);
    CHECK(pid > 0);
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_EQUAL(ox_cgroup_remove(&base, &cgroup), -EBUSY);
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    took = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    CHECK(took < 100000000);
    CHECK_EQUAL(base.pending_count, OX_CGROUP_PENDING);
    (void)kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    ox_cgroup_base_close(&base);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_limits_are_what_was_asked_for),
        TEST(test_limits_beyond_the_kernels_are_no_limits),
        TEST(test_limits_that_nothing_can_live_in_are_refused),
        TEST(test_an_id_in_use_is_refused),
        TEST(test_a_cell_that_fails_half_way_leaves_nothing),
        TEST(test_a_process_is_moved_in_every_hierarchy),
        TEST(test_more_memory_than_allowed_is_killed_and_counted),
        TEST(test_processes_are_counted_for_the_whole_tree),
        TEST(test_cpu_time_of_the_tree_is_counted),
        TEST(test_the_peak_is_known_and_reset_or_said_not_to_be),
        TEST(test_a_busy_cell_is_removed_later),
        TEST(test_a_full_list_neither_blocks_nor_overflows),
    };

    return check_main(tests, LENGTH(tests), argc, argv);
}
