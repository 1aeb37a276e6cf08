/* Landlock: a process gives up, for itself and everybody it will start, what no rule allows
 * (landlock(7)). It needs no privilege and stands beside namespaces and filter, not upon them. */
#ifndef OX_LANDLOCK_H
#define OX_LANDLOCK_H

#include "../core.h"

/* What a rule allows with a file, or with everything below a directory. */
enum ox_wall_right {
    OX_WALL_READ = 1,
    OX_WALL_EXECUTE = 2,
    OX_WALL_MODIFY = 4, /* write and truncate what is there */
    OX_WALL_CREATE = 8, /* make, rename and remove; no device */
    OX_WALL_DEVICE = 16 /* ioctl on devices */
};

/* What a kernel's version of Landlock lacks is not held by it; what it has is. */
enum ox_wall_kind {
    OX_WALL_FILES = 1,
    OX_WALL_TCP = 2,     /* no bind, no connect: version 4 */
    OX_WALL_SIGNALS = 4, /* only to processes behind the same wall: version 6 */
    OX_WALL_SOCKETS = 8  /* abstract unix sockets, the same: version 6 */
};

/* The first version that lets files move from one directory to another. */
#define OX_LANDLOCK_MOVES 2
/* The first that keeps signals behind the wall. */
#define OX_LANDLOCK_SIGNALS 6

/* The version that the kernel has; 0: none, built without it, switched off or filtered away. Asked
 * for once. */
int ox_landlock_version(void);

/* What of these kinds the kernel can hold: bits of enum ox_wall_kind. */
unsigned ox_landlock_holds(unsigned kinds);

/* Begin a wall that holds these kinds as far as the kernel knows them. -ENOSYS: no Landlock. */
int ox_wall_begin(unsigned kinds, int *ret_wall);

/* Allow something with what is open as fd; on a file, what makes no sense there is left out. */
int ox_wall_allow(int wall, int fd, unsigned rights);

/* Put the calling thread behind it, for good. It must have set no_new_privs or hold CAP_SYS_ADMIN
 * in its user namespace. -E2BIG: it is behind sixteen others already. Async-signal-safe. */
int ox_wall_raise(int wall);

#endif
