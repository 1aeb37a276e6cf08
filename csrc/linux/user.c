/* The user namespace of a launcher without privilege. */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "done.h"
#include "subids.h"

/* newuidmap may ask a directory service who has which ids: SIGALRM ends it when none answers. */
#define MAPPER_SECONDS 5

/* The map of a user namespace: lines of the first id inside, the first outside, how many. */
static int is_mapped(const char *path, uint32_t base, uint32_t count)
{
    FILE *file = fopen(path, "re");
    unsigned inside, outside, size;
    int found = file == NULL; /* a kernel without user namespaces has no such file */

    while (file != NULL && !found && fscanf(file, "%u %u %u", &inside, &outside, &size) == 3)
        found = base >= inside && (uint64_t)base + count <= (uint64_t)inside + size;
    if (file != NULL)
        (void)fclose(file);
    return found;
}

int ox_user_is_privileged(uint32_t base, uint32_t count)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct sets[2];

    return syscall(SYS_capget, &header, sets) == 0 &&
           (sets[0].effective & (1u << CAP_SYS_ADMIN)) != 0 &&
           is_mapped("/proc/self/uid_map", base, count) &&
           is_mapped("/proc/self/gid_map", base, count);
}

/* --- why not ---------------------------------------------------------------------------------- */

/* The number that a file of /proc/sys says; -1: there is no such file. */
static long read_setting(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size;

    if (fd < 0)
        return -1;
    size = read(fd, text, sizeof(text) - 1);
    ox_close(&fd);
    return size <= 0 ? -1 : strtol(text, NULL, 10);
}

const char *ox_filter_remedy(void)
{
    return "give the container a seccomp profile of its own (docker run --security-opt seccomp=FILE) "
           "that is the engine's with unshare, clone, setns, mount, umount2, pivot_root, open_tree, "
           "move_mount, fsopen, fsconfig and fsmount allowed: docs/machines.md";
}

/* Linux says so in /proc/self/status since 4.9. */
int ox_is_filtered(void)
{
    char text[4096];
    const char *line;
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    ox_close(&fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    line = strstr(text, "\nSeccomp:\t");
    return line != NULL && line[10] == '2';
}

struct reason {
    const char *cause;
    const char *remedy;
};

static struct reason find_reason(int errnum)
{
    if (errnum == EBADE)
        return (struct reason){
            "a system call filter around this process answers calls that it does not let through",
            "take it away, or have it answer with an errno, as EPERM or ENOSYS"
        };
    if (read_setting("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        return (struct reason){
            "user namespaces are for root only (kernel.unprivileged_userns_clone=0)",
            "as root: sysctl kernel.unprivileged_userns_clone=1"
        };
    if (read_setting("/proc/sys/user/max_user_namespaces") == 0)
        return (struct reason){ "user namespaces are turned off (user.max_user_namespaces=0)",
                                "as root: sysctl user.max_user_namespaces=15000" };
    if (read_setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        return (struct reason){
            "AppArmor lets programs without a profile do nothing in user namespaces "
            "(kernel.apparmor_restrict_unprivileged_userns=1)",
            "as root: give the launcher an AppArmor profile that allows userns"
        };
    if (errnum == ENOSPC || errnum == EUSERS)
        return (struct reason){ "no more user namespaces are allowed (user.max_user_namespaces)",
                                "as root: raise sysctl user.max_user_namespaces" };
    if (errnum == EINVAL || errnum == ENOSYS)
        return (struct reason){ "this kernel has no user namespaces",
                                "use a kernel with CONFIG_USER_NS, or run as root" };
    if (ox_is_filtered())
        return (struct reason){
            "a system call filter around this process, as containers have it, refuses namespaces",
            ox_filter_remedy()
        };
    return (struct reason){
        "namespaces are refused to this user (in a chroot, or by a security module)",
        "run as root, or outside of the chroot; see the audit log for denials"
    };
}

static int refuse(struct ox_problem *problem, int r, const char *step)
{
    struct reason reason = find_reason(-r);

    problem->error = (struct ox_error){ OX_STAGE_USER_NAMESPACE, -r };
    (void)snprintf(problem->cause, sizeof(problem->cause), "%s: %s: %s", reason.cause, step,
                   strerror(-r));
    (void)snprintf(problem->remedy, sizeof(problem->remedy), "%s", reason.remedy);
    return r;
}

/* --- id maps ---------------------------------------------------------------------------------- */

/* Ourselves, and nobody else: what everybody may do. */
static int map_one(const char *file, uint32_t id)
{
    char map[32];

    (void)snprintf(map, sizeof(map), "0 %u 1\n", id);
    return ox_write_text(AT_FDCWD, file, 0, map);
}

static int run_mapper(const char *program, pid_t target, uint32_t id, const struct ox_user *user)
{
    char words[5][16];
    char *argv[9] = { (char *)program, words[0], (char *)"0", words[1], (char *)"1",
                      words[2],        words[2], words[3],    NULL };
    char *const environment[] = { NULL };
    pid_t pid;
    int status;

    (void)snprintf(words[0], sizeof(words[0]), "%d", target);
    (void)snprintf(words[1], sizeof(words[1]), "%u", id);
    (void)snprintf(words[2], sizeof(words[2]), "%u", user->sub_base);
    (void)snprintf(words[3], sizeof(words[3]), "%u", user->sub_count);
    pid = fork();
    if (pid == 0) {
        (void)alarm(MAPPER_SECONDS);
        (void)execve(program, argv, environment);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -ECHILD;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

/* newuidmap and newgidmap are set-user-ID programs, which they are only outside of the namespace: a
 * child stays there, and runs them once we have entered it. */
static pid_t start_outside(const struct ox_user *user, uint32_t gid, int *ret_go)
{
    int go[2] = { -1, -1 };
    pid_t target = getpid(), pid;
    char byte;

    if (pipe2(go, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        ox_close(&go[1]);
        (void)alarm(2 * MAPPER_SECONDS + 1);
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        /* 2: uids are mapped, gids are not. */
        if (run_mapper(OX_NEWUIDMAP, target, user->uid, user) < 0)
            _exit(1);
        _exit(run_mapper(OX_NEWGIDMAP, target, gid, user) < 0 ? 2 : 0);
    }
    ox_close(&go[0]);
    if (pid < 0)
        ox_close(&go[1]);
    *ret_go = go[1];
    return pid;
}

/* 1: uids and gids are mapped; 2: uids only; 0: nothing is. */
static int ask_outside(pid_t pid, int *go)
{
    int status = 0;
    ssize_t told = write(*go, "g", 1);

    ox_close(go);
    if (waitpid(pid, &status, 0) != pid || told != 1 || !WIFEXITED(status))
        return 0;
    return WEXITSTATUS(status) == 0 ? 1 : WEXITSTATUS(status) == 2 ? 2 : 0;
}

static int map_ids(struct ox_user *user, uint32_t gid, int mapped)
{
    int r = 0;

    if (mapped == 1)
        return 0;
    user->sub_count = 0;
    if (mapped == 0)
        r = map_one("/proc/self/uid_map", user->uid);
    /* ENOENT: Linux before 3.19, where it is not asked for. */
    if (r == 0) {
        r = ox_write_text(AT_FDCWD, "/proc/self/setgroups", 0, "deny");
        if (r == -ENOENT)
            r = 0;
    }
    return r < 0 ? r : map_one("/proc/self/gid_map", gid);
}

int ox_user_has_groups(void)
{
    gid_t own = getegid();
    static gid_t groups[65536]; /* NGROUPS_MAX */
    int count = getgroups(sizeof(groups) / sizeof(groups[0]), groups);

    for (int i = 0; i < count; i++) {
        if (groups[i] != own)
            return 1;
    }
    return count < 0;
}

/* unshare() of a namespace that is there then: a filter around us can answer that it is, and what
 * follows would be done to the one of whoever started us. */
static int enter_new(int flags, const char *kind)
{
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int64_t before = ox_done_namespace(proc, kind);
    int r = unshare(flags) < 0 ? -errno : 0;

    /* Where /proc is no proc, the id maps cannot be written either. */
    if (r == 0 && (before < 0 || ox_done_namespace(proc, kind) == before))
        r = -EBADE;
    ox_close(&proc);
    return r;
}

/* --- entering --------------------------------------------------------------------------------- */

int ox_user_enter(struct ox_user *ret_user, struct ox_problem *ret_problem)
{
    struct ox_user user = { .is_own = 1, .uid = geteuid() };
    gid_t gid = getegid();
    int groups = ox_user_has_groups();
    int go = -1, mapped = 0, r;
    pid_t outside = -1;

    user.sub_count = ox_subids_find(user.uid, &user.sub_base);
    if (user.sub_count > 0)
        outside = start_outside(&user, gid, &go);
    r = enter_new(CLONE_NEWUSER, "user");
    if (outside > 0 && r == 0) {
        mapped = ask_outside(outside, &go);
    } else if (outside > 0) {
        ox_close(&go);
        (void)waitpid(outside, NULL, 0);
    }
    if (r < 0)
        return refuse(ret_problem, r, "unshare(CLONE_NEWUSER)");
    r = map_ids(&user, gid, mapped);
    if (r < 0)
        return refuse(ret_problem, r, "writing the id maps");

    r = enter_new(CLONE_NEWNS | CLONE_NEWNET, "mnt");
    if (r < 0)
        return refuse(ret_problem, r, "unshare(CLONE_NEWNS | CLONE_NEWNET)");
    /* What the host mounts later is seen here too, as programs may lie on it. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return refuse(ret_problem, -errno, "mount(MS_SLAVE)");
    user.keeps_groups = user.sub_count == 0 && groups;
    *ret_user = user;
    return 0;
}

/* --- what RLIMIT_NPROC counts ----------------------------------------------------------------- */

/* In a namespace of its own: it is alone, and two are allowed. Where all processes of the uid count,
 * the launcher and its host are two already. */
static int try_two(void)
{
    const struct rlimit two = { 2, 2 };
    pid_t pid;

    if (unshare(CLONE_NEWUSER) < 0 || setrlimit(RLIMIT_NPROC, &two) < 0)
        return 1;
    pid = fork();
    if (pid == 0)
        _exit(0);
    return pid < 0 || waitpid(pid, NULL, 0) != pid;
}

int ox_user_counts_apart(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(try_two());
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}
