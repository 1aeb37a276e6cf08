/* What the launcher of level namespaces has before any cell: its ids, its own mounts and namespaces, its
 * cgroups. */
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "cell.h"
#include "jail_wall.h"
#include "missing.h"

/* What every cell needs and nothing else of a start does. Where a filter refuses it, that is known here
 * and not when a cell is half made. */
static int try_calls(struct ox_works *works)
{
    /* A file: the kernel clones no mount that has others locked on it (mount_namespaces(7)). */
    int tree =
        (int)syscall(SYS_open_tree, AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return -errno;
    ox_close(&tree);
    if (setns(works->nets.home, CLONE_NEWNET) < 0)
        return -errno;
    return ox_space_leave(&works->spaces);
}

static int open_own(struct ox_works *works)
{
    int r = ox_spaces_open(&works->spaces);

    /* Asked for here once, so that no cell asks. */
    (void)ox_jail_wall_version();
    if (r < 0)
        return r;
    r = ox_nets_open(&works->nets);
    if (r < 0)
        return r;
    works->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (works->proc < 0)
        return -errno;
    r = try_calls(works);
    if (r < 0)
        return r;
    r = ox_store_open(&works->store);
    return r < 0 ? r : ox_jail_space(&works->outer);
}

static int refuse_own(const struct ox_works *works, int r, struct ox_problem *ret_problem)
{
    if (r == -EPERM && ox_is_filtered())
        return ox_refuse(ret_problem, OX_STAGE_STORE, r,
                         "a system call filter around this process, as containers have it, refuses "
                         "mounts or namespaces",
                         ox_filter_remedy());
    return ox_refuse(
        ret_problem, OX_STAGE_STORE, r,
        "the launcher's own mounts and namespaces cannot be made (open_tree, fsmount, setns, "
        "unshare, /proc)",
        r == -ENOSYS
            ? "use Linux 5.10 or later; in a container, a seccomp profile that allows them "
              "(docs/machines.md)"
        : works->user.is_own
            ? "use Linux 5.10 or later, not from an initramfs, with proc on /proc"
            : "run as root with CAP_SYS_ADMIN on Linux 5.10 or later, not from an initramfs, with "
              "proc on /proc");
}

static int open_ids(struct ox_works *works, const struct ox_config *config,
                    struct ox_problem *ret_problem)
{
    int r;

    if (ox_user_is_privileged(config->uid_base, config->uid_count))
        return ox_ids_open(config, &works->ids, ret_problem);
    r = ox_user_enter(&works->user, ret_problem);
    if (r < 0)
        return r;
    ox_ids_open_user(works->user.uid, works->user.sub_base, works->user.sub_count, &works->ids);
    works->weaker = OX_WEAKER_DEVICES;
    if (works->user.keeps_groups)
        works->weaker |= OX_WEAKER_GROUPS;
    if (works->ids.is_shared)
        works->weaker |= OX_WEAKER_UID;
    return 0;
}

int ox_namespaces_open(struct ox_works *works, const struct ox_config *config,
                       struct ox_problem *ret_problem)
{
    int r = open_ids(works, config, ret_problem);

    if (r < 0)
        return r;
    r = open_own(works);
    if (r < 0)
        return refuse_own(works, r, ret_problem);
    works->holds = OX_PROPERTIES & ~(uint32_t)(OX_MEMORY_TREE | OX_CPU_TREE);
    if (ox_jail_wall_version() == 0)
        works->weaker |= OX_WEAKER_WALL;
    r = ox_works_open_cgroups(works, ret_problem);
    if (r < 0)
        return r;
    works->counts_strangers = works->ids.is_shared && !ox_user_counts_apart();
    if (works->counts_strangers && works->cgroups.count == 0)
        works->holds &= ~(uint32_t)OX_PROCESSES;
    return 0;
}

void ox_namespaces_close(struct ox_works *works)
{
    ox_store_close(&works->store);
    ox_nets_close(&works->nets);
    ox_spaces_close(&works->spaces);
    ox_close(&works->outer);
    ox_close(&works->proc);
    ox_ids_close(&works->ids);
}
