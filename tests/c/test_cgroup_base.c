/* The base of a launcher: made, swept, refused with a cause; on the machine as it is. */
#define _GNU_SOURCE 1

#include "cgroup_frame.h"

CGROUP_TEST(test_a_base_is_made_and_removed_in_every_hierarchy)
{
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    int watched[OX_CGROUP_HIERARCHIES];

    CHECK_EQUAL(open_base(&base), 0);
    CHECK(base.count >= 1);
    CHECK(base.memory_version == 1 || base.memory_version == 2);
    for (uint32_t i = 0; i < base.count; i++) {
        watched[i] = dup(base.hierarchies[i].parent);
        CHECK(exists(watched[i], base.name));
        fprintf(stderr, "hierarchy %u: version %d, controllers %#x\n", i,
                base.hierarchies[i].version, base.hierarchies[i].controllers);
    }
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &no_limits, &cgroup), 0);
    CHECK(exists(base.hierarchies[0].directory, "cell-1"));
    ox_cgroup_forget(&cgroup);
    ox_cgroup_base_close(&base);
    for (uint32_t i = 0; i < base.count; i++)
        CHECK(!exists(watched[i], base.name));
    return 0;
}

/* A launcher that dies at once: base and an empty cell stay. Its base's name comes through the pipe. */
static int die_with_base(char *ret_name)
{
    int channel[2];
    pid_t pid;

    if (pipe(channel) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        struct ox_cgroup_base base;
        struct ox_cgroup cgroup;

        if (open_base(&base) < 0 || ox_cgroup_create(&base, 1, &no_limits, &cgroup) < 0)
            _exit(1);
        _exit(write(channel[1], base.name, sizeof(base.name)) == (ssize_t)sizeof(base.name) ? 0
                                                                                            : 1);
    }
    (void)close(channel[1]);
    if (read(channel[0], ret_name, 64) != 64)
        return -1;
    (void)close(channel[0]);
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

CGROUP_TEST(test_what_a_dead_launcher_left_is_swept)
{
    struct ox_cgroup_base base;
    char name[64];

    CHECK_EQUAL(die_with_base(name), 0);
    CHECK_EQUAL(open_base(&base), 0);
    CHECK(strcmp(name, base.name) != 0);
    for (uint32_t i = 0; i < base.count; i++)
        CHECK(!exists(base.hierarchies[i].parent, name));
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_a_living_launcher_is_left_alone)
{
    struct ox_cgroup_base first, second;
    struct ox_cgroup cgroup;

    CHECK_EQUAL(open_base(&first), 0);
    CHECK_EQUAL(ox_cgroup_create(&first, 1, &no_limits, &cgroup), 0);
    CHECK_EQUAL(open_base(&second), 0);
    for (uint32_t i = 0; i < first.count; i++) {
        CHECK(exists(first.hierarchies[i].parent, first.name));
        CHECK(exists(first.hierarchies[i].directory, "cell-1"));
    }
    CHECK_EQUAL(remove_at_last(&first, &cgroup), 0);
    ox_cgroup_base_close(&second);
    ox_cgroup_base_close(&first);
    return 0;
}

CGROUP_TEST(test_a_leftover_with_a_process_is_left_for_later)
{
    struct ox_cgroup_base first, second;
    struct ox_cgroup cgroup;
    pid_t pid;

    CHECK_EQUAL(open_base(&first), 0);
    CHECK_EQUAL(ox_cgroup_create(&first, 1, &no_limits, &cgroup), 0);
    pid = start_in(&cgroup, wait_long);
    CHECK(pid > 0);
    ox_cgroup_forget(&cgroup);
    for (uint32_t i = 0; i < first.count; i++) /* the lock is gone, as with its launcher */
        (void)close(first.hierarchies[i].directory);
    /* The child has copies of the descriptors, and with them the lock, until it ends. */
    CHECK_EQUAL(open_base(&second), 0);
    CHECK(exists(first.hierarchies[0].parent, first.name));
    (void)kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    (void)usleep(50000);
    ox_cgroup_base_close(&second);
    CHECK_EQUAL(open_base(&second), 0);
    CHECK(!exists(first.hierarchies[0].parent, first.name));
    ox_cgroup_base_close(&second);
    return 0;
}

CGROUP_TEST(test_a_child_that_forgets_does_not_keep_the_lock)
{
    struct ox_cgroup_base first, second;
    pid_t pid;

    CHECK_EQUAL(open_base(&first), 0);
    pid = fork();
    if (pid == 0) {
        ox_cgroup_base_forget(&first);
        (void)sleep(30);
        _exit(0);
    }
    CHECK(pid > 0);
    (void)usleep(100000);
    for (uint32_t i = 0; i < first.count; i++)
        (void)close(first.hierarchies[i].directory);
    CHECK_EQUAL(open_base(&second), 0);
    CHECK(!exists(first.hierarchies[0].parent, first.name));
    (void)kill(pid, SIGKILL);
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    ox_cgroup_base_close(&second);
    return 0;
}

CGROUP_TEST(test_only_our_own_names_are_swept)
{
    static const char *const kept[] = {
        "oxgen-backup",
        "oxgen-1-0123456789abcde",
        "oxgen-1-0123456789abcdef0",
        "oxgen--0123456789abcdef",
        "oxgen-12-0123456789ABCDEF",
        "xoxgen-1-0123456789abcdef",
        "oxgen-1x-0123456789abcdef",
        "oxgen-12345678901-0123456789abcdef",
    };
    static const char swept[] = "oxgen-1-0123456789abcdef";
    struct ox_cgroup_base base;
    int parent;

    CHECK_EQUAL(open_base(&base), 0);
    parent = dup(base.hierarchies[0].parent);
    ox_cgroup_base_close(&base);
    for (size_t i = 0; i < LENGTH(kept); i++)
        CHECK_EQUAL(mkdirat(parent, kept[i], 0755), 0);
    CHECK_EQUAL(mkdirat(parent, swept, 0755), 0);
    CHECK_EQUAL(open_base(&base), 0);
    CHECK(!exists(parent, swept));
    for (size_t i = 0; i < LENGTH(kept); i++) {
        CHECK(exists(parent, kept[i]));
        CHECK_EQUAL(unlinkat(parent, kept[i], AT_REMOVEDIR), 0);
    }
    ox_cgroup_base_close(&base);
    return 0;
}

CGROUP_TEST(test_without_the_right_the_cause_is_named)
{
    struct ox_cgroup_base base;
    struct ox_cgroup_problem problem = { "", "" };

    if (geteuid() != 0)
        return SKIPPED;
    CHECK_EQUAL(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    CHECK_EQUAL(ox_cgroup_base_open(&base, &problem), -EACCES);
    fprintf(stderr, "%s (%s)\n", problem.cause, problem.remedy);
    CHECK(strstr(problem.cause, "no right to make cgroups") != NULL);
    CHECK(problem.remedy[0] != '\0');
    return 0;
}

/* Give a cgroup to nobody. Returns a descriptor. */
static int hand_over(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fchown(fd, 65534, 65534) < 0 || fchownat(fd, "cgroup.procs", 65534, 65534, 0) < 0)
        return -1;
    if (fchownat(fd, "cgroup.subtree_control", 65534, 65534, 0) < 0 && errno != ENOENT)
        return -1;
    return fd;
}

/* As systemd-run --user --scope -p Delegate=yes has it for version 2: the user owns the cgroup above the one it is
 * in. Of version 1 it is given the very one. */
CGROUP_TEST(test_a_delegated_cgroup_is_enough)
{
    const struct ox_cgroup_limits limits = { 48 * MIB, 8, -1 };
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_base base;
    struct ox_cgroup cgroup;
    int delegated = -1, leaf, top = -1;

    CHECK_EQUAL(find(places), 0);
    if (geteuid() != 0)
        return SKIPPED;
    for (int i = 0; i < OX_CONTROLLERS; i++)
        if (places[i].version == 1)
            CHECK(hand_over(parents[i], strrchr(places[i].path, '/') + 1) >= 0);
    if (places[OX_CONTROLLER_MEMORY].version == 2) {
        top = places[OX_CONTROLLER_MEMORY].mount;
        CHECK_EQUAL(ox_write_text(top, "cgroup.subtree_control", 0, "+memory +pids"), 0);
        CHECK_EQUAL(mkdirat(top, "oxtest-delegated", 0755), 0);
        delegated = hand_over(top, "oxtest-delegated");
        CHECK(delegated >= 0);
        CHECK_EQUAL(mkdirat(delegated, "leaf", 0755), 0);
        leaf = hand_over(delegated, "leaf");
        CHECK(leaf >= 0);
        CHECK_EQUAL(ox_write_text(leaf, "cgroup.procs", 0, "0"), 0);
    }
    CHECK_EQUAL(syscall(SYS_setresuid, 65534, 65534, 0), 0);
    CHECK_EQUAL(open_base(&base), 0);
    CHECK(delegated < 0 || exists(delegated, base.name));
    CHECK_EQUAL(ox_cgroup_create(&base, 1, &limits, &cgroup), 0);
    CHECK_EQUAL(status_in(&cgroup, touch_little), 0);
    CHECK(WIFSIGNALED(status_in(&cgroup, touch_much)));
    CHECK_EQUAL(remove_at_last(&base, &cgroup), 0);
    ox_cgroup_base_close(&base);
    CHECK_EQUAL(syscall(SYS_setresuid, 0, 0, 0), 0);
    if (delegated >= 0) {
        CHECK_EQUAL(ox_write_text(top, "cgroup.procs", 0, "0"), 0);
        CHECK_EQUAL(unlinkat(delegated, "leaf", AT_REMOVEDIR), 0);
        CHECK_EQUAL(unlinkat(top, "oxtest-delegated", AT_REMOVEDIR), 0);
    }
    return 0;
}

static int bases;

static void count_base(int directory, const char *name)
{
    char ours[32];

    (void)directory;
    (void)snprintf(ours, sizeof(ours), "oxgen-%d-", (int)getpid());
    bases += strncmp(name, ours, strlen(ours)) == 0;
}

/* In a mount namespace of its own: the hierarchy of one controller becomes read-only. */
CGROUP_TEST(test_a_read_only_mount_is_named_and_nothing_is_left)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_base base;
    struct ox_cgroup_problem problem = { "", "" };
    char path[64], point[256];
    ssize_t size;
    int parent;

    CHECK_EQUAL(open_base(&base), 0);
    parent = dup(base.hierarchies[0].parent);
    ox_cgroup_base_close(&base);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return SKIPPED;
    CHECK_EQUAL(find(places), 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", places[OX_CONTROLLER_PIDS].mount);
    size = readlink(path, point, sizeof(point) - 1);
    CHECK(size > 0);
    point[size] = '\0';
    CHECK_EQUAL(mount(NULL, point, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
    CHECK_EQUAL(ox_cgroup_base_open(&base, &problem), -EROFS);
    fprintf(stderr, "%s (%s)\n", problem.cause, problem.remedy);
    CHECK(strstr(problem.cause, "read-only") != NULL);
    CHECK_EQUAL(ox_cgroup_each_name(parent, count_base), 0);
    CHECK_EQUAL(bases, 0);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_a_base_is_made_and_removed_in_every_hierarchy),
        TEST(test_what_a_dead_launcher_left_is_swept),
        TEST(test_a_living_launcher_is_left_alone),
        TEST(test_a_leftover_with_a_process_is_left_for_later),
        TEST(test_a_child_that_forgets_does_not_keep_the_lock),
        TEST(test_only_our_own_names_are_swept),
        TEST(test_without_the_right_the_cause_is_named),
        TEST(test_a_delegated_cgroup_is_enough),
        TEST(test_a_read_only_mount_is_named_and_nothing_is_left),
    };

    return check_main(tests, LENGTH(tests), argc, argv);
}
