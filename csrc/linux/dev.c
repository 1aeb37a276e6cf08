/* /dev of a cell: made by the launcher, as device nodes work only on a file system that was mounted
 * in the host's own user namespace. */
#include "../core.h"

#include "dev.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "tmpfs.h"

/* Numbers of admin-guide/devices.txt; major 1 is memory. */
static const struct {
    const char *name;
    unsigned minor;
} nodes[] = { { "null", 3 }, { "zero", 5 }, { "full", 7 }, { "random", 8 }, { "urandom", 9 } };

static const char *const links[][2] = {
    { "/proc/self/fd", "fd" },
    { "/proc/self/fd/0", "stdin" },
    { "/proc/self/fd/1", "stdout" },
    { "/proc/self/fd/2", "stderr" },
};

static int fill(int directory)
{
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        /* mknod obeys the umask, which the launcher has set to 022. */
        if (mknodat(directory, nodes[i].name, S_IFCHR | 0666, makedev(1, nodes[i].minor)) < 0 ||
            fchmodat(directory, nodes[i].name, 0666, 0) < 0)
            return -errno;
    }
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if (symlinkat(links[i][0], directory, links[i][1]) < 0)
            return -errno;
    }
    return mkdirat(directory, "shm", 0755) < 0 ? -errno : 0;
}

int ox_dev_tree(int *ret_tree)
{
    int tree = -1;
    int r = ox_tmpfs_make("64k", &tree);

    if (r == 0)
        r = fill(tree);
    if (r < 0) {
        ox_close(&tree);
        return r;
    }
    *ret_tree = tree;
    return 0;
}
