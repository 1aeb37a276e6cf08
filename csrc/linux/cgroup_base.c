/* The directory that holds the cgroups of all cells of one launcher. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "cgroup_files.h"
#include "cgroup_find.h"
#include "cgroup_cells.h"
#include "cgroup_base.h"

/* "oxgen-<pid>-<16 hex digits>" */
#define PREFIX "oxgen-"
#define RANDOM_DIGITS 16
/* A start that loses this often against sweeping neighbours has another problem. */
#define NAME_TRIES 8
#define CLOSE_WAIT_NS INT64_C(500000000)

/* --- names
 * ------------------------------------------------------------------------------------- */

static int is_base_name(const char *name)
{
    size_t digits, random;

    if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0)
        return 0;
    name += sizeof(PREFIX) - 1;
    digits = strspn(name, "0123456789");
    if (digits == 0 || digits > 10 || name[digits] != '-')
        return 0;
    name += digits + 1;
    random = strspn(name, "0123456789abcdef");
    return random == RANDOM_DIGITS && name[random] == '\0';
}

/* Unique is enough: whoever may make directories here may also remove ours. So on a machine that
 * has no randomness yet the clock will do. */
static void choose_name(char *ret_name, size_t capacity)
{
    uint64_t number;

    if (syscall(SYS_getrandom, &number, sizeof(number), GRND_NONBLOCK) != (long)sizeof(number))
        number = (uint64_t)ox_now_ns() * UINT64_C(0x9e3779b97f4a7c15);
    (void)snprintf(ret_name, capacity, PREFIX "%d-%016llx", (int)getpid(),
                   (unsigned long long)number);
}

/* --- what dead launchers left
 * ------------------------------------------------------------------ */

static void sweep_one(int parent, const char *name)
{
    int fd;

    if (!is_base_name(name))
        return;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        ox_cgroup_remove_cells(fd);
        /* Not removed while it holds processes; then the next start tries again. */
        (void)unlinkat(parent, name, AT_REMOVEDIR);
    }
    ox_close(&fd);
}

int ox_cgroup_sweep(int parent)
{
    return ox_cgroup_each_name(parent, sweep_one);
}

/* --- making one
 * -------------------------------------------------------------------------------- */

static int is_named(int parent, const char *name, int fd)
{
    struct stat by_name, by_fd;

    return fstatat(parent, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &by_fd) == 0 &&
           by_name.st_dev == by_fd.st_dev && by_name.st_ino == by_fd.st_ino;
}

/* -EAGAIN: somebody who sweeps took it between two steps of ours for the leftover of a dead
 * launcher. */
static int make_locked(int parent, const char *name)
{
    int fd;

    if (mkdirat(parent, name, 0755) < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_named(parent, name, fd)) {
        ox_close(&fd);
        (void)unlinkat(parent, name, AT_REMOVEDIR);
        return -EAGAIN;
    }
    return fd;
}

/* The controllers of version 2 that children need, as orders: "+memory +pids". */
static void wanted_controllers(unsigned controllers, char *ret_text, size_t capacity)
{
    (void)snprintf(ret_text, capacity, "%s%s%s",
                   controllers & 1U << OX_CONTROLLER_MEMORY ? "+memory " : "",
                   controllers & 1U << OX_CONTROLLER_PIDS ? "+pids " : "",
                   controllers & 1U << OX_CONTROLLER_RATE ? "+cpu" : "");
}

int ox_cgroup_lists_controllers(int directory, const char *file, unsigned controllers)
{
    char text[512];
    int r = ox_cgroup_read_file(directory, file, text, sizeof(text));

    if (r < 0)
        return r;
    for (int i = 0; i < OX_CONTROLLERS; i++)
        if (i != OX_CONTROLLER_CPU && controllers & 1U << i &&
            !ox_cgroup_has_word(text, ox_controller_name(i, 2), " \n"))
            return 0;
    return 1;
}

int ox_cgroup_enable_controllers(int directory, unsigned controllers)
{
    char orders[32];
    int r;

    r = ox_cgroup_lists_controllers(directory, "cgroup.subtree_control", controllers);
    if (r != 0)
        return r < 0 ? r : 0;
    r = ox_cgroup_lists_controllers(directory, "cgroup.controllers", controllers);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    wanted_controllers(controllers, orders, sizeof(orders));
    return ox_write_text(directory, "cgroup.subtree_control", 0, orders);
}

int ox_cgroup_base_make(int directory, const char *name, struct ox_cgroup_hierarchy *hierarchy)
{
    int fd = -1;
    int r = 0;

    if (hierarchy->version == 2)
        r = ox_cgroup_enable_controllers(directory, hierarchy->controllers);
    if (r < 0)
        return r;
    r = ox_cgroup_sweep(directory);
    if (r < 0)
        return r;
    fd = make_locked(directory, name);
    if (fd < 0)
        return fd;
    r = hierarchy->version == 2 ? ox_cgroup_enable_controllers(fd, hierarchy->controllers)
                                : ox_cgroup_inherit_cpuset(directory, fd);
    if (r < 0) {
        (void)unlinkat(directory, name, AT_REMOVEDIR);
        ox_close(&fd);
        return r;
    }
    hierarchy->parent = directory;
    hierarchy->directory = fd;
    hierarchy->has_cpuset =
        hierarchy->version == 1 && faccessat(fd, "cpuset.cpus", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return 0;
}

/* Version 2 climbs to the first ancestor that will do; the errno is that of our own cgroup then,
 * unless that one merely had nothing to pass on. */
static int make_base(const struct ox_cgroup_place *place, const char *name,
                     struct ox_cgroup_hierarchy *hierarchy)
{
    size_t length = strlen(place->path);
    int reason = 0;

    for (;;) {
        int r = ox_cgroup_open_below(place->mount, place->path, length);

        if (r >= 0) {
            int directory = r;

            r = ox_cgroup_base_make(directory, name, hierarchy);
            if (r == 0 || r == -EAGAIN) {
                if (r < 0)
                    ox_close(&directory);
                return r;
            }
            ox_close(&directory);
        }
        if (reason == 0 || reason == -ENOENT)
            reason = r;
        if (length == 0 || hierarchy->version == 1)
            return reason;
        while (length > 0 && place->path[length - 1] != '/')
            length--;
        while (length > 0 && place->path[length - 1] == '/')
            length--;
    }
}

static int path_of(const struct ox_cgroup_place *place, char *ret_path, size_t capacity)
{
    char link[32], mount[128];
    ssize_t size;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", place->mount);
    size = readlink(link, mount, sizeof(mount) - 1);
    if (size <= 0)
        return -EIO;
    mount[size] = '\0';
    return snprintf(ret_path, capacity, " %s%s", mount, place->path) < (int)capacity
               ? 0
               : -ENAMETOOLONG;
}

/* Version 1 has no delegation: root makes a cgroup below ours in each hierarchy, gives the directory
 * away and puts the shell in. Never ours itself: it may be the root of them all. */
static void explain_version_1(struct ox_cgroup_problem *problem,
                              const struct ox_cgroup_place *const *places, uint32_t count)
{
    char directories[300] = "";
    size_t used = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (places[i]->version != 1)
            continue;
        if (path_of(places[i], directories + used, sizeof(directories) - used) < 0) {
            (void)snprintf(directories, sizeof(directories),
                           " our cgroup of memory, of pids and of cpuacct (/proc/self/cgroup)");
            break;
        }
        used = strlen(directories);
    }
    (void)snprintf(
        problem->remedy, sizeof(problem->remedy),
        "start as root; or as root, for each D of%s: mkdir D/oxgen && chown USER D/oxgen && "
        "echo PID >D/oxgen/cgroup.procs, PID being the shell that starts oxgen",
        directories);
}

static void explain(struct ox_cgroup_problem *problem, const struct ox_cgroup_place *const *places,
                    uint32_t count, uint32_t at, unsigned controllers, int reason)
{
    const struct ox_cgroup_place *place = places[at];
    const char *path = place->path[0] == '\0' ? "/" : place->path;
    const char *remedy;

    switch (-reason) {
    case EROFS:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "the cgroup file system (version %d) is read-only", place->version);
        remedy =
            "mount it read-write for us; in a container: a private cgroup namespace with a writable "
            "/sys/fs/cgroup";
        break;
    case EACCES:
    case EPERM:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "no right to make cgroups (version %d%s%.60s) in %.120s", place->version,
                       place->version == 1 ? ", " : "",
                       place->version == 1 ? place->controllers : "", path);
        if (place->version == 1) {
            explain_version_1(problem, places, count);
            return;
        }
        remedy = "start as root, or in a delegated cgroup: systemd-run --user --scope -p "
                 "Delegate=yes COMMAND";
        break;
    case EBUSY:
        (void)snprintf(
            problem->cause, sizeof(problem->cause),
            "cgroup %.120s and those above it hold processes, so that their children cannot have limits",
            path);
        remedy =
            "start in a cgroup below one without processes: systemd: Delegate=yes with "
            "DelegateSubgroup=NAME, or systemd-run --user --scope; in a container: move all processes of "
            "the topmost cgroup that is visible here into a child of it";
        break;
    case ENOENT:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "cgroup %.120s and those above it have no controllers %s%s to pass on", path,
                       controllers & 1U << OX_CONTROLLER_MEMORY ? "memory " : "",
                       controllers & 1U << OX_CONTROLLER_PIDS ? "pids" : "");
        remedy =
            "as root: echo '+memory +pids' into cgroup.subtree_control from the root downwards; the kernel may "
            "need cgroup_enable=memory";
        break;
    default:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "no cgroup (version %d) can be made in %.120s: %s", place->version, path,
                       strerror(-reason));
        remedy = "see cgroups(7)";
        break;
    }
    (void)snprintf(problem->remedy, sizeof(problem->remedy), "%s", remedy);
}

/* Controllers of one hierarchy are one entry; ret_places[i] is the place of hierarchies[i]. */
static void group(const struct ox_cgroup_place *places, struct ox_cgroup_base *base,
                  const struct ox_cgroup_place **ret_places)
{
    for (int i = 0; i < OX_CONTROLLERS_NEEDED; i++) {
        uint32_t at = 0;

        while (at < base->count && ret_places[at]->device != places[i].device)
            at++;
        if (at == base->count) {
            ret_places[at] = &places[i];
            base->hierarchies[at] = (struct ox_cgroup_hierarchy){ .version = places[i].version,
                                                                  .parent = -1,
                                                                  .directory = -1 };
            base->count++;
        }
        base->hierarchies[at].controllers |= 1U << i;
    }
    base->memory_version = places[OX_CONTROLLER_MEMORY].version;
}

static int find_places(struct ox_cgroup_place *ret_places, struct ox_cgroup_problem *ret_problem)
{
    int cgroup = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    int mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    int r = ox_cgroup_find(cgroup, mountinfo, ret_places, ret_problem);

    ox_close(&cgroup);
    ox_close(&mountinfo);
    return r;
}

int ox_cgroup_base_open(struct ox_cgroup_base *ret, struct ox_cgroup_problem *ret_problem)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    const struct ox_cgroup_place *chosen[OX_CONTROLLERS_NEEDED];
    struct ox_cgroup_base base = { 0 };
    int r = find_places(places, ret_problem);

    if (r < 0)
        return r;
    group(places, &base, chosen);
    for (int tries = 0; tries < NAME_TRIES; tries++) {
        uint32_t at = 0;

        choose_name(base.name, sizeof(base.name));
        for (r = 0; at < base.count && r == 0; at++)
            r = make_base(chosen[at], base.name, &base.hierarchies[at]);
        if (r == 0)
            break;
        explain(ret_problem, chosen, base.count, at - 1, base.hierarchies[at - 1].controllers, r);
        ox_cgroup_base_close(&base);
        if (r != -EAGAIN)
            break;
    }
    if (r == 0)
        ox_cgroup_rate_probe(&base, &places[OX_CONTROLLER_RATE], ret_problem);
    for (int i = 0; i < OX_CONTROLLERS; i++)
        ox_close(&places[i].mount);
    if (r == 0)
        *ret = base;
    return r;
}

/* --- the end
 * ----------------------------------------------------------------------------------- */

/* 1 when nothing of the base is left. */
static int remove_base(struct ox_cgroup_base *base)
{
    int gone = 1;

    for (uint32_t i = 0; i < base->count; i++) {
        struct ox_cgroup_hierarchy *hierarchy = &base->hierarchies[i];

        if (hierarchy->directory < 0)
            continue;
        ox_cgroup_remove_cells(hierarchy->directory);
        if (unlinkat(hierarchy->parent, base->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            gone = 0;
    }
    return gone;
}

void ox_cgroup_base_close(struct ox_cgroup_base *base)
{
    const struct timespec pause = { .tv_nsec = 5000000 };
    int64_t deadline = ox_now_ns() + CLOSE_WAIT_NS;

    while (!remove_base(base) && ox_now_ns() < deadline)
        (void)nanosleep(&pause, NULL);
    ox_cgroup_base_forget(base);
}

void ox_cgroup_base_forget(struct ox_cgroup_base *base)
{
    for (uint32_t i = 0; i < base->count; i++) {
        ox_close(&base->hierarchies[i].directory);
        ox_close(&base->hierarchies[i].parent);
    }
    if (base->rate.is_apart && !base->rate.is_open)
        ox_close(&base->rate.apart.parent);
    for (uint32_t i = 0; i < base->spares_count; i++)
        ox_cgroup_forget(&base->spares[i]);
    base->rate = (struct ox_cgroup_rate){ 0 };
    base->pending_count = base->spares_count = 0;
}
