/* Where the rate of CPU time of cells is bounded.
 *
 * Version 2 has it in the hierarchy that holds memory and processes, version 1 beside the counter
 * of CPU time or in a hierarchy of its own. There only cells that have such a limit get a cgroup. */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "cgroup_base.h"
#include "cgroup_files.h"
#include "cgroup_find.h"

#define RATE (1U << OX_CONTROLLER_RATE)
#define MAKE_TRIES 8

/* --- whether it can be ------------------------------------------------------------------------ */

static int may_write(int directory, const char *name)
{
    return faccessat(directory, name, W_OK, 0) < 0 ? -errno : 0;
}

/* Whether children of directory could have the controller, in version 2. */
static int can_pass_on(int directory)
{
    int r = ox_cgroup_lists_controllers(directory, "cgroup.subtree_control", RATE);

    if (r != 0)
        return r < 0 ? r : 0;
    r = ox_cgroup_lists_controllers(directory, "cgroup.controllers", RATE);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    return may_write(directory, "cgroup.subtree_control");
}

/* The kernel may have the controller without what bounds it (CONFIG_CFS_BANDWIDTH). */
static int can_bound(int directory)
{
    int r = may_write(directory, ".");

    if (r < 0)
        return r;
    return faccessat(directory, "cpu.cfs_quota_us", F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -ENOSYS : 0;
}

static int probe_shared(struct ox_cgroup_base *base, uint32_t at)
{
    const struct ox_cgroup_hierarchy *hierarchy = &base->hierarchies[at];
    int r;

    if (hierarchy->version == 1)
        r = can_bound(hierarchy->directory);
    else if (ox_cgroup_lists_controllers(hierarchy->directory, "cgroup.controllers", RATE) == 1)
        r = 0; /* the base is ours: nobody else says what it passes on */
    else
        r = can_pass_on(hierarchy->parent);
    base->rate.at = at;
    return r;
}

static int probe_at(const struct ox_cgroup_place *place, size_t length)
{
    int directory = ox_cgroup_open_below(place->mount, place->path, length);
    int r;

    if (directory < 0)
        return directory;
    r = place->version == 1 ? can_bound(directory) : can_pass_on(directory);
    if (r == 0)
        r = may_write(directory, ".");
    if (r < 0)
        ox_close(&directory);
    return r < 0 ? r : directory;
}

/* Version 2 climbs, as the base does. A launcher that died may have left something in ours. */
static int probe_apart(struct ox_cgroup_base *base, const struct ox_cgroup_place *place)
{
    size_t length = strlen(place->path);
    int directory = probe_at(place, length);
    int reason = directory;

    while (directory < 0 && length > 0 && place->version == 2) {
        while (length > 0 && place->path[length - 1] != '/')
            length--;
        while (length > 0 && place->path[length - 1] == '/')
            length--;
        directory = probe_at(place, length);
    }
    if (directory < 0)
        return reason;
    (void)ox_cgroup_sweep(directory); /* the next start tries again */
    base->rate.is_apart = 1;
    base->rate.apart = (struct ox_cgroup_hierarchy){
        .version = place->version, .controllers = RATE, .parent = directory, .directory = -1
    };
    return 0;
}

static void explain(struct ox_cgroup_problem *problem, const struct ox_cgroup_place *place, int r)
{
    const char *path = place->path[0] == '\0' ? "/" : place->path;
    const char *remedy;

    switch (-r) {
    case ENOENT:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "cgroup %.120s has no controller cpu to pass on", path);
        remedy = "systemd: Delegate=yes, which is all controllers; as root: echo +cpu into "
                 "cgroup.subtree_control from the root downwards";
        break;
    case ENOSYS:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "the kernel does not bound the CPU time of cgroups");
        remedy = "use a kernel with CONFIG_CFS_BANDWIDTH";
        break;
    case EACCES:
    case EPERM:
    case EROFS:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "no right to bound CPU time by cgroups (version %d, cpu) in %.120s: %s",
                       place->version, path, strerror(-r));
        remedy = place->version == 1
                     ? "start as root; or as root give us a cgroup of our own in the hierarchy of "
                       "cpu too, as in those of memory, pids and cpuacct"
                     : "start as root, or in a delegated cgroup: systemd-run --user --scope -p "
                       "Delegate=yes COMMAND";
        break;
    default:
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "CPU time cannot be bounded by cgroups (version %d, cpu) in %.120s: %s",
                       place->version, path, strerror(-r));
        remedy = "see cgroups(7)";
        break;
    }
    (void)snprintf(problem->remedy, sizeof(problem->remedy), "%s", remedy);
}

void ox_cgroup_rate_probe(struct ox_cgroup_base *base, const struct ox_cgroup_place *place,
                          struct ox_cgroup_problem *ret_problem)
{
    uint32_t at = 0;
    int r;

    base->rate = (struct ox_cgroup_rate){ 0 };
    if (place->mount < 0)
        return;
    for (; at < base->count; at++) {
        struct stat status;

        if (fstat(base->hierarchies[at].directory, &status) == 0 && status.st_dev == place->device)
            break;
    }
    r = at < base->count ? probe_shared(base, at) : probe_apart(base, place);
    base->rate.is_held = r == 0;
    if (r < 0)
        explain(ret_problem, place, r);
}

/* --- doing it --------------------------------------------------------------------------------- */

static int open_shared(struct ox_cgroup_hierarchy *hierarchy)
{
    int r = 0;

    if (hierarchy->version == 2)
        r = ox_cgroup_enable_controllers(hierarchy->parent, RATE);
    if (r == 0 && hierarchy->version == 2)
        r = ox_cgroup_enable_controllers(hierarchy->directory, RATE);
    if (r == 0)
        hierarchy->controllers |= RATE;
    return r;
}

static int open_apart(struct ox_cgroup_base *base)
{
    struct ox_cgroup_hierarchy hierarchy = base->rate.apart;
    int r = -EAGAIN;

    if (base->count == OX_CGROUP_HIERARCHIES)
        return -E2BIG;
    for (int tries = 0; tries < MAKE_TRIES && r == -EAGAIN; tries++)
        r = ox_cgroup_base_make(base->rate.apart.parent, base->name, &hierarchy);
    if (r < 0)
        return r;
    base->rate.at = base->count;
    base->hierarchies[base->count++] = hierarchy;
    return 0;
}

int ox_cgroup_rate_open(struct ox_cgroup_base *base)
{
    int r;

    if (base->rate.is_open)
        return 0;
    if (!base->rate.is_held)
        return -ENOTSUP;
    r = base->rate.is_apart ? open_apart(base) : open_shared(&base->hierarchies[base->rate.at]);
    base->rate.is_open = r == 0;
    return r;
}
