/* The file system of a cell without a mount namespace. */
#include "plain_root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../wire.h"
#include "dev.h"
#include "etc.h"
#include "landlock.h"

/* A runtime's own directories are not deeper. */
#define DEPTH_MAX 32

static const struct {
    const char *path;
    mode_t mode;
    uint32_t feature; /* needed for it, or 0 */
} places[] = {
    { "home/plugin", 0755, 0 },
    { "workspace", 0755, 0 },
    { "tmp", 01777, 0 },
    { "dev/shm", 01777, OX_FEATURE_DEV },
};

#define PLACES (sizeof(places) / sizeof(places[0]))

/* --- directories ------------------------------------------------------------------------------ */

static int make_directory(int parent, const char *name, mode_t mode)
{
    if (mkdirat(parent, name, mode) < 0)
        return errno == EEXIST ? 0 : -errno;
    /* mkdir obeys the umask. Nobody else is here yet. */
    return fchmodat(parent, name, mode, 0) < 0 ? -errno : 0;
}

/* The directory that holds the last component of path, and that component. Links are not followed:
 * a tree of the host's that was placed before may hold some. */
static int enter_parent(int directory, const char *path, const char **ret_name)
{
    int here = fcntl(directory, F_DUPFD_CLOEXEC, 0);

    if (here < 0)
        return -errno;
    while (here >= 0) {
        char name[NAME_MAX + 1];
        const char *slash;
        int next, r;

        while (*path == '/')
            path++;
        slash = strchr(path, '/');
        if (slash == NULL) {
            *ret_name = path;
            return here;
        }
        (void)snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
        r = make_directory(here, name, 0755);
        next = r < 0 ? r : openat(here, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (r == 0 && next < 0)
            next = -errno;
        ox_close(&here);
        here = next;
        path = slash;
    }
    return here;
}

/* --- files ------------------------------------------------------------------------------------ */

static int copy_bytes(int from, int to)
{
    off_t at = 0;

    for (;;) {
        ssize_t n = sendfile(to, from, &at, 1 << 20);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
    }
}

/* from is open for reading. */
static int copy_file(int from, int parent, const char *name, mode_t mode)
{
    int to = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r;

    if (to < 0)
        return -errno;
    r = copy_bytes(from, to);
    if (r == 0 && fchmod(to, mode) < 0)
        r = -errno;
    ox_close(&to); /* before any exec: a file that is open for writing cannot be executed */
    return r;
}

/* Whether nobody but root can change it: then it may be the same file inside and outside. */
static int is_roots(const struct stat *what)
{
    return what->st_uid == 0 && (what->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* A regular file that is open as fd (O_PATH). */
static int place_file(int fd, const struct stat *what, int parent, const char *name)
{
    mode_t mode = (what->st_mode & 0111) != 0 ? 0555 : 0444;
    char link[64];
    int from, r;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (is_roots(what)) {
        if (linkat(AT_FDCWD, link, parent, name, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST)
            return 0;
    }
    from = open(link, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return -errno;
    r = copy_file(from, parent, name, mode);
    ox_close(&from);
    return r == -EEXIST ? 0 : r;
}

static int place_link(int parent_there, const char *there, int parent, const char *name)
{
    char text[PATH_MAX];
    ssize_t size = readlinkat(parent_there, there, text, sizeof(text) - 1);

    if (size < 0)
        return -errno;
    text[size] = '\0';
    return symlinkat(text, parent, name) < 0 && errno != EEXIST ? -errno : 0;
}

static int place(int fd, int parent, const char *name, int depth);

static int place_entry(int there, const struct dirent *entry, int parent, int depth)
{
    struct stat what;
    int r;
    int fd = openat(there, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &what) < 0)
        r = -errno;
    else if (S_ISLNK(what.st_mode))
        r = place_link(there, entry->d_name, parent, entry->d_name);
    else
        r = place(fd, parent, entry->d_name, depth);
    ox_close(&fd);
    return r;
}

static int place_directory(int fd, int parent, const char *name, int depth)
{
    int here, there, r = make_directory(parent, name, 0755);
    DIR *listing;
    const struct dirent *entry;

    if (r < 0)
        return r;
    there = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (there < 0)
        return -errno;
    listing = fdopendir(there);
    here = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (listing == NULL || here < 0)
        r = -errno;
    while (r == 0 && (entry = readdir(listing)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = place_entry(there, entry, here, depth + 1);
    }
    ox_close(&here);
    if (listing != NULL)
        (void)closedir(listing);
    else
        ox_close(&there);
    return r;
}

/* What is open as fd (O_PATH): a file or a directory with what is in it; all else is left out. */
static int place(int fd, int parent, const char *name, int depth)
{
    struct stat what;

    if (depth > DEPTH_MAX)
        return -ELOOP;
    if (fstat(fd, &what) < 0)
        return -errno;
    if (S_ISREG(what.st_mode))
        return place_file(fd, &what, parent, name);
    return S_ISDIR(what.st_mode) ? place_directory(fd, parent, name, depth) : 0;
}

/* --- the parts of a cell ---------------------------------------------------------------------- */

static int fill_places(int directory, uint32_t features, int is_root, uint32_t owner)
{
    for (size_t i = 0; i < PLACES; i++) {
        const char *name;
        int r, parent;

        if (places[i].feature != 0 && (features & places[i].feature) == 0)
            continue;
        parent = enter_parent(directory, places[i].path, &name);
        if (parent < 0)
            return parent;
        r = make_directory(parent, name, places[i].mode);
        if (r == 0 && is_root && fchownat(parent, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
            r = -errno;
        ox_close(&parent);
        if (r < 0)
            return r;
    }
    return 0;
}

static int fill_program(int directory, const struct ox_cell_request *request)
{
    char path[OX_ENTRY_MAX + 8];
    const char *name;
    struct stat what;
    int parent, r;

    if (fstat(request->program, &what) < 0)
        return -errno;
    if (what.st_size > OX_STORE_BYTES)
        return -EFBIG; /* a file of holes becomes as large as it says */
    (void)snprintf(path, sizeof(path), "bin/%s", request->entry);
    parent = enter_parent(directory, path, &name);
    if (parent < 0)
        return parent;
    /* A copy: who may write the file outside would change what runs here. */
    r = copy_file(request->program, parent, name, 0555);
    ox_close(&parent);
    return r;
}

static int fill_runtime(int directory, const struct ox_cell_request *request)
{
    for (uint32_t i = 0; i < request->mounts_count; i++) {
        const char *name;
        int r, parent = enter_parent(directory, request->destinations[i], &name);

        if (parent < 0)
            return parent;
        r = place(request->mounts[i], parent, name, 0);
        ox_close(&parent);
        if (r < 0)
            return r;
    }
    return 0;
}

static int fill_dev(int directory)
{
    int dev = openat(directory, "dev", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = dev < 0 ? -errno : 0;

    for (unsigned i = 0; i < OX_DEV_NODES && r == 0; i++) {
        int fd;

        r = ox_dev_make_node(dev, i);
        if (r < 0)
            break;
        /* On a file system that is mounted nodev it is there and of no use. */
        fd = openat(dev, ox_dev_name(i), O_RDONLY | O_CLOEXEC);
        r = fd < 0 ? -errno : 0;
        ox_close(&fd);
    }
    ox_close(&dev);
    return r;
}

int ox_plain_root_fill(int directory, const struct ox_cell_request *request, int is_root,
                       uint32_t owner, struct ox_error *ret_error)
{
    int r = fill_places(directory, request->features, is_root, owner);

    if (r < 0)
        return ox_fail(OX_STAGE_WRITABLE, r, ret_error);
    r = fill_program(directory, request);
    if (r < 0)
        return ox_fail(OX_STAGE_PROGRAM, r, ret_error);
    if (!is_root)
        return 0;
    r = fill_runtime(directory, request);
    if (r < 0)
        return ox_fail(OX_STAGE_TREE, r, ret_error);
    r = (request->features & OX_FEATURE_DEV) != 0 ? fill_dev(directory) : 0;
    if (r < 0)
        return ox_fail(OX_STAGE_DEV, r, ret_error);
    r = (request->features & OX_FEATURE_ETC) != 0 ? ox_etc_fill(directory, owner, 0) : 0;
    return r < 0 ? ox_fail(OX_STAGE_ETC, r, ret_error) : 0;
}

/* --- the wall --------------------------------------------------------------------------------- */

static int allow(int wall, const char *path, unsigned rights)
{
    int r, fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    r = ox_wall_allow(wall, fd, rights);
    ox_close(&fd);
    return r;
}

static int allow_runtime(int wall, const struct ox_cell_request *request, int is_root)
{
    int r = 0;

    for (uint32_t i = 0; i < request->mounts_count && r == 0; i++) {
        if (is_root)
            r = allow(wall, request->destinations[i], OX_WALL_EXECUTE);
        else
            r = ox_wall_allow(wall, request->mounts[i], OX_WALL_READ | OX_WALL_EXECUTE);
    }
    return r;
}

/* Of the host where there is no root of our own. */
static int allow_dev(int wall)
{
    int r = 0;

    for (unsigned i = 0; i < OX_DEV_NODES && r == 0; i++) {
        char node[32];

        (void)snprintf(node, sizeof(node), "/dev/%s", ox_dev_name(i));
        r = allow(wall, node, OX_WALL_READ | OX_WALL_MODIFY | OX_WALL_DEVICE);
        if (r == -ENOENT)
            r = 0;
    }
    return r;
}

static int allow_all(int wall, const struct ox_cell_request *request, int is_root)
{
    int r = allow(wall, ".", OX_WALL_READ);

    for (size_t i = 0; i < PLACES && r == 0; i++) {
        if (places[i].feature == 0 || (request->features & places[i].feature) != 0)
            r = allow(wall, places[i].path, OX_WALL_READ | OX_WALL_MODIFY | OX_WALL_CREATE);
    }
    if (r == 0)
        r = allow(wall, "bin", OX_WALL_EXECUTE);
    if (r == 0)
        r = allow_runtime(wall, request, is_root);
    if (r == 0 && (request->features & OX_FEATURE_DEV) != 0)
        r = allow_dev(wall);
    return r;
}

int ox_plain_root_wall(const struct ox_cell_request *request, int is_root, int *ret_wall,
                       struct ox_error *ret_error)
{
    int wall = -1, r;

    *ret_wall = -1;
    /* As a second wall it must not get in the way (jail_wall.h); as the only one it is needed. */
    if (ox_landlock_version() < (is_root ? OX_LANDLOCK_MOVES : 1))
        return is_root ? 0 : ox_fail(OX_STAGE_LANDLOCK, -ENOSYS, ret_error);
    r = ox_wall_begin(OX_WALL_FILES | OX_WALL_TCP | OX_WALL_SIGNALS | OX_WALL_SOCKETS, &wall);
    if (r == 0)
        r = allow_all(wall, request, is_root);
    if (r < 0) {
        ox_close(&wall);
        return ox_fail(OX_STAGE_LANDLOCK, r, ret_error);
    }
    *ret_wall = wall;
    return 0;
}
