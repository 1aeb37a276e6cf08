/* The file system of a cell, built from inside it: by its future warden, in fresh namespaces,
 * before the filter. */
#ifndef OX_JAIL_H
#define OX_JAIL_H

#include "../core.h"

/* A detached mount (open_tree) and the place where it goes. */
struct ox_tree {
    int fd;
    const char *destination;
    uint32_t flags; /* enum ox_mount_flag */
};

struct ox_jail_spec {
    const char *entry;
    int program; /* detached mount of the program */
    const struct ox_tree *trees;
    uint32_t trees_count;
    int dev;              /* detached mount of /dev, with OX_FEATURE_DEV */
    const int *dev_nodes; /* those that go onto it, see ox_dev_node_tree(); NULL: it has its own */
    uint32_t features;
    int64_t disk_bytes;
    int64_t memory_bytes; /* of each process, where no cgroup holds them together; -1: no bound */
    int is_placed;        /* we are in a copy of the space of ox_jail_space() */
};

/* Where the root of a plugin is inside the cell. It is not the root of the mount namespace,
 * because inside a chroot the kernel refuses CLONE_NEWUSER (user_namespaces(7)), and after
 * pivot_root alone it does not. */
#define OX_JAIL_ROOT "/jail"

/* A mount namespace (see space.h) that holds the outer root of a cell and nothing else. A cell that
 * begins there need not get rid of the host's mounts. Not for one with a /proc of its own: the
 * kernel lets it be mounted only where another is in sight (mount_too_revealing). */
int ox_jail_space(int *ret_space);

/* Mount everything, pivot into it, let go of the old root. ret_writable is an O_PATH descriptor
 * of the directory that holds the writable directories, which no plugin can name. Returns a
 * stage in ret_error on failure. */
int ox_jail_build(const struct ox_jail_spec *spec, int *ret_writable, struct ox_error *ret_error);

#endif
