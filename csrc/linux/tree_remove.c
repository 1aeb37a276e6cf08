/* Removing a tree of any depth with two open directories: what lies deeper is moved up to the top
 * before its parent goes, so that every directory is looked at once and none is found through a
 * path. */
#include "tree_remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"

/* The deepest and longest name is NAME_MAX; the kernel gives as many entries as fit. */
#define LISTING_BYTES 16384
/* A program may have taken names that we move to; it cannot take them all. */
#define NAME_TRIES 4096

/* As the kernel writes it (getdents64(2)). */
struct entry {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

struct removal {
    int top;
    dev_t device;
    int64_t deadline;
    uint64_t moved;   /* how many names have been used at the top */
    uint64_t changes; /* entries that are no longer where they were */
    int failed;       /* the first errno of what cannot be removed */
};

static int is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void note(struct removal *removal, int errnum)
{
    if (removal->failed == 0)
        removal->failed = errnum;
}

/* A directory of that name on the same file system, which we may list and change: -errno if there is
 * none. A program may have closed its own directories to us, if it has our uid. */
static int open_below(const struct removal *removal, int parent, const char *name)
{
    char link[64];
    struct stat what;
    int fd, place = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (place < 0)
        return -errno;
    if (fstat(place, &what) < 0 || what.st_dev != removal->device) {
        ox_close(&place);
        return -EXDEV;
    }
    fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) {
        /* By what is open, not by its name. */
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
        (void)chmod(link, 0700);
        fd = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0)
        fd = -errno;
    else
        (void)fchmod(fd, 0700);
    ox_close(&place);
    return fd;
}

/* Move a directory to the top under a name of ours. 0 or a negative errno. */
static int move_up(struct removal *removal, int parent, const char *name)
{
    int opened = 0;

    for (int tries = 0; tries < NAME_TRIES; tries++) {
        char fresh[32];

        (void)snprintf(fresh, sizeof(fresh), "oxgen-%llx", (unsigned long long)removal->moved++);
        if (renameat(parent, name, removal->top, fresh) == 0)
            return 0;
        /* A directory that is moved gets another "..": it must be writable itself. */
        if (errno == EACCES && !opened) {
            int fd = open_below(removal, parent, name);

            if (fd < 0)
                return fd;
            ox_close(&fd);
            opened = 1;
        } else if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR && errno != EISDIR) {
            return -errno;
        }
    }
    return -EEXIST;
}

static int remove_below(struct removal *removal, const char *name);

/* One entry of the top, or of a directory right below it. 1: the deadline has come. */
static int remove_entry(struct removal *removal, int parent, const char *name)
{
    int r;

    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        removal->changes++;
        return 0;
    }
    if (errno == EISDIR && unlinkat(parent, name, AT_REMOVEDIR) == 0) {
        removal->changes++;
        return 0;
    }
    if (errno != ENOTEMPTY && errno != EEXIST) {
        note(removal, errno);
        return 0;
    }
    if (parent == removal->top)
        return remove_below(removal, name);
    r = move_up(removal, parent, name);
    if (r < 0)
        note(removal, -r);
    else
        removal->changes++;
    return 0;
}

/* Everything in a directory that the kernel lists in one pass. 1: the deadline has come. */
static int pass(struct removal *removal, int directory, int *ret_seen)
{
    char listing[LISTING_BYTES] __attribute__((aligned(8)));

    *ret_seen = 0;
    if (lseek(directory, 0, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        long size = syscall(SYS_getdents64, directory, listing, sizeof(listing));

        if (size < 0)
            return -errno;
        if (size == 0)
            return 0;
        for (long at = 0; at < size;) {
            const struct entry *entry = (const struct entry *)(const void *)(listing + at);
            int r;

            at += entry->size;
            if (is_dots(entry->name))
                continue;
            *ret_seen = 1;
            r = remove_entry(removal, directory, entry->name);
            if (r != 0)
                return r;
            if (ox_now_ns() >= removal->deadline)
                return 1;
        }
    }
}

/* A directory of the top that is not empty. */
static int remove_below(struct removal *removal, const char *name)
{
    int seen, r;
    int directory = open_below(removal, removal->top, name);

    if (directory < 0) {
        note(removal, -directory);
        return 0;
    }
    r = pass(removal, directory, &seen);
    ox_close(&directory);
    if (r < 0)
        note(removal, -r);
    /* Else it is taken up again by the next pass over the top. */
    if (r == 0 && unlinkat(removal->top, name, AT_REMOVEDIR) == 0)
        removal->changes++;
    return r == 1;
}

int ox_tree_empty(int directory, int64_t deadline_ns)
{
    struct removal removal = { .top = directory, .deadline = deadline_ns };
    struct stat what;

    if (fstat(directory, &what) < 0)
        return -errno;
    removal.device = what.st_dev;
    for (;;) {
        uint64_t before = removal.changes;
        int seen, r;

        removal.failed = 0;
        r = pass(&removal, directory, &seen);
        if (r != 0)
            return r;
        if (!seen)
            return 0;
        if (removal.changes == before)
            return removal.failed != 0 ? -removal.failed : -EBUSY;
    }
}
