/* Pid 1 of a throw-away virtual machine: makes what the tests need of a machine, runs them, powers
 * off.
 *
 * The kernel's command line says which cgroups there are: layout=v2 (all controllers in version 2),
 * layout=together (one hierarchy of version 1 with all of them) or layout=mixed
 * (memory in version 1, the others in version 2). Started under another name than init it is
 * /bin/true. */
#define _GNU_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

enum layout {
    V2 = 1,
    TOGETHER = 2,
    MIXED = 4
};

/* The tests of cgroups arrange delegated ones for one version, and the filter does not know of
 * cgroups. */
static const struct {
    const char *path;
    int layouts;
} tests[] = {
    { "/test_seccomp_table", V2 },
    { "/test_seccomp", V2 },
    { "/test_heap", V2 },
    { "/test_spin", V2 },
    { "/test_cgroup_text", V2 },
    { "/test_cgroup", V2 | TOGETHER },
    { "/test_cgroup_base", V2 | TOGETHER },
    { "/test_cgroup_rate", V2 | TOGETHER | MIXED },
    { "/launch_driver", V2 | TOGETHER | MIXED },
    { "/launch_cells", V2 | TOGETHER | MIXED },
    { "/launch_ends", V2 | TOGETHER | MIXED },
    { "/launch_loop", V2 | TOGETHER | MIXED },
    { "/launch_cgroups", V2 | TOGETHER | MIXED },
    { "/launch_nets", V2 | TOGETHER | MIXED },
    { "/launch_nobody", V2 | TOGETHER | MIXED },
    { "/launch_places", V2 },
};
static const char *const others[] = { "/bin/true", "/launcher", "/probe" };

static int run(const char *path)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)execl(path, path, (char *)NULL);
        _exit(127);
    }
    if (pid < 0)
        return -1;
    /* Orphans are ours to reap, as on any machine. */
    for (;;) {
        pid_t ended = wait(&status);

        if (ended == pid)
            break;
        if (ended < 0 && errno != EINTR)
            return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int mount_at(const char *type, const char *point, unsigned long flags, const char *options)
{
    (void)mkdir(point, 0755);
    if (mount(type, point, type, flags, options) == 0)
        return 0;
    perror(point);
    return -1;
}

static int copy(const char *path)
{
    char target[64];
    int from = open(path, O_RDONLY | O_CLOEXEC), to;
    struct stat what;
    off_t at = 0;
    int r = -1;

    (void)snprintf(target, sizeof(target), "/new%s", path);
    to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (from >= 0 && to >= 0 && fstat(from, &what) == 0) {
        while (at < what.st_size && sendfile(to, from, &at, (size_t)(what.st_size - at)) > 0)
            continue;
        r = at == what.st_size ? 0 : -1;
    }
    if (r < 0)
        perror(path);
    (void)close(from);
    (void)close(to);
    return r;
}

/* The first root of a kernel cannot be the old root of pivot_root(2), which a cell needs; no machine
 * keeps it. */
static int leave_first_root(void)
{
    int failed = mount_at("tmpfs", "/new", 0, "mode=0755");

    (void)mkdir("/new/bin", 0755);
    for (size_t i = 0; i < LENGTH(tests); i++)
        failed |= copy(tests[i].path);
    for (size_t i = 0; i < LENGTH(others); i++)
        failed |= copy(others[i]);
    if (failed != 0 || chdir("/new") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
        chroot(".") < 0 || chdir("/") < 0) {
        perror("a root of our own");
        return -1;
    }
    return 0;
}

/* With the flags that such mounts have on a machine with systemd: a cell may not take them away. */
static int prepare(enum layout layout)
{
    const unsigned long strict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    int failed = leave_first_root();

    failed |= mount_at("proc", "/proc", strict, NULL);
    failed |= mount_at("sysfs", "/sys", strict, NULL);
    failed |= mount_at("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
    failed |= mount_at("tmpfs", "/run", strict, "mode=0755");
    failed |= mount_at("tmpfs", "/tmp", strict, "mode=1777");
    if (layout == TOGETHER)
        failed |= mount_at("cgroup", "/cg", strict, "cpu,cpuset,cpuacct,memory,pids");
    else
        failed |= mount_at("cgroup2", "/sys/fs/cgroup", strict, NULL);
    if (layout == MIXED)
        failed |= mount_at("cgroup", "/cg", strict, "memory");
    return failed;
}

int main(int argc, char **argv)
{
    const char *name = getenv("layout");
    enum layout layout = V2;
    struct utsname system;
    int prepared, failed;

    if (argc < 1 || strcmp(argv[0], "/init") != 0)
        return 0;
    if (name == NULL)
        name = "v2";
    if (strcmp(name, "together") == 0)
        layout = TOGETHER;
    else if (strcmp(name, "mixed") == 0)
        layout = MIXED;
    (void)uname(&system);
    printf("Linux %s, cgroup layout %s\n", system.release, name);
    prepared = failed = prepare(layout);
    for (size_t i = 0; i < LENGTH(tests) && prepared == 0; i++) {
        int r;

        if ((tests[i].layouts & (int)layout) == 0)
            continue;
        r = run(tests[i].path);
        printf("%s: exit status %d\n", tests[i].path, r);
        failed |= r != 0;
    }
    printf("RESULT %s: %s\n", name, failed ? "FAILED" : "passed");
    (void)fflush(NULL);
    sync();
    (void)reboot(RB_POWER_OFF);
    return 1;
}
