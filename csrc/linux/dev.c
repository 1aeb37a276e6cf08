/* /dev of a cell: made by the launcher, as device nodes work only on a file system that was mounted
 * in the host's own user namespace. */
#include "../core.h"

#include "dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"
#include "tmpfs.h"

/* Numbers of admin-guide/devices.txt; major 1 is memory. */
static const struct {
    const char *name;
    unsigned minor;
} nodes[OX_DEV_NODES] = {
    { "null", 3 }, { "zero", 5 }, { "full", 7 }, { "random", 8 }, { "urandom", 9 }
};

static const char *const links[][2] = {
    { "/proc/self/fd", "fd" },
    { "/proc/self/fd/0", "stdin" },
    { "/proc/self/fd/1", "stdout" },
    { "/proc/self/fd/2", "stderr" },
};

int ox_dev_make_node(int directory, unsigned node)
{
    const char *name = nodes[node].name;

    /* mknod obeys the umask, which the launcher has set to 022. */
    if (mknodat(directory, name, S_IFCHR | 0666, makedev(1, nodes[node].minor)) < 0 ||
        fchmodat(directory, name, 0666, 0) < 0)
        return -errno;
    return 0;
}

/* mknod(2) without a type: where one of the host's nodes goes. */
static int make_place(int directory, const char *name)
{
    return mknodat(directory, name, S_IFREG | 0444, 0) < 0 ? -errno : 0;
}

static int fill(int directory, int only_places)
{
    for (unsigned i = 0; i < OX_DEV_NODES; i++) {
        int r = only_places ? make_place(directory, nodes[i].name) : ox_dev_make_node(directory, i);

        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if (symlinkat(links[i][0], directory, links[i][1]) < 0)
            return -errno;
    }
    return mkdirat(directory, "shm", 0755) < 0 ? -errno : 0;
}

const char *ox_dev_name(unsigned node)
{
    return nodes[node].name;
}

int ox_dev_node_tree(unsigned node, int *ret_tree)
{
    char path[32];
    struct stat what;
    int tree;

    (void)snprintf(path, sizeof(path), "/dev/%s", nodes[node].name);
    tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    if (tree < 0)
        return -errno;
    if (fstat(tree, &what) < 0 || !S_ISCHR(what.st_mode) ||
        what.st_rdev != makedev(1, nodes[node].minor)) {
        ox_close(&tree);
        return -ENODEV;
    }
    *ret_tree = tree;
    return 0;
}

int ox_dev_tree(int only_places, int *ret_tree)
{
    int tree = -1;
    int r = ox_tmpfs_make("64k", &tree);

    if (r == 0)
        r = fill(tree, only_places);
    if (r < 0) {
        ox_close(&tree);
        return r;
    }
    *ret_tree = tree;
    return 0;
}
