/* Landlock by raw system calls: the C library has no functions for it. */
#include "landlock.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "missing.h"

/* The structures of linux/landlock.h, whose length grew with its versions. A kernel takes a longer one
 * than its own if the rest is zero. */
struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

struct path_beneath {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define MODIFY (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
#define CREATE \
    (LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
#define DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

/* Those that a rule on a file may have; others the kernel refuses (EINVAL). */
#define OF_FILE \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | MODIFY | \
     LANDLOCK_ACCESS_FS_IOCTL_DEV)

int ox_landlock_version(void)
{
    static int known = -1;
    long version;

    if (known >= 0)
        return known;
    /* By the call itself: no file says it everywhere. ENOSYS: not built in, EOPNOTSUPP: switched off,
     * another: a filter does not let us. */
    version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    known = version > 0 ? (int)version : 0;
    return known;
}

/* What files are held for: every right that this version knows. */
static uint64_t handled_files(int version)
{
    uint64_t handled =
        LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | READ | CREATE | DEVICES;

    if (version < OX_LANDLOCK_MOVES)
        handled &= ~LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3)
        handled |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (version >= 5)
        handled |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return handled;
}

unsigned ox_landlock_holds(unsigned kinds)
{
    int version = ox_landlock_version();

    if (version < 1)
        return 0;
    if (version < 4)
        kinds &= ~(unsigned)OX_WALL_TCP;
    if (version < OX_LANDLOCK_SIGNALS)
        kinds &= ~(unsigned)(OX_WALL_SIGNALS | OX_WALL_SOCKETS);
    return kinds;
}

int ox_wall_begin(unsigned kinds, int *ret_wall)
{
    struct ruleset ruleset = { 0 };
    unsigned held = ox_landlock_holds(kinds);
    long wall;

    if (held == 0)
        return -ENOSYS;
    if ((held & OX_WALL_FILES) != 0)
        ruleset.handled_access_fs = handled_files(ox_landlock_version());
    if ((held & OX_WALL_TCP) != 0)
        ruleset.handled_access_net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP;
    if ((held & OX_WALL_SOCKETS) != 0)
        ruleset.scoped |= LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET;
    if ((held & OX_WALL_SIGNALS) != 0)
        ruleset.scoped |= LANDLOCK_SCOPE_SIGNAL;

    /* The descriptor is close-on-exec. */
    wall = syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    if (wall < 0)
        return -errno;
    *ret_wall = (int)wall;
    return 0;
}

int ox_wall_allow(int wall, int fd, unsigned rights)
{
    struct path_beneath rule = { .parent_fd = fd };
    struct stat what;

    if (fstat(fd, &what) < 0)
        return -errno;
    if ((rights & OX_WALL_READ) != 0)
        rule.allowed_access |= READ;
    if ((rights & OX_WALL_EXECUTE) != 0)
        rule.allowed_access |= LANDLOCK_ACCESS_FS_EXECUTE;
    if ((rights & OX_WALL_MODIFY) != 0)
        rule.allowed_access |= MODIFY;
    if ((rights & OX_WALL_CREATE) != 0)
        rule.allowed_access |= CREATE;
    if ((rights & OX_WALL_DEVICE) != 0)
        rule.allowed_access |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    rule.allowed_access &= handled_files(ox_landlock_version());
    if (!S_ISDIR(what.st_mode))
        rule.allowed_access &= OF_FILE;
    return syscall(SYS_landlock_add_rule, wall, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno
                                                                                          : 0;
}

int ox_wall_raise(int wall)
{
    /* No program may fill the machine's audit log, with walls of its own either. */
    unsigned flags = ox_landlock_version() < 7 ? 0
                                               : LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF |
                                                     LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF;

    return syscall(SYS_landlock_restrict_self, wall, flags) < 0 ? -errno : 0;
}
