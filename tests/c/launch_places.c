/* Where a launcher may stand in a tree of cgroup version 2 that has all controllers, and where its
 * cells get their limits then. Each test arranges a tree as one that is met outside; it is for a
 * machine that is thrown away. */
#define _GNU_SOURCE 1

#include "launch_frame.h"

#include <sched.h>
#include <sys/mount.h>

#define ROOT "/sys/fs/cgroup"

static struct stage stage;

/* --- arranging ------------------------------------------------------------------------------ */

static int write_to(const char *directory, const char *file, const char *text)
{
    char path[256];
    int fd, r;

    (void)snprintf(path, sizeof(path), ROOT "%s/%s", directory, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
    (void)close(fd);
    return r;
}

static int make_group(const char *directory)
{
    char path[256];

    (void)snprintf(path, sizeof(path), ROOT "%s", directory);
    return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int enter(const char *directory)
{
    return write_to(directory, "cgroup.procs", "0");
}

static int pass_on(const char *directory)
{
    return write_to(directory, "cgroup.subtree_control", "+memory +pids");
}

/* A second process beside us, as a shell is in a session. */
static int add_neighbour(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            (void)pause();
    }
    return pid < 0 ? -errno : 0;
}

/* --- asking --------------------------------------------------------------------------------- */

static int base_is_in(const char *directory)
{
    char path[256], wanted[64];
    const struct dirent *entry;
    DIR *there;
    int found = 0;

    (void)snprintf(path, sizeof(path), ROOT "%s", directory);
    (void)snprintf(wanted, sizeof(wanted), "oxgen-%d-", stage.launcher.pid);
    there = opendir(path);
    while (there != NULL && (entry = readdir(there)) != NULL)
        found += strncmp(entry->d_name, wanted, strlen(wanted)) == 0;
    if (there != NULL)
        (void)closedir(there);
    return found;
}

/* Limits of a cell hold, whichever place its launcher has, and its base is where it should be. */
static int cells_are_limited_in(const char *directory)
{
    struct ox_cell_spec cell = plain_cell;
    struct ox_run_spec run = plain_run;
    char expected[64];

    cell.processes = 8;
    CHECK_EQUAL(run_once(&cell, &run, "touch", "268435456", &stage), 0);
    CHECK_EQUAL(stage.launcher.memory_version, 2);
    CHECK(base_is_in(directory));
    CHECK_EQUAL(stage.ended.outcome.status, SIGKILL);
    CHECK(stage.ended.outcome.oom_kills > 0);
    CHECK_EQUAL(run_again(&stage, "fork-many", "20"), 0);
    (void)snprintf(expected, sizeof(expected), "children=7 error=%d\n", EAGAIN);
    CHECK_TEXT(stage.ended.out, expected);
    run.cpu_ns = SECOND / 2;
    CHECK_EQUAL(run_with(&stage.cell, &run, "burn", "3", &stage.ended), 0);
    CHECK_EQUAL(stage.ended.outcome.cause, OX_CAUSE_CPU);
    return strike(&stage);
}

/* --- places --------------------------------------------------------------------------------- */

static int in_the_root(void)
{
    CHECK_EQUAL(enter(""), 0);
    return cells_are_limited_in("");
}

/* A login of systemd: the scope holds processes, the slice above it none, and it has controllers
 * that it does not pass on. */
static int in_a_session_that_holds_processes(void)
{
    CHECK_EQUAL(make_group("/user.slice"), 0);
    CHECK_EQUAL(make_group("/user.slice/user-0.slice"), 0);
    CHECK_EQUAL(make_group("/user.slice/user-0.slice/session-1.scope"), 0);
    CHECK_EQUAL(pass_on(""), 0);
    CHECK_EQUAL(pass_on("/user.slice"), 0);
    CHECK_EQUAL(enter("/user.slice/user-0.slice/session-1.scope"), 0);
    CHECK_EQUAL(add_neighbour(), 0);
    return cells_are_limited_in("/user.slice/user-0.slice");
}

/* The same where nobody has passed controllers on: they are enabled from the root down. */
static int in_a_session_without_controllers(void)
{
    CHECK_EQUAL(make_group("/bare.slice"), 0);
    CHECK_EQUAL(make_group("/bare.slice/session-2.scope"), 0);
    CHECK_EQUAL(make_group("/bare.slice/session-2.scope/inner"), 0);
    CHECK_EQUAL(pass_on(""), 0);
    CHECK_EQUAL(enter("/bare.slice/session-2.scope/inner"), 0);
    return cells_are_limited_in("/bare.slice");
}

/* Delegate=yes and DelegateSubgroup=: the unit itself holds nothing but groups. */
static int in_an_empty_delegated_group(void)
{
    CHECK_EQUAL(make_group("/scanner.service"), 0);
    CHECK_EQUAL(pass_on(""), 0);
    CHECK_EQUAL(pass_on("/scanner.service"), 0);
    CHECK_EQUAL(make_group("/scanner.service/main"), 0);
    CHECK_EQUAL(enter("/scanner.service/main"), 0);
    CHECK_EQUAL(add_neighbour(), 0);
    return cells_are_limited_in("/scanner.service");
}

/* Alone, and delegated, but we are in it ourselves: the nearest that can is above. */
static int in_a_delegated_group_without_a_subgroup(void)
{
    CHECK_EQUAL(make_group("/plain.slice"), 0);
    CHECK_EQUAL(make_group("/plain.slice/plain.service"), 0);
    CHECK_EQUAL(pass_on(""), 0);
    CHECK_EQUAL(pass_on("/plain.slice"), 0);
    CHECK_EQUAL(enter("/plain.slice/plain.service"), 0);
    return cells_are_limited_in("/plain.slice");
}

/* A container: what it sees as the root is a group that holds it. */
static int enter_container(const char *group)
{
    CHECK_EQUAL(make_group(group), 0);
    CHECK_EQUAL(pass_on(""), 0);
    CHECK_EQUAL(enter(group), 0);
    CHECK_EQUAL(unshare(CLONE_NEWCGROUP | CLONE_NEWNS), 0);
    CHECK_EQUAL(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQUAL(umount2(ROOT, MNT_DETACH), 0);
    CHECK_EQUAL(mount("cgroup2", ROOT, "cgroup2", 0, NULL), 0);
    return 0;
}

/* The launcher starts, and what it does not hold a run has to do without by name. */
static int in_a_container_that_holds_us_it_is_lacking_by_name(void)
{
    struct ox_problem problem = { .cause = "" };
    const struct ox_problem *lacking = &stage.launcher.lacking;

    CHECK_EQUAL(enter_container("/container-1"), 0);
    CHECK_EQUAL(start_in_range(uid_base(), &stage.launcher, &problem), 0);
    CHECK_EQUAL(stage.launcher.holds & (OX_MEMORY_TREE | OX_CPU_TREE), 0);
    CHECK_EQUAL(lacking->error.stage, OX_STAGE_CGROUP_BASE);
    CHECK_EQUAL(lacking->error.errnum, EBUSY);
    CHECK(strstr(lacking->cause, "hold processes") != NULL);
    CHECK(strstr(lacking->remedy, "child of it") != NULL);
    return 0;
}

static int in_a_container_the_named_remedy_helps(void)
{
    CHECK_EQUAL(enter_container("/container-2"), 0);
    CHECK_EQUAL(make_group("/init"), 0);
    CHECK_EQUAL(enter("/init"), 0);
    return cells_are_limited_in("");
}

static const struct check_test tests[] = {
    TEST(in_the_root),
    TEST(in_a_session_that_holds_processes),
    TEST(in_a_session_without_controllers),
    TEST(in_an_empty_delegated_group),
    TEST(in_a_delegated_group_without_a_subgroup),
    TEST(in_a_container_that_holds_us_it_is_lacking_by_name),
    TEST(in_a_container_the_named_remedy_helps),
};

int main(int argc, char **argv)
{
    return check_main(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
