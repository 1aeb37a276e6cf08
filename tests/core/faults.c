/* Faults: linked into a copy of the launcher with -Wl,--wrap for every call that a stage makes.
 * The copy's file name, "fault-<call>-<skip>-<errno>", says which call fails: the <skip>+1st one
 * of that name in each process. It is no part of the product; its sources are. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char call[32];
static int skip = -1, number;

__attribute__((constructor)) static void read_own_name(void)
{
    char path[512];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    char *name;

    if (size <= 0)
        abort();
    path[size] = '\0';
    name = strrchr(path, '/') + 1;
    if (sscanf(name, "fault-%31[a-z0-9_]-%d-%d", call, &skip, &number) != 3)
        abort();
}

static int fails(const char *name)
{
    if (strcmp(name, call) != 0 || skip < 0)
        return 0;
    if (skip-- > 0)
        return 0;
    errno = number;
    return 1;
}

/* Raw system calls by the name of their number. */
static const struct {
    long number;
    const char *name;
} raw[] = {
    { SYS_fsopen, "fsopen" },         { SYS_fsmount, "fsmount" },
    { SYS_open_tree, "open_tree" },   { SYS_clone, "raw_clone" },
    { SYS_setgroups, "setgroups" },   { SYS_setresgid, "setresgid" },
    { SYS_setresuid, "setresuid" },   { SYS_move_mount, "move_mount" },
    { SYS_pivot_root, "pivot_root" }, { SYS_close_range, "close_range" },
    { SYS_capset, "capset" },         { SYS_seccomp, "seccomp" },
    { SYS_ioprio_set, "ioprio_set" }, { 446, "landlock_restrict_self" },
};

long __real_syscall(long n, ...);
long __wrap_syscall(long n, ...)
{
    long a[6];
    va_list list;

    va_start(list, n);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    /* An older kernel's Landlock: "fault-landlock_version-0-<version>". */
    if (n == 444 && a[2] == 1 && strcmp(call, "landlock_version") == 0)
        return number;
    for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
        if (raw[i].number == n && fails(raw[i].name))
            return -1;
    }
    return __real_syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define WRAP(type, name, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters \
    { \
        if (fails(#name)) \
            return (type)-1; \
        return __real_##name arguments; \
    }

WRAP(int, mount,
     (const char *source, const char *target, const char *type, unsigned long flags,
      const void *data),
     (source, target, type, flags, data))
WRAP(int, umount2, (const char *target, int flags), (target, flags))
WRAP(int, unshare, (int flags), (flags))
WRAP(int, setns, (int fd, int type), (fd, type))
WRAP(int, sethostname, (const char *name, size_t size), (name, size))
WRAP(int, chroot, (const char *path), (path))
WRAP(int, chdir, (const char *path), (path))
WRAP(pid_t, setsid, (void), ())
WRAP(int, dup2, (int from, int to), (from, to))
WRAP(int, dup3, (int from, int to, int flags), (from, to, flags))
WRAP(int, setrlimit, (__rlimit_resource_t resource, const struct rlimit *value), (resource, value))
WRAP(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
WRAP(int, symlink, (const char *to, const char *at), (to, at))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, socketpair, (int domain, int type, int protocol, int *ret), (domain, type, protocol, ret))
WRAP(ssize_t, send, (int socket, const void *bytes, size_t size, int flags),
     (socket, bytes, size, flags))
WRAP(int, sched_setscheduler, (pid_t pid, int policy, const struct sched_param *param),
     (pid, policy, param))
WRAP(ssize_t, pwrite, (int fd, const void *bytes, size_t size, off_t at), (fd, bytes, size, at))
WRAP(int, execve, (const char *path, char *const *argv, char *const *envp), (path, argv, envp))
WRAP(int, poll, (struct pollfd * fds, nfds_t count, int wait), (fds, count, wait))

/* Those with a variable argument list, in the forms that the sources use. */
int __real_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    const char *name = option == PR_CAPBSET_DROP       ? "capbset_drop"
                       : option == PR_SET_NO_NEW_PRIVS ? "no_new_privs"
                       : option == PR_SET_PDEATHSIG    ? "pdeathsig"
                                                       : "prctl";

    return fails(name) ? -1 : __real_prctl(option, a, b, c, d);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    const char *name = strcmp(path, "/proc/self/ns/mnt") == 0   ? "open_mnt"
                       : strcmp(path, "/dev/null") == 0         ? "open_null"
                       : strcmp(path, "/proc") == 0             ? "open_proc"
                       : strcmp(path, "/proc/self/ns/net") == 0 ? "open_net"
                       : strcmp(path, "/run/oxgen") == 0        ? "open_run"
                                                                : "open";
    mode_t mode = 0;

    if ((flags & O_CREAT) != 0) {
        va_list list;

        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    return fails(name) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...)
{
    const char *name = strstr(path, "oom_score") != NULL ? "open_oom_score"
                       : strstr(path, "uid_map") != NULL ? "open_uid_map"
                       : strncmp(path, "etc/", 4) == 0   ? "open_etc"
                                                         : "openat";
    mode_t mode = 0;

    if ((flags & O_CREAT) != 0) {
        va_list list;

        va_start(list, flags);
        mode = va_arg(list, mode_t);
        va_end(list);
    }
    return fails(name) ? -1 : __real_openat(directory, path, flags, mode);
}

int __real_clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);
int __wrap_clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    return fails("clone") ? -1 : __real_clone(fn, stack, flags, arg);
}

int __wrap_ox_cgroup_create(const void *base, unsigned id, const void *limits, void *ret);
int __real_ox_cgroup_create(const void *base, unsigned id, const void *limits, void *ret);
int __wrap_ox_cgroup_create(const void *base, unsigned id, const void *limits, void *ret)
{
    return fails("cgroup_create") ? -number : __real_ox_cgroup_create(base, id, limits, ret);
}

int __real_ox_cgroup_attach(const void *cgroup, pid_t pid);
int __wrap_ox_cgroup_attach(const void *cgroup, pid_t pid)
{
    return fails("cgroup_attach") ? -number : __real_ox_cgroup_attach(cgroup, pid);
}

int __wrap_ox_cgroup_rate_open(void *base);
int __real_ox_cgroup_rate_open(void *base);
int __wrap_ox_cgroup_rate_open(void *base)
{
    return fails("cgroup_rate_open") ? -number : __real_ox_cgroup_rate_open(base);
}

int __real_ox_cgroup_base_open(void *ret, void *problem);
int __wrap_ox_cgroup_base_open(void *ret, void *problem)
{
    return fails("cgroup_base_open") ? -number : __real_ox_cgroup_base_open(ret, problem);
}
