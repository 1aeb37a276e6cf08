/* What the kernel says about cgroups in text, and what would be wrong with it: no cgroup is made here. */
#define _GNU_SOURCE 1

#include "check.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "../../csrc/linux/cgroup.h"
#include "../../csrc/linux/cgroup_find.h"
#include "../../csrc/posix/counters.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int text_file(const char *text, size_t size)
{
    int fd = memfd_create("text", MFD_CLOEXEC);

    if (fd < 0 || write(fd, text, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

static int ask(const char *cgroup, const char *mountinfo, struct ox_cgroup_place *ret_places,
               struct ox_cgroup_problem *ret_problem)
{
    int first = text_file(cgroup, strlen(cgroup));
    int second = text_file(mountinfo, strlen(mountinfo));
    int r = ox_cgroup_find(first, second, ret_places, ret_problem);

    (void)close(first);
    (void)close(second);
    if (r == 0)
        for (int i = 0; i < OX_CONTROLLERS; i++)
            (void)close(ret_places[i].mount);
    return r;
}

static int test_a_kernel_without_a_controller_is_named(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(ask("3:cpu,cpuacct:/\n", "", places, &problem), -ENOENT);
    CHECK(strstr(problem.cause, "no cgroup controller \"memory\"") != NULL);
    CHECK(strstr(problem.remedy, "cgroup_enable=memory") != NULL);
    return 0;
}

static int test_an_unmounted_hierarchy_is_named(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(ask("0::/\n", "22 1 0:20 / /proc rw - proc proc rw\n", places, &problem), -ENOENT);
    CHECK(strstr(problem.cause, "no mount of cgroup version 2") != NULL);
    CHECK(strstr(problem.remedy, "mount -t cgroup2") != NULL);
    return 0;
}

/* In one order for all of them, with the controllers that share a hierarchy, at a place that can be
 * made. */
static int test_unmounted_hierarchies_of_version_1_are_named(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(ask("5:pids:/a\n4:memory:/\n3:cpu,cpuacct:/\n0::/\n",
                    "22 1 0:20 / /proc rw - proc proc rw\n", places, &problem),
                -ENOENT);
    CHECK(strstr(problem.remedy, "mkdir -p /run/cgroup/memory && mount -t cgroup -o memory ") !=
          NULL);
    CHECK(strstr(problem.remedy, "mount -t cgroup -o pids ") != NULL);
    CHECK(strstr(problem.remedy, "mount -t cgroup -o cpu,cpuacct ") != NULL);
    CHECK(strstr(problem.remedy, "/sys/fs/cgroup") == NULL);
    return 0;
}

static int test_a_cgroup_outside_of_the_mount_is_named(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(
        ask("0::/a\n", "30 1 0:26 /ab /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", places, &problem),
        -EXDEV);
    CHECK(strstr(problem.cause, "outside") != NULL);
    return 0;
}

static int test_what_lies_over_the_mount_is_not_taken_for_it(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };

    CHECK_EQUAL(ask("0::/\n", "30 1 0:26 / /tmp rw - cgroup2 cgroup2 rw\n", places, &problem),
                -ESTALE);
    return 0;
}

/* Whole, cut and altered copies of real lines: any answer will do, a fault of memory will not. */
static int test_hostile_lines_do_no_harm(void)
{
    static const char cgroup[] =
        "9:name=systemd:/\n4:memory:/a/b\n3:pids:/\n2:cpu,cpuacct:/\n0::/user.slice\n";
    static const char mountinfo[] =
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "35 31 0:32 /a /sys/fs/cgroup/mem\\040ory rw shared:1 master:2 - cgroup cgroup rw,memory\n"
        "36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup  rw,pids\n"
        "37 31 0:34 /.. /sys/fs/cgroup/cpu\\ rw - cgroup none rw,cpu,cpuacct\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    struct ox_cgroup_place places[OX_CONTROLLERS];
    static char one[sizeof(cgroup)], two[sizeof(mountinfo)];
    uint32_t seed = 1;

    for (int round = 0; round < 20000; round++) {
        struct ox_cgroup_problem problem = { "", "" };

        memcpy(one, cgroup, sizeof(cgroup));
        memcpy(two, mountinfo, sizeof(mountinfo));
        for (int i = 0; i < round % 8; i++) {
            seed = seed * 1664525 + 1013904223;
            one[seed % (sizeof(one) - 1)] = "\n:/,\\0. \t\xff\0"[seed >> 28 & 7];
            seed = seed * 1664525 + 1013904223;
            two[seed % (sizeof(two) - 1)] = "\n -:\\7/\0"[seed >> 28 & 7];
        }
        (void)ask(one, two, places, &problem);
    }
    return 0;
}

static int test_overlong_lines_are_left_out(void)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    struct ox_cgroup_problem problem = { "", "" };
    static char text[40000];

    memset(text, 'x', sizeof(text) - 1);
    memcpy(text, "0::/", 4);
    (void)strcpy(text + 30000, "\n0::/here\n");
    CHECK_EQUAL(ask(text, "", places, &problem), -ENOENT);
    CHECK(strstr(problem.cause, "version 2") != NULL);
    (void)strcpy(text + 2000, "\n");
    CHECK_EQUAL(ask(text, "", places, &problem), -ENAMETOOLONG);
    return 0;
}

static int read_as(int (*read_counter)(int, uint64_t *), const char *text, uint64_t *ret)
{
    int fd = text_file(text, strlen(text));
    int r = read_counter(fd, ret);

    (void)close(fd);
    return r;
}

static int test_counters_of_both_versions_are_understood(void)
{
    uint64_t value = 0;

    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "123456789\n", &value), 0);
    CHECK_EQUAL(value, 123456789);
    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "usage_usec 42\nuser_usec 7\n", &value), 0);
    CHECK_EQUAL(value, 42000);
    CHECK_EQUAL(
        read_as(ox_cgroup_read_oom_kills, "oom_kill_disable 0\nunder_oom 1\noom_kill 3\n", &value),
        0);
    CHECK_EQUAL(value, 3);
    CHECK_EQUAL(
        read_as(ox_cgroup_read_oom_kills, "low 0\noom 9\noom_kill 4\noom_group_kill 5\n", &value),
        0);
    CHECK_EQUAL(value, 4);
    CHECK_EQUAL(read_as(ox_cgroup_read_peak, "8192\n", &value), 0);
    CHECK_EQUAL(value, 8192);
    return 0;
}

static int test_counters_that_say_nothing_are_errors(void)
{
    uint64_t value = 77;

    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "", &value), -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "user_usec 7\n", &value), -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "usage_usec 18446744073709551615\n", &value),
                -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_cpu_ns, "99999999999999999999999\n", &value), -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_oom_kills, "oom_kill_disable 0\nunder_oom 0\n", &value),
                -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_peak, "-1\n", &value), -EBADMSG);
    CHECK_EQUAL(read_as(ox_cgroup_read_peak, "max\n", &value), -EBADMSG);
    CHECK_EQUAL(value, 77);
    CHECK_EQUAL(ox_cgroup_read_peak(-1, &value), -EBADF);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {
        TEST(test_a_kernel_without_a_controller_is_named),
        TEST(test_an_unmounted_hierarchy_is_named),
        TEST(test_unmounted_hierarchies_of_version_1_are_named),
        TEST(test_a_cgroup_outside_of_the_mount_is_named),
        TEST(test_what_lies_over_the_mount_is_not_taken_for_it),
        TEST(test_hostile_lines_do_no_harm),
        TEST(test_overlong_lines_are_left_out),
        TEST(test_counters_of_both_versions_are_understood),
        TEST(test_counters_that_say_nothing_are_errors),
    };

    return check_main(tests, LENGTH(tests), argc, argv);
}
