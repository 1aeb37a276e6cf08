/* The second wall of a cell: one rule for each thing that the jail shows. */
#include "jail_wall.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "done.h"
#include "landlock.h"

/* A rule belongs to the file itself and holds wherever that is mounted; it covers what is found
 * below it, mounts included. */

static int allow_at(int wall, int directory, const char *path, unsigned rights)
{
    int fd = openat(directory, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int r;

    if (fd < 0)
        return -errno;
    r = ox_wall_allow(wall, fd, rights);
    ox_close(&fd);
    return r;
}

static int allow_writable(int wall, uint32_t features, int writable)
{
    unsigned execute = (features & OX_FEATURE_EXEC) != 0 ? OX_WALL_EXECUTE : 0;
    static const char *const names[] = { "home", "workspace", "tmp", "shm" };
    int r = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && r == 0; i++)
        r = allow_at(wall, writable, names[i],
                     OX_WALL_READ | OX_WALL_MODIFY | OX_WALL_CREATE | execute);
    return r;
}

static int allow_all(int wall, const struct ox_jail_spec *spec, int writable, int jail)
{
    int r = ox_wall_allow(wall, jail, OX_WALL_READ);

    if (r == 0)
        r = allow_writable(wall, spec->features, writable);
    if (r == 0)
        r = allow_at(wall, jail, "bin", OX_WALL_EXECUTE);
    for (uint32_t i = 0; i < spec->trees_count && r == 0; i++) {
        if ((spec->trees[i].flags & OX_MOUNT_NOEXEC) == 0)
            r = ox_wall_allow(wall, spec->trees[i].fd, OX_WALL_EXECUTE);
    }
    if (r == 0 && (spec->features & OX_FEATURE_DEV) != 0)
        r = allow_at(wall, jail, "dev", OX_WALL_MODIFY | OX_WALL_DEVICE);
    /* A program may name its threads and choose its own chance of being killed for lack of memory. */
    if (r == 0 && (spec->features & OX_FEATURE_PROC) != 0)
        r = allow_at(wall, jail, "proc", OX_WALL_MODIFY);
    return r;
}

int ox_jail_wall_version(void)
{
    int version = ox_landlock_version();

    /* Version 1 lets no file move to another directory, whatever the rules say. */
    return version < OX_LANDLOCK_MOVES ? 0 : version;
}

/* In the host's network the wall leaves what belongs to that alone: TCP, and abstract sockets. */
static unsigned kinds_of(uint32_t features)
{
    unsigned network =
        (features & OX_FEATURE_HOST_NETWORK) != 0 ? 0 : OX_WALL_TCP | OX_WALL_SOCKETS;

    return OX_WALL_FILES | OX_WALL_SIGNALS | network;
}

int ox_jail_wall(const struct ox_jail_spec *spec, int writable, struct ox_error *ret_error)
{
    int wall = -1, jail = -1, r;

    if (ox_jail_wall_version() == 0)
        return 0;

    jail = open(OX_JAIL_ROOT, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (jail < 0) {
        r = -errno;
        goto out;
    }
    r = ox_wall_begin(kinds_of(spec->features), &wall);
    if (r == 0)
        r = allow_all(wall, spec, writable, jail);
    if (r == 0)
        r = ox_wall_raise(wall);
    if (r == 0)
        r = ox_done_wall_before("/");
out:
    ox_close(&jail);
    ox_close(&wall);
    return r < 0 ? ox_fail(OX_STAGE_LANDLOCK, r, ret_error) : 0;
}
