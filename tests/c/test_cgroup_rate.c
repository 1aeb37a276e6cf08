/* The rate of CPU time of a cell: on the machine as it is, and for what this one has not on plain files that look like
 * a cgroup file system. */
#define _GNU_SOURCE 1

#include "cgroup_frame.h"

#include "../../csrc/linux/cgroup_base.h"

/* A base whose cells can have a quota; SKIPPED where the machine has no controller for it. */
static int open_with_rate(struct ox_cgroup_base *ret)
{
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(ox_cgroup_base_open(ret, &problem), 0);
    if (!ret->rate.is_held) {
        fprintf(stderr, "%s (%s)\n", problem.cause, problem.remedy);
        CHECK(problem.cause[0] != '\0' && problem.remedy[0] != '\0');
        ox_cgroup_base_close(ret);
        return SKIPPED;
    }
    return 0;
}

#define OPEN_WITH_RATE(base) \
    do { \
        int opened = open_with_rate(base); \
        if (opened != 0) \
            return opened; \
    } while (0)

static int directory_of_rate(const struct ox_cgroup_base *base, const struct ox_cgroup *cgroup)
{
    return cgroup->directories[base->rate.at];
}

/* What the kernel keeps: the quota of each period of 100 ms, -1 for none. */
static long long quota_of(const struct ox_cgroup_base *base, const struct ox_cgroup *cgroup)
{
    int version = base->hierarchies[base->rate.at].version;
    int directory = directory_of_rate(base, cgroup);
    char text[64], period[64];
    long long quota, of;

    if (version == 2) {
        if (ox_cgroup_read_file(directory, "cpu.max", text, sizeof(text)) < 0)
            return -2;
        return strcmp(text, "max 100000\n") == 0                             ? -1
               : sscanf(text, "%lld %lld", &quota, &of) == 2 && of == 100000 ? quota
                                                                             : -2;
    }
    if (ox_cgroup_read_file(directory, "cpu.cfs_quota_us", text, sizeof(text)) < 0 ||
        ox_cgroup_read_file(directory, "cpu.cfs_period_us", period, sizeof(period)) < 0 ||
        atoll(period) != 100000)
        return -2;
    return atoll(text);
}

CGROUP_TEST(test_nothing_is_made_before_a_cell_asks)
{
    const struct ox_cgroup_limits half = { -1, -1, 50000 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    uint32_t before;

    OPEN_WITH_RATE(&base);
    before = base.count;
    if (base.rate.is_apart)
        CHECK(!exists(base.rate.apart.parent, base.name));
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &half, &cgroup), -ENOTSUP);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0); /* once */
    CHECK_EQUAL(base.count, before + (base.rate.is_apart ? 1 : 0));
    CHECK(exists(base.hierarchies[base.rate.at].parent, base.name));
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_quota_is_what_was_asked_for)
{
    const struct ox_cgroup_limits half = { -1, -1, 50000 }, least = { -1, -1, 1000 },
                                  most = { -1, -1, 102400000 };
    const struct ox_cgroup_limits *const each[] = { &half, &least, &most };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    for (uint32_t i = 0; i < LENGTH(each); i++) {
        CHECK_EQUAL(ox_cgroup_create(&base, i + 1, each[i], &cgroup), 0);
        CHECK_EQUAL(quota_of(&base, &cgroup), each[i]->cpu_quota_us);
        CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
        CHECK(!exists(base.hierarchies[base.rate.at].directory, "cell-1"));
    }
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_cell_without_a_quota_has_none)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &cgroup), 0);
    if (base.rate.is_apart)
        CHECK_EQUAL(directory_of_rate(&base, &cgroup), -1);
    else
        CHECK_EQUAL(quota_of(&base, &cgroup), -1);
    CHECK_EQUAL(status_in(&cgroup, touch_little), 0);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_quota_that_the_kernel_does_not_take_is_refused)
{
    const struct ox_cgroup_limits none = { -1, -1, 0 }, little = { -1, -1, 999 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &none, &cgroup), -EINVAL);
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &little, &cgroup), -EINVAL);
    CHECK(!exists(base.hierarchies[0].directory, "cell-1"));
    ox_cgroup_base_close(&base);
    return 0;
}

/* A second of wall time. */
static int burn_a_second(void)
{
    struct timespec begun, now;

    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < 1000);
    return 0;
}

static int burn_four_times(void)
{
    int status;

    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            _exit(burn_a_second());
    (void)burn_a_second();
    while (waitpid(-1, &status, 0) > 0)
        if (status != 0)
            return 1;
    return 0;
}

CGROUP_TEST(test_four_busy_processes_get_what_the_quota_says)
{
    const struct ox_cgroup_limits half = { -1, -1, 50000 };
    const struct ox_cgroup_limits *const each[] = { &half, &no_limits };
    uint64_t used[2] = { 0, 0 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t before = 0;

        CHECK_EQUAL(ox_cgroup_create(&base, i + 1, each[i], &cgroup), 0);
        CHECK_EQUAL(ox_cgroup_read_cpu_ns(cgroup.cpu_fd, &before), 0);
        CHECK_EQUAL(status_in(&cgroup, burn_four_times), 0);
        CHECK_EQUAL(ox_cgroup_read_cpu_ns(cgroup.cpu_fd, &used[i]), 0);
        used[i] -= before;
        CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    }
    fprintf(stderr, "with a quota %llu ns, without %llu ns\n", (unsigned long long)used[0],
            (unsigned long long)used[1]);
    CHECK(used[0] >= 300000000 && used[0] <= 700000000);
    CHECK(used[1] > used[0]);
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_spare_goes_on_with_the_same_quota_only)
{
    const struct ox_cgroup_limits half = { -1, -1, 50000 }, whole = { -1, -1, 100000 };
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    CHECK_EQUAL(ox_cgroup_take(&base, 1, &half, &cgroup), 0);
    ox_cgroup_give_back(&base, &cgroup);
    if (base.spares_count == 0) {
        CHECK_EQUAL(base.memory_version, 2);
        fprintf(stderr, "nothing is kept, as this kernel does not reset the peak\n");
        ox_cgroup_base_close(&base);
        return 0;
    }
    CHECK_EQUAL(ox_cgroup_take(&base, 2, &whole, &cgroup), 0);
    CHECK_EQUAL(cgroup.id, 2);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    CHECK_EQUAL(ox_cgroup_take(&base, 3, &no_limits, &cgroup), 0);
    CHECK_EQUAL(cgroup.id, 3);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    CHECK_EQUAL(ox_cgroup_take(&base, 4, &half, &cgroup), 0);
    CHECK_EQUAL(cgroup.id, 1);
    CHECK_EQUAL(quota_of(&base, &cgroup), 50000);
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    return 0;
}

/* The next launcher has no use for a quota, and removes what is left all the same. */
CGROUP_TEST(test_what_a_dead_launcher_left_is_swept)
{
    const struct ox_cgroup_limits half = { -1, -1, 50000 };
    struct ox_cgroup_base base;
    char name[64];
    int channel[2];
    int parent;
    pid_t pid;

    OPEN_WITH_RATE(&base);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    parent = dup(base.hierarchies[base.rate.at].parent);
    ox_cgroup_base_close(&base);
    CHECK_EQUAL(pipe(channel), 0);
    pid = fork();
    if (pid == 0) {
        struct ox_cgroup cgroup;

        if (open_base(&base) < 0 || ox_cgroup_rate_open(&base) < 0 ||
            ox_cgroup_create(&base, 1, &half, &cgroup) < 0)
            _exit(1);
        _exit(write(channel[1], base.name, sizeof(base.name)) != (ssize_t)sizeof(base.name));
    }
    (void)close(channel[1]);
    CHECK_EQUAL(read(channel[0], name, sizeof(name)), (ssize_t)sizeof(name));
    (void)close(channel[0]);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    CHECK(exists(parent, name));
    CHECK_EQUAL(open_base(&base), 0);
    CHECK(!exists(parent, name));
    ox_cgroup_base_close(&base);
    (void)close(parent);
    return 0;
}

/* --- version 2, on plain files ---------------------------------------------------------------- */

static char tree[] = "/tmp/oxtest-XXXXXX";

static int put(const char *path, const char *text)
{
    char whole[128];
    FILE *file;

    (void)snprintf(whole, sizeof(whole), "%s/%s", tree, path);
    file = fopen(whole, "w");
    return file != NULL && fputs(text, file) >= 0 && fclose(file) == 0 ? 0 : -1;
}

static int starts(const char *path, const char *wanted)
{
    char whole[128], text[64] = "";
    FILE *file;

    (void)snprintf(whole, sizeof(whole), "%s/%s", tree, path);
    file = fopen(whole, "r");
    if (file == NULL)
        return 0;
    (void)fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    return strncmp(text, wanted, strlen(wanted)) == 0;
}

/* A cgroup with a base in it, whose controllers are those given. */
static int plant(const char *above, const char *ours, struct ox_cgroup_base *ret_base,
                 struct ox_cgroup_place *ret_place)
{
    char base[128];
    struct stat status;
    int parent = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    (void)snprintf(base, sizeof(base), "%s/base", tree);
    if (mkdir(base, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (put("cgroup.controllers", above) < 0 ||
        put("cgroup.subtree_control", "memory pids\n") < 0 ||
        put("base/cgroup.controllers", ours) < 0 ||
        put("base/cgroup.subtree_control", "memory pids\n") < 0 || fstat(parent, &status) < 0)
        return -EIO;
    memset(ret_base, 0, sizeof(*ret_base));
    ret_base->count = 1;
    ret_base->hierarchies[0] =
        (struct ox_cgroup_hierarchy){ .version = 2,
                                      .controllers = 7,
                                      .parent = parent,
                                      .directory = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
    memset(ret_place, 0, sizeof(*ret_place));
    ret_place->version = 2;
    ret_place->mount = parent;
    ret_place->device = status.st_dev;
    return ret_base->hierarchies[0].directory < 0 ? -errno : 0;
}

static int test_version_2_is_asked_to_pass_the_controller_on(void)
{
    struct ox_cgroup_problem problem = { "", "" };
    struct ox_cgroup_place place;
    struct ox_cgroup_base base;

    CHECK_EQUAL(plant("cpu memory pids\n", "cpu memory pids\n", &base, &place), 0);
    ox_cgroup_rate_probe(&base, &place, &problem);
    CHECK(base.rate.is_held && !base.rate.is_apart && !base.rate.is_open);
    CHECK(starts("base/cgroup.subtree_control", "memory pids")); /* nothing yet */
    CHECK(starts("cgroup.subtree_control", "memory pids"));
    CHECK_EQUAL(ox_cgroup_rate_open(&base), 0);
    CHECK(starts("base/cgroup.subtree_control", "+cpu"));
    CHECK(starts("cgroup.subtree_control", "+cpu"));
    CHECK(base.hierarchies[0].controllers & 1U << OX_CONTROLLER_RATE);
    ox_cgroup_base_forget(&base);
    return 0;
}

static int test_version_2_without_the_controller_is_named(void)
{
    struct ox_cgroup_problem problem = { "", "" };
    struct ox_cgroup_place place;
    struct ox_cgroup_base base;

    CHECK_EQUAL(plant("memory pids\n", "memory pids\n", &base, &place), 0);
    ox_cgroup_rate_probe(&base, &place, &problem);
    CHECK(!base.rate.is_held);
    CHECK(strstr(problem.cause, "no controller cpu to pass on") != NULL);
    CHECK(strstr(problem.remedy, "Delegate=yes") != NULL);
    CHECK_EQUAL(ox_cgroup_rate_open(&base), -ENOTSUP);
    CHECK(starts("cgroup.subtree_control", "memory pids"));
    ox_cgroup_base_forget(&base);
    return 0;
}

static int test_a_kernel_without_quotas_is_named(void)
{
    struct ox_cgroup_problem problem = { "", "" };
    struct ox_cgroup_place place;
    struct ox_cgroup_base base;

    CHECK_EQUAL(plant("", "", &base, &place), 0);
    place.version = base.hierarchies[0].version = 1;
    ox_cgroup_rate_probe(&base, &place, &problem);
    CHECK(!base.rate.is_held);
    CHECK(strstr(problem.remedy, "CONFIG_CFS_BANDWIDTH") != NULL);
    CHECK_EQUAL(put("base/cpu.cfs_quota_us", "-1\n"), 0);
    ox_cgroup_rate_probe(&base, &place, &problem);
    CHECK(base.rate.is_held);
    ox_cgroup_base_forget(&base);
    return 0;
}

static void clear_tree(void)
{
    static const char *const files[] = { "base/cpu.cfs_quota_us",
                                         "base/cgroup.controllers",
                                         "base/cgroup.subtree_control",
                                         "base",
                                         "cgroup.controllers",
                                         "cgroup.subtree_control",
                                         "" };
    char whole[128];

    for (uint32_t i = 0; i < LENGTH(files); i++) {
        (void)snprintf(whole, sizeof(whole), "%s/%s", tree, files[i]);
        (void)remove(whole);
    }
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_nothing_is_made_before_a_cell_asks),
        TEST(test_a_quota_is_what_was_asked_for),
        TEST(test_a_cell_without_a_quota_has_none),
        TEST(test_a_quota_that_the_kernel_does_not_take_is_refused),
        TEST(test_four_busy_processes_get_what_the_quota_says),
        TEST(test_a_spare_goes_on_with_the_same_quota_only),
        TEST(test_what_a_dead_launcher_left_is_swept),
        TEST(test_version_2_is_asked_to_pass_the_controller_on),
        TEST(test_version_2_without_the_controller_is_named),
        TEST(test_a_kernel_without_quotas_is_named),
    };
    int r;

    if (mkdtemp(tree) == NULL)
        return 1;
    r = check_main(tests, LENGTH(tests), argc, argv);
    clear_tree();
    return r;
}
