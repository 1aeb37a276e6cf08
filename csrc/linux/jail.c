/* The file system of a cell, built from inside it. */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../wire.h"
#include "dev.h"
#include "done.h"
#include "etc.h"
#include "missing.h"
#include "space.h"
#include "tmpfs.h"

#define PLUGIN_ID 65534

/* Flags of mount(2) and of statfs(2) have the same values for these bits. */
#define KEPT_FLAGS \
    (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME)

/* An inode of tmpfs is about 1 KiB of kernel memory, which the cell's memory limit counts: one
 * for each page of the disk limit keeps their total below a quarter of it. */
#define BYTES_PER_INODE 4096
#define INODES_SPARE 64
/* No bound, in a form that still counts: with size=0 tmpfs keeps no figures, and a cell could
 * not be proved empty. */
#define DISK_UNBOUNDED (INT64_C(1) << 50)

struct writable {
    const char *name;        /* below the writable tmpfs */
    const char *destination; /* below the jail */
    mode_t mode;
    uint32_t feature; /* needed for it, or 0 */
};

static const struct writable writables[] = {
    { "home", "home/plugin", 0755, 0 },
    { "workspace", "workspace", 0755, 0 },
    { "tmp", "tmp", 01777, 0 },
    { "shm", "dev/shm", 01777, OX_FEATURE_DEV },
};

static int make_directory(const char *path, mode_t mode)
{
    if (mkdir(path, mode) < 0)
        return -errno;
    /* mkdir obeys the umask, and the mode of these directories is a promise. */
    return chmod(path, mode) < 0 ? -errno : 0;
}

/* Remount what is mounted at path with more restrictions. Flags that it has stay: a mount that
 * came from a more privileged namespace may have them locked (mount_namespaces(7)). */
static int restrict_mount(const char *path, unsigned long flags)
{
    struct statfs has;

    if (statfs(path, &has) < 0)
        return -errno;
    flags |= (unsigned long)has.f_flags & KEPT_FLAGS;
    return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0 ? -errno : 0;
}

/* Enter the directory of the last component of destination below the jail, making directories on
 * the way. Links are never followed: a mounted host tree may hold some. Returns the last
 * component, or NULL with errno set. */
static const char *enter_parent(int jail, const char *destination)
{
    const char *at = destination;
    int here = dup(jail);

    if (here < 0)
        return NULL;
    for (;;) {
        char name[256];
        const char *slash;
        size_t length;
        int next;

        while (*at == '/')
            at++;
        slash = strchr(at, '/');
        if (slash == NULL)
            break;
        length = (size_t)(slash - at);
        if (length >= sizeof(name)) {
            errno = ENAMETOOLONG;
            goto fail;
        }
        memcpy(name, at, length);
        name[length] = '\0';

        if (mkdirat(here, name, 0755) < 0 && errno != EEXIST)
            goto fail;

        next = openat(here, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            goto fail;
        ox_close(&here);
        here = next;
        at = slash;
    }
    if (*at == '\0' || fchdir(here) < 0) {
        errno = *at == '\0' ? EINVAL : errno;
        goto fail;
    }
    ox_close(&here);
    return at;

fail : {
    int saved = errno;

    ox_close(&here);
    errno = saved;
    return NULL;
}
}

static int place_tree(int jail, int tree, const char *destination, unsigned long flags)
{
    const char *name;
    struct stat what;

    if (fstat(tree, &what) < 0)
        return -errno;

    name = enter_parent(jail, destination);
    if (name == NULL)
        return -errno;

    if (S_ISDIR(what.st_mode)) {
        if (mkdirat(AT_FDCWD, name, 0755) < 0 && errno != EEXIST)
            return -errno;
    } else {
        int fd = openat(AT_FDCWD, name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);

        if (fd < 0 && errno != EEXIST)
            return -errno;
        ox_close(&fd);
    }
    if (syscall(SYS_move_mount, tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -errno;
    /* Before anything is mounted below it: a clone of a shared mount is its peer, and what happens
     * to it would happen to the host's (mount_namespaces(7); systemd shares every mount). */
    if (mount(NULL, name, NULL, MS_PRIVATE, NULL) < 0)
        return -errno;
    return restrict_mount(name, flags);
}

#define OUTER_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int make_outer_root(void)
{
    static const char options[] = "mode=0755,size=64k,nr_inodes=16";

    /* Over the old root: there is no directory that every machine is sure to have. */
    if (mount("oxgen", "/", "tmpfs", OUTER_FLAGS, options) < 0)
        return -errno;
    /* "/.." resolves to the topmost mount at the root, "/" still to the old one. */
    if (chdir("/..") < 0)
        return -errno;
    return mkdir("jail", 0755) < 0 || mkdir("writable", 0755) < 0 ? -errno : 0;
}

int ox_jail_space(int *ret_space)
{
    int outer = -1;
    int r = ox_tmpfs_make("64k", &outer);

    if (r == 0 && (mkdirat(outer, "jail", 0755) < 0 || mkdirat(outer, "writable", 0755) < 0))
        r = -errno;
    if (r == 0)
        r = ox_space_make(outer, MS_RDONLY | MS_NOATIME | OUTER_FLAGS, ret_space);
    ox_close(&outer);
    return r;
}

static int make_inner_root(void)
{
    static const char options[] = "mode=0755,size=4m,nr_inodes=4096";

    return mount("oxgen", "jail", "tmpfs", OUTER_FLAGS, options) < 0 ? -errno : 0;
}

static int make_writable(const struct ox_jail_spec *spec, int jail)
{
    int64_t bytes = spec->disk_bytes < 0 ? DISK_UNBOUNDED : spec->disk_bytes;
    unsigned long noexec = (spec->features & OX_FEATURE_EXEC) != 0 ? 0 : MS_NOEXEC;
    char options[128];

    (void)snprintf(options, sizeof(options), "mode=0755,size=%" PRId64 ",nr_inodes=%" PRId64, bytes,
                   bytes / BYTES_PER_INODE + INODES_SPARE);
    /* No access times: the next run of the tenancy would see when the last one looked. */
    if (mount("oxgen", "writable", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOATIME | noexec, options) <
        0)
        return -errno;

    for (size_t i = 0; i < sizeof(writables) / sizeof(writables[0]); i++) {
        const struct writable *w = &writables[i];
        char source[64];
        const char *name;
        int r, outer;

        (void)snprintf(source, sizeof(source), "writable/%s", w->name);
        r = make_directory(source, w->mode);
        if (r < 0)
            return r;
        if (chown(source, PLUGIN_ID, PLUGIN_ID) < 0)
            return -errno;
        if (w->feature != 0 && (spec->features & w->feature) == 0)
            continue;

        outer = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (outer < 0)
            return -errno;
        name = enter_parent(jail, w->destination);
        if (name == NULL ||
            (mkdirat(AT_FDCWD, name, 0755) < 0 && errno != EEXIST && errno != EROFS) ||
            fchdir(outer) < 0) {
            r = -errno;
            ox_close(&outer);
            return r;
        }
        ox_close(&outer);

        {
            char target[64];

            (void)snprintf(target, sizeof(target), "jail/%s", w->destination);
            /* A bind has the restrictions of the mount that it is taken from. */
            if (mount(source, target, NULL, MS_BIND, NULL) < 0)
                return -errno;
        }
    }
    return 0;
}

static int make_mounts(const struct ox_jail_spec *spec, int jail)
{
    char program[OX_ENTRY_MAX + 8];
    int r;

    for (uint32_t i = 0; i < spec->trees_count; i++) {
        unsigned long noexec = (spec->trees[i].flags & OX_MOUNT_NOEXEC) != 0 ? MS_NOEXEC : 0;

        r = place_tree(jail, spec->trees[i].fd, spec->trees[i].destination,
                       MS_RDONLY | MS_NOSUID | MS_NODEV | noexec);
        if (r < 0)
            return r;
    }
    (void)snprintf(program, sizeof(program), "bin/%s", spec->entry);
    return place_tree(jail, spec->program, program, MS_RDONLY | MS_NOSUID | MS_NODEV);
}

static int make_dev(const struct ox_jail_spec *spec, int jail)
{
    /* Read-only and no MS_NODEV: a device node is written to through a read-only mount, but not
     * changed. */
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NOEXEC;
    int r = place_tree(jail, spec->dev, "dev", flags);

    for (unsigned i = 0; r == 0 && spec->dev_nodes != NULL && i < OX_DEV_NODES; i++) {
        char place[32];

        (void)snprintf(place, sizeof(place), "dev/%s", ox_dev_name(i));
        r = place_tree(jail, spec->dev_nodes[i], place, flags);
    }
    return r;
}

static int make_proc(void)
{
    static const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (mkdir("jail/proc", 0555) < 0)
        return -errno;
    /* subset=pid since Linux 5.8: no /proc/sys, no /proc/kcore, no host-wide figures. */
    return mount("proc", "jail/proc", "proc", flags, "subset=pid,hidepid=2") < 0 ? -errno : 0;
}

static int seal(const struct ox_jail_spec *spec)
{
    int r = restrict_mount("jail", MS_RDONLY | OUTER_FLAGS);

    /* One for all. */
    if (r == 0)
        r = ox_done_read_only("jail");
    return r < 0 || spec->is_placed ? r : restrict_mount(".", MS_RDONLY | OUTER_FLAGS);
}

static int pivot(void)
{
    /* pivot_root(2): with both arguments "." the old root ends up on top of the new one, so one
     * umount frees it. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return -errno;
    if (umount2(".", MNT_DETACH) < 0)
        return -errno;
    return chdir("/") < 0 ? -errno : 0;
}

int ox_jail_build(const struct ox_jail_spec *spec, int *ret_writable, struct ox_error *ret_error)
{
    int jail = -1, writable = -1;
    int r, stage;

    stage = OX_STAGE_PROPAGATION;
    r = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
    if (r < 0)
        goto out;

    stage = OX_STAGE_ROOT;
    r = spec->is_placed ? 0 : make_outer_root();
    if (r == 0)
        r = make_inner_root();
    if (r < 0)
        goto out;
    jail = open("jail", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (jail < 0) {
        r = -errno;
        goto out;
    }

    if ((spec->features & OX_FEATURE_DEV) != 0) {
        stage = OX_STAGE_DEV;
        r = make_dev(spec, jail);
        if (r < 0)
            goto out;
        if (chdir("/..") < 0) {
            r = -errno;
            goto out;
        }
    }
    stage = OX_STAGE_WRITABLE;
    r = make_writable(spec, jail);
    if (r < 0)
        goto out;
    writable = open("writable", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (writable < 0) {
        r = -errno;
        goto out;
    }

    stage = OX_STAGE_MOUNT;
    r = make_mounts(spec, jail);
    if (r < 0)
        goto out;

    if (chdir("/..") < 0) {
        r = -errno;
        goto out;
    }

    if ((spec->features & OX_FEATURE_PROC) != 0) {
        stage = OX_STAGE_PROC;
        r = make_proc();
        if (r < 0)
            goto out;
    }
    if ((spec->features & OX_FEATURE_ETC) != 0) {
        stage = OX_STAGE_ETC;
        r = ox_etc_fill(jail, PLUGIN_ID, (spec->features & OX_FEATURE_HOST_NETWORK) != 0);
        if (r < 0)
            goto out;
    }

    stage = OX_STAGE_SEAL;
    r = seal(spec);
    if (r < 0)
        goto out;

    stage = OX_STAGE_PIVOT;
    r = spec->is_placed ? 0 : pivot();
    if (r < 0)
        goto out;

    *ret_writable = writable;
    writable = -1;
    r = 0;

out:
    ox_close(&jail);
    ox_close(&writable);
    return r < 0 ? ox_fail(stage, r, ret_error) : 0;
}
