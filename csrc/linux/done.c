/* Read back what has been done, once for each cell or launcher. */
#include "done.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"

int ox_done_ids(uint32_t id)
{
    uint32_t uids[3], gids[3];

    if (syscall(SYS_getresuid, &uids[0], &uids[1], &uids[2]) < 0 ||
        syscall(SYS_getresgid, &gids[0], &gids[1], &gids[2]) < 0)
        return -errno;
    for (int i = 0; i < 3; i++) {
        if (uids[i] != id || gids[i] != id)
            return -EBADE;
    }
    return 0;
}

int ox_done_capabilities(uint32_t kept)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct sets[2];

    memset(sets, 0xff, sizeof(sets));
    if (syscall(SYS_capget, &header, sets) < 0)
        return -errno;
    if (((sets[0].effective | sets[0].permitted) & ~kept) != 0 ||
        (sets[1].effective | sets[1].permitted) != 0)
        return -EBADE;
    return 0;
}

int ox_done_chroot(int directory)
{
    struct stat wanted, root, here;

    if (fstat(directory, &wanted) < 0 || stat("/", &root) < 0 || stat(".", &here) < 0)
        return -errno;
    return wanted.st_ino == root.st_ino && wanted.st_dev == root.st_dev &&
                   wanted.st_ino == here.st_ino && wanted.st_dev == here.st_dev
               ? 0
               : -EBADE;
}

int64_t ox_done_namespace(int proc, const char *kind)
{
    char path[32];
    struct stat what;

    (void)snprintf(path, sizeof(path), "self/ns/%s", kind);
    return fstatat(proc, path, &what, 0) < 0 ? -errno : (int64_t)what.st_ino;
}

int ox_done_apart(int one, int other)
{
    struct stat a, b;

    if (fstat(one, &a) < 0 || fstat(other, &b) < 0)
        return -errno;
    return a.st_ino != b.st_ino ? 0 : -EBADE;
}

int ox_done_read_only(const char *path)
{
    struct statfs has;

    if (statfs(path, &has) < 0)
        return -errno;
    return ((unsigned long)has.f_flags & ST_RDONLY) != 0 ? 0 : -EBADE;
}

int ox_done_wall(void)
{
    static const char name[] = "wall-test";

    if (mkdirat(AT_FDCWD, name, 0700) < 0)
        return errno == EACCES ? 0 : -errno;
    (void)unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
    return -EBADE;
}

int ox_done_wall_before(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return errno == EACCES ? 0 : -errno;
    ox_close(&fd);
    return -EBADE;
}

int ox_done_kill(void)
{
    /* There is no such signal. */
    return kill(getpid(), 999) < 0 && errno == EINVAL ? 0 : -EBADE;
}

int ox_done_signals(int32_t pid)
{
    return kill((pid_t)pid, 0) < 0 && errno == EPERM ? 0 : -EBADE;
}
