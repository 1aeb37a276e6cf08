/* What the tests of cgroups share. Each runs in a cgroup of its own, made and removed for it in every hierarchy, so
 * that it meets nobody else's directories. Where no cgroup can be made the tests are skipped. */
#ifndef OX_CGROUP_FRAME_H
#define OX_CGROUP_FRAME_H

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "../../csrc/linux/cgroup.h"
#include "../../csrc/linux/cgroup_cells.h"
#include "../../csrc/linux/cgroup_files.h"
#include "../../csrc/linux/cgroup_find.h"
#include "../../csrc/posix/counters.h"
#include "../../csrc/posix/fd.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
/* Not every file of tests needs every one. */
#define UNUSED __attribute__((unused))
#define MIB (INT64_C(1) << 20)

/* --- a cgroup of its own -------------------------------------------------------------------- */

static int find(struct ox_cgroup_place *ret_places)
{
    struct ox_cgroup_problem problem;
    int cgroup = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    int mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    int r = ox_cgroup_find(cgroup, mountinfo, ret_places, &problem);

    if (r < 0)
        fprintf(stderr, "%s (%s)\n", problem.cause, problem.remedy);
    (void)close(cgroup);
    (void)close(mountinfo);
    return r;
}

static int parents[OX_CONTROLLERS] = { -1, -1, -1, -1 };

/* Run body in a child below cgroup "oxtest-<pid>". */
static int confined(int (*body)(void))
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    char name[32], text[32];
    int status = -1;
    int r = SKIPPED;
    pid_t pid;

    if (find(places) < 0)
        return SKIPPED;
    (void)snprintf(name, sizeof(name), "oxtest-%d", (int)getpid());
    for (int i = 0; i < OX_CONTROLLERS; i++) {
        if (places[i].mount < 0)
            continue; /* the rate of CPU time, which not every machine bounds */
        parents[i] = ox_cgroup_open_below(places[i].mount, places[i].path, strlen(places[i].path));
        if (parents[i] < 0 || (mkdirat(parents[i], name, 0755) < 0 && errno != EEXIST)) {
            fprintf(stderr, "no cgroup for the test can be made: %s\n", strerror(errno));
            goto out;
        }
    }
    pid = fork();
    if (pid == 0) {
        (void)snprintf(text, sizeof(text), "%d", (int)getpid());
        for (int i = 0; i < OX_CONTROLLERS; i++) {
            if (parents[i] < 0)
                continue;
            int directory = openat(parents[i], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

            if ((places[i].version == 1 && ox_cgroup_inherit_cpuset(parents[i], directory) < 0) ||
                ox_write_text(directory, "cgroup.procs", 0, text) < 0)
                _exit(1);
            (void)close(directory);
        }
        (void)alarm(50);
        r = body();
        (void)fflush(NULL);
        _exit(r);
    }
    r = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (status != 0 && !WIFEXITED(status))
        fprintf(stderr, "ended by wait status %#x\n", status);
out:
    /* A reaped process may be counted for a moment more. */
    for (int tries = 0, left = 1; tries < 200 && left; tries++) {
        left = 0;
        for (int i = 0; i < OX_CONTROLLERS; i++)
            if (parents[i] >= 0 && unlinkat(parents[i], name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                left = 1;
        if (left)
            (void)usleep(5000);
        if (left && tries == 199) {
            fprintf(stderr, "%s could not be removed: %s\n", name, strerror(errno));
            r = 1;
        }
    }
    return r;
}

#define CGROUP_TEST(name) \
    static int name##_inside(void); \
    static int name(void) \
    { \
        return confined(name##_inside); \
    } \
    static int name##_inside(void)

static int open_base(struct ox_cgroup_base *ret)
{
    struct ox_cgroup_problem problem = { "", "" };
    int r = ox_cgroup_base_open(ret, &problem);

    if (r < 0)
        fprintf(stderr, "%s (%s)\n", problem.cause, problem.remedy);
    return r;
}

UNUSED static int exists(int directory, const char *name)
{
    return faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A child in the cgroup, which starts work only when it is in. */
UNUSED static pid_t start_in(const struct ox_cgroup *cgroup, int (*work)(void))
{
    int gate[2];
    char c;
    pid_t pid;

    if (pipe(gate) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        (void)close(gate[1]);
        if (read(gate[0], &c, 1) != 1)
            _exit(99);
        (void)close(gate[0]);
        _exit(work());
    }
    (void)close(gate[0]);
    if (pid > 0 && (ox_cgroup_attach(cgroup, pid) < 0 || write(gate[1], "x", 1) != 1)) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        pid = -1;
    }
    (void)close(gate[1]);
    return pid;
}

UNUSED static int status_in(const struct ox_cgroup *cgroup, int (*work)(void))
{
    int status = -1;
    pid_t pid = start_in(cgroup, work);

    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

UNUSED static int remove_at_last(struct ox_cgroup_base *base, struct ox_cgroup *cgroup)
{
    int r = ox_cgroup_remove(base, cgroup);

    for (int tries = 0; r == -EBUSY && tries < 200; tries++) {
        (void)usleep(5000);
        r = ox_cgroup_retry(base) == 0 ? 0 : -EBUSY;
    }
    return r;
}

UNUSED static const struct ox_cgroup_limits no_limits = { -1, -1, -1 };

UNUSED static int wait_long(void)
{
    (void)sleep(30);
    return 0;
}

static int touch(int64_t bytes)
{
    char *memory =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return 1;
    for (int64_t at = 0; at < bytes; at += 4096)
        memory[at] = 1;
    return munmap(memory, (size_t)bytes) == 0 ? 0 : 2;
}

UNUSED static int touch_little(void)
{
    return touch(8 * MIB);
}

UNUSED static int touch_much(void)
{
    return touch(256 * MIB);
}

#endif
