/* Mount namespaces of the launcher's own. */
#include "space.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "done.h"
#include "missing.h"

int ox_spaces_open(struct ox_spaces *ret_spaces)
{
    *ret_spaces = (struct ox_spaces){
        .home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC),
        .root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
    };
    return ret_spaces->home < 0 || ret_spaces->root < 0 ? -errno : 0;
}

void ox_spaces_close(struct ox_spaces *spaces)
{
    ox_close(&spaces->home);
    ox_close(&spaces->root);
}

struct settling {
    int mounted;
    unsigned long flags;
    int result; /* descriptor of the namespace or a negative errno */
};

/* Into a mount namespace of our own, and there and back: or the launcher would mount and start cells in
 * the one of whoever started it. Nothing is mounted before. */
static int move_out(int *ret_space)
{
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), r = 0;
    int64_t before = ox_done_namespace(proc, "mnt"), after;

    *ret_space = -1;
    if (proc < 0 || home < 0 || before < 0 || unshare(CLONE_NEWNS) < 0) {
        r = -errno;
        goto out;
    }
    after = ox_done_namespace(proc, "mnt");
    *ret_space = openat(proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (*ret_space < 0 || after < 0)
        r = -errno;
    else if (after == before)
        r = -EBADE;
    else if (setns(home, CLONE_NEWNS) < 0)
        r = -errno;
    else if (ox_done_namespace(proc, "mnt") != before)
        r = -EBADE;
    else if (setns(*ret_space, CLONE_NEWNS) < 0)
        r = -errno;
    else if (ox_done_namespace(proc, "mnt") != after)
        r = -EBADE;
out:
    ox_close(&proc);
    ox_close(&home);
    return r;
}

/* In a child that shares memory and descriptors with the launcher, but neither root nor mount
 * namespace. */
static int settle(void *argument)
{
    struct settling *task = argument;
    int space = -1, r = move_out(&space);

    if (r < 0) {
        errno = -r;
        goto fail;
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        goto fail;
    if (syscall(SYS_move_mount, task->mounted, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        goto fail;
    /* The copies of the host's mounts go: they would keep its file systems busy. */
    if (fchdir(task->mounted) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0)
        goto fail;
    if (task->flags != 0 && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | task->flags, NULL) < 0)
        goto fail;
    task->result = space;
    _exit(0);
fail:
    task->result = -errno;
    ox_close(&space);
    _exit(1);
}

int ox_space_make(int mounted, unsigned long flags, int *ret_space)
{
    static char stack[16 * 1024] __attribute__((aligned(64)));
    struct settling task = { .mounted = mounted, .flags = flags, .result = -EIO };
    pid_t pid =
        clone(settle, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &task);

    if (pid < 0)
        return -errno;
    while (waitpid(pid, NULL, __WALL) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    if (task.result < 0)
        return task.result;
    *ret_space = task.result;
    return 0;
}

int ox_space_enter(int space)
{
    return setns(space, CLONE_NEWNS) < 0 ? -errno : 0;
}

int ox_space_leave(struct ox_spaces *spaces)
{
    if (setns(spaces->home, CLONE_NEWNS) < 0 || fchdir(spaces->root) < 0 || chroot(".") < 0) {
        spaces->astray = 1;
        return -errno;
    }
    return 0;
}
