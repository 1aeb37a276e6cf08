/* Private directories, and the end of those whose launcher has died. */
#include "plain_base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "../posix/system.h"
#include "tree_remove.h"

#define NAME_TRIES 16

/* What is left after the time that somebody waits for it is removed by a process of its own. */
#define REST_NS INT64_C(120000000000)

/* Whoever may write there could put another directory in the place of ours. */
static int open_parent(const char *below, int *ret_parent)
{
    struct statvfs mount;
    struct stat what;
    int r = 0;
    int fd = open(below, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &what) < 0 || fstatvfs(fd, &mount) < 0)
        r = -errno;
    else if (what.st_uid != geteuid() || (what.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        r = -EPERM;
    else if ((mount.f_flag & ST_NOEXEC) != 0)
        r = -ENOEXEC;
    if (r < 0)
        ox_close(&fd);
    else
        *ret_parent = fd;
    return r;
}

/* --- what dead launchers left ----------------------------------------------------------------- */

/* 1: there was no time for it. */
static int sweep_one(int parent, const char *name, int64_t deadline)
{
    struct stat what;
    int r = 0;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return 0;
    /* Who holds the lock lives. */
    if (fstat(fd, &what) == 0 && what.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        r = ox_tree_empty(fd, deadline);
        if (r == 0)
            (void)unlinkat(parent, name, AT_REMOVEDIR);
    }
    ox_close(&fd);
    return r == 1;
}

static int sweep(int parent, int64_t deadline)
{
    int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;
    int late = 0;

    if (listing == NULL) {
        ox_close(&copy);
        return 0;
    }
    while (!late && (entry = readdir(listing)) != NULL) {
        if (strncmp(entry->d_name, OX_PLAIN_PREFIX, sizeof(OX_PLAIN_PREFIX) - 1) == 0)
            late = sweep_one(parent, entry->d_name, deadline);
    }
    (void)closedir(listing);
    return late;
}

/* In a process that nobody waits for: a runtime of many files takes seconds. */
static void sweep_rest(int parent)
{
    pid_t pid = fork();
    int kept;

    if (pid != 0)
        return;
    /* Not even the lock of our parent's own directory. */
    kept = fcntl(parent, F_DUPFD_CLOEXEC, 3);
    if (kept < 0 || setsid() < 0 || dup2(kept, 3) < 0 || ox_close_from(4) < 0)
        _exit(1);
    (void)sweep(3, ox_now_ns() + REST_NS);
    _exit(0);
}

/* --- our own ---------------------------------------------------------------------------------- */

/* -EAGAIN: the name is taken, or somebody who sweeps took it for the leftover of a dead launcher. */
static int make_locked(int parent, const char *name)
{
    struct stat what;
    int fd;

    if (mkdirat(parent, name, 0700) < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &what) < 0 || what.st_nlink == 0) {
        ox_close(&fd);
        return -EAGAIN;
    }
    return fd;
}

int ox_plain_base_open(const char *below, int sweep_ms, struct ox_plain_base *ret)
{
    int r = open_parent(below, &ret->parent);

    if (r < 0)
        return r;
    if (sweep(ret->parent, ox_now_ns() + (int64_t)sweep_ms * 1000000))
        sweep_rest(ret->parent);

    r = -EAGAIN;
    for (int tries = 0; tries < NAME_TRIES && r == -EAGAIN; tries++) {
        uint64_t number;

        if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
            return -errno;
        (void)snprintf(ret->name, sizeof(ret->name), OX_PLAIN_PREFIX "%016llx",
                       (unsigned long long)number);
        r = make_locked(ret->parent, ret->name);
    }
    if (r < 0)
        return r;
    ret->directory = r;
    if (snprintf(ret->path, sizeof(ret->path), "%s/%s", below, ret->name) >= (int)sizeof(ret->path))
        return -ENAMETOOLONG;
    return 0;
}

void ox_plain_base_close(struct ox_plain_base *base)
{
    if (base->directory >= 0 && unlinkat(base->parent, base->name, AT_REMOVEDIR) < 0) {
        /* Unlocked it is what a dead launcher left. */
        ox_close(&base->directory);
        sweep_rest(base->parent);
    }
    ox_plain_base_forget(base);
}

void ox_plain_base_forget(struct ox_plain_base *base)
{
    ox_close(&base->directory);
    ox_close(&base->parent);
}
