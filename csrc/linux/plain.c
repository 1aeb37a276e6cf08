/* The levels without namespaces, on the launcher's side: chroot for root whom nobody lets mount, and
 * landlock for everybody. A cell is a directory on disk, a keeper, a warden and its programs. */
#include "../core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "../wire.h"
#include "cell.h"
#include "landlock.h"
#include "missing.h"
#include "plain_child.h"
#include "plain_uid.h"
#include "tree_remove.h"

/* How long a start cleans up after dead launchers. */
#define SWEEP_MS 100
/* How long the loop removes files before it looks at what else there is. */
#define REMOVE_NS INT64_C(2000000)
/* How long a keeper may take to end what it keeps. */
#define KEEPER_MS 3000

/* Beside the warden the keeper counts as a process of the cell and not of the plugin. */
#define OWN_PROCESSES 2

/* Milliseconds that processes of a dead launcher may take to end. */
#define VACATE_TRIES 100

/* --- what every cell draws on ----------------------------------------------------------------- */

/* ENOEXEC and EPERM are our own words for what was looked at; the rest is the kernel's. */
static int refuse_place(struct ox_problem *ret_problem, int r, const char *below)
{
    const char *why = r == -ENOEXEC ? "it is mounted noexec"
                      : r == -EPERM ? "it is not the caller's own, or others may write there"
                                    : strerror(-r);

    ret_problem->error = (struct ox_error){ OX_STAGE_STORE, -r };
    (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause),
                   "cells cannot have their directories below %.120s: %s", below, why);
    if (geteuid() == 0)
        (void)snprintf(ret_problem->remedy, sizeof(ret_problem->remedy),
                       "make %.120s a directory of root's, mode 0755, mounted without noexec",
                       below);
    else
        (void)snprintf(
            ret_problem->remedy, sizeof(ret_problem->remedy),
            "set XDG_RUNTIME_DIR (or HOME, of which tmp is taken) to a directory that is this "
            "user's own, mode 0700, on a file system that is not mounted noexec");
    return r;
}

static int open_common(struct ox_works *works, const char *below, struct ox_problem *ret_problem)
{
    int r;

    /* Of daemons whose keeper was killed. */
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return ox_refuse(ret_problem, OX_STAGE_STORE, -errno, "orphans cannot be adopted", "");
    works->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (works->proc < 0)
        return ox_refuse(ret_problem, OX_STAGE_STORE, -errno, "/proc cannot be opened",
                         "mount proc on /proc");
    r = ox_plain_base_open(below, SWEEP_MS, &works->base);
    return r == 0 ? 0 : refuse_place(ret_problem, r, below);
}

static void close_works(struct ox_works *works)
{
    ox_plain_base_close(&works->base);
    ox_close(&works->proc);
    ox_ids_close(&works->ids);
}

/* --- level chroot ----------------------------------------------------------------------------- */

static const struct {
    unsigned number;
    const char *name;
} needed[] = {
    { CAP_CHOWN, "CHOWN" },     { CAP_DAC_OVERRIDE, "DAC_OVERRIDE" },
    { CAP_FOWNER, "FOWNER" },   { CAP_KILL, "KILL" },
    { CAP_SETGID, "SETGID" },   { CAP_SETUID, "SETUID" },
    { CAP_SETPCAP, "SETPCAP" }, { CAP_SYS_CHROOT, "SYS_CHROOT" },
};

static int check_capabilities(struct ox_problem *ret_problem)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct sets[2];
    char cause[200] = "";

    if (syscall(SYS_capget, &header, sets) < 0)
        return ox_refuse(ret_problem, OX_STAGE_CAPABILITIES, -errno, "capabilities cannot be read",
                         "");
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        size_t used = strlen(cause);

        if ((sets[0].effective & 1u << needed[i].number) == 0)
            (void)snprintf(cause + used, sizeof(cause) - used, "%s CAP_%s",
                           used == 0 ? "level 'chroot' needs" : ",", needed[i].name);
    }
    return cause[0] == '\0'
               ? 0
               : ox_refuse(ret_problem, OX_STAGE_CAPABILITIES, -EPERM, cause,
                           "run as root; a container has them unless they were dropped");
}

/* The real steps, with a pair that nobody has: a container may have its own map of uids. */
static int try_ids(struct ox_works *works, const struct ox_config *config,
                   struct ox_problem *ret_problem)
{
    struct ox_id_pair pair;
    int r = ox_ids_take(&works->ids, &pair);

    if (r == -EAGAIN)
        return 0; /* all are in use: so they can be taken */
    if (r == 0) {
        r = ox_uid_kill(pair.warden, pair.plugin);
        ox_ids_release(&works->ids, &pair);
    }
    if (r == 0)
        return 0;
    ox_refuse(ret_problem, OX_STAGE_UID_RANGE, r, "", "");
    (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause),
                   "processes cannot take the uids of the range %u+%u: %s", config->uid_base,
                   config->uid_count, strerror(-r));
    (void)snprintf(
        ret_problem->remedy, sizeof(ret_problem->remedy),
        "name a range that this container maps (/proc/self/uid_map) and nobody else uses");
    return r;
}

static int open_chroot(struct ox_works *works, const struct ox_config *config,
                       struct ox_problem *ret_problem)
{
    int r = check_capabilities(ret_problem);

    if (r == 0)
        r = ox_ids_open(config, &works->ids, ret_problem);
    if (r == 0)
        r = try_ids(works, config, ret_problem);
    /* The directory of uid locks is there already. */
    if (r == 0)
        r = open_common(works, config->directory[0] != '\0' ? config->directory : "/run/oxgen",
                        ret_problem);
    if (r < 0)
        return r;
    works->holds = OX_FILESYSTEM | OX_NETWORK | OX_PROCESSES | OX_WHOLE_TREE_KILL | OX_SYSCALLS |
                   OX_NEIGHBOURS;
    if (ox_landlock_version() < OX_LANDLOCK_MOVES)
        works->weaker |= OX_WEAKER_WALL;
    return ox_works_open_cgroups(works, ret_problem);
}

/* --- level landlock --------------------------------------------------------------------------- */

static int open_landlock(struct ox_works *works, const struct ox_config *config,
                         struct ox_problem *ret_problem)
{
    int r;

    /* What root may do with its own files no wall of this kind holds. */
    if (geteuid() == 0)
        return ox_refuse(ret_problem, OX_STAGE_LANDLOCK, -EPERM,
                         "level 'landlock' is for ordinary users, this process is root",
                         "run as an ordinary user");
    if (ox_landlock_version() == 0)
        return ox_refuse(
            ret_problem, OX_STAGE_LANDLOCK, -ENOSYS, "this kernel has no Landlock",
            "use Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK and with landlock"
            " in the list of CONFIG_LSM or of the boot parameter lsm=");
    if (config->directory[0] != '/')
        return ox_refuse(ret_problem, OX_STAGE_STORE, -ENOENT,
                         "there is no directory for private files of cells",
                         "set XDG_RUNTIME_DIR, or HOME to an own directory");
    r = open_common(works, config->directory, ret_problem);
    if (r < 0)
        return r;
    works->holds = OX_FILESYSTEM | OX_NETWORK | OX_SYSCALLS;
    works->weaker = OX_WEAKER_UID | OX_WEAKER_DEVICES;
    if (ox_user_has_groups())
        works->weaker |= OX_WEAKER_GROUPS;
    if (ox_landlock_holds(OX_WALL_SIGNALS) != 0)
        works->holds |= OX_WHOLE_TREE_KILL | OX_NEIGHBOURS;
    return ox_works_open_cgroups(works, ret_problem);
}

/* --- beginning a cell ------------------------------------------------------------------------- */

static int is_root(const struct ox_works *works)
{
    return works->level == &ox_level_chroot;
}

static void name_of(uint32_t id, char *ret_name, size_t capacity)
{
    (void)snprintf(ret_name, capacity, "%x", id);
}

/* A launcher that was killed together with its keepers may have left somebody, whom init reaps. */
static int vacate(const struct ox_id_pair *pair)
{
    for (int tries = 0; tries < VACATE_TRIES; tries++) {
        if (ox_uid_is_vacant(pair->warden) && ox_uid_is_vacant(pair->plugin))
            return 0;
        (void)ox_uid_kill(pair->warden, pair->plugin);
        (void)poll(NULL, 0, 1);
    }
    return -EBUSY;
}

static void release_ids(struct ox_works *works, struct ox_kept_cell *cell)
{
    if (cell->ids.warden != 0)
        ox_ids_release(&works->ids, &cell->ids);
    if (cell->keeper.warden != 0)
        ox_ids_release(&works->ids, &cell->keeper);
    cell->ids = cell->keeper = (struct ox_id_pair){ 0 };
}

static int take_ids(struct ox_works *works, struct ox_kept_cell *cell)
{
    int r = ox_ids_take(&works->ids, &cell->ids);

    if (r == 0)
        r = ox_ids_take(&works->ids, &cell->keeper);
    if (r == 0)
        r = vacate(&cell->ids);
    if (r == 0)
        r = vacate(&cell->keeper);
    if (r < 0)
        release_ids(works, cell);
    return r;
}

static int make_directory(struct ox_works *works, struct ox_kept_cell *cell)
{
    char name[16];

    name_of(cell->id, name, sizeof(name));
    if (mkdirat(works->base.directory, name, is_root(works) ? 0755 : 0700) < 0)
        return -errno;
    cell->directory =
        openat(works->base.directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return cell->directory < 0 ? -errno : 0;
}

static int start_keeper(struct ox_works *works, struct ox_plain_spec *spec,
                        struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    int pair[2];
    pid_t pid;
    int r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return ox_fail(OX_STAGE_CLONE, -errno, ret_error);
    cell->socket = pair[0];
    spec->socket = pair[1];
    spec->cgroup = &cell->cgroup;
    pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_PIDFD | SIGCHLD), NULL, &cell->pidfd,
                         NULL, NULL);
    if (pid == 0) {
        ox_close(&cell->socket);
        ox_plain_child_main(spec, works);
    }
    r = pid < 0 ? -errno : 0;
    ox_close(&pair[1]);
    if (r < 0) {
        cell->pidfd = -1;
        return ox_fail(OX_STAGE_CLONE, r, ret_error);
    }
    return 0;
}

static int begin_on_disk(struct ox_works *works, const struct ox_cell_request *request,
                         struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    int64_t processes = request->processes < 0 ? -1 : request->processes + OWN_PROCESSES;
    char prefix[sizeof(works->base.path) + 16], name[16];
    struct ox_plain_spec spec = {
        .request = request,
        .is_root = is_root(works),
        .keeper = cell->keeper.warden,
        .warden = cell->ids.warden,
        .plugin = cell->ids.plugin,
        .memory_bytes = works->cgroups.memory_version == 0 ? request->memory_bytes : -1,
        .prefix = prefix,
    };
    int r = make_directory(works, cell);

    if (r < 0)
        return ox_fail(OX_STAGE_WRITABLE, r, ret_error);
    spec.directory = cell->directory;
    name_of(cell->id, name, sizeof(name));
    (void)snprintf(prefix, sizeof(prefix), "%s/%s", works->base.path, name);
    r = ox_kept_cell_take_cgroup(works, request, processes, cell, ret_error);
    if (r < 0)
        return r;
    return start_keeper(works, &spec, cell, ret_error);
}

static void kill_cell(struct ox_works *works, struct ox_kept_cell *cell);

static int begin(struct ox_works *works, const struct ox_cell_request *request,
                 struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    int r;

    ox_kept_cell_begin(request, cell);
    cell->is_kept = 1;
    /* Its own filter would refuse some calls before anybody who watches heard of them. */
    if (request->notes != OX_NOTES_NONE) {
        cell->state = OX_CELL_FREE;
        return ox_fail(OX_STAGE_REQUEST, -ENOTSUP, ret_error);
    }
    r = is_root(works) ? take_ids(works, cell) : 0;
    if (r < 0) {
        cell->state = OX_CELL_FREE;
        return ox_fail(OX_STAGE_UID_PAIR, r, ret_error);
    }
    cell->id = ++works->next_id;
    r = begin_on_disk(works, request, cell, ret_error);
    if (r < 0)
        kill_cell(works, cell);
    return r;
}

/* --- ending a cell ---------------------------------------------------------------------------- */

/* What cannot be removed is left to the next start; a program's tricks must not cost us a cell. */
static int remove_directory(struct ox_works *works, struct ox_kept_cell *cell)
{
    char name[16];

    if (cell->directory < 0)
        return 0;
    if (ox_tree_empty(cell->directory, ox_now_ns() + REMOVE_NS) == 1)
        return -EAGAIN;
    ox_close(&cell->directory);
    name_of(cell->id, name, sizeof(name));
    (void)unlinkat(works->base.directory, name, AT_REMOVEDIR);
    return 0;
}

static void give_back(struct ox_works *works, struct ox_kept_cell *cell)
{
    ox_close(&cell->pidfd);
    ox_close(&cell->warden);
    (void)ox_cgroup_remove(&works->cgroups, &cell->cgroup);
    release_ids(works, cell);
    cell->id = 0;
    cell->state = OX_CELL_FREE;
}

static void kill_cell(struct ox_works *works, struct ox_kept_cell *cell)
{
    ox_close(&cell->socket);
    ox_close(&cell->writable);
    ox_close(&cell->warden);
    cell->state = OX_CELL_DYING;
    cell->deadline = ox_now_ns() + (int64_t)KEEPER_MS * 1000000;
    if (cell->pidfd < 0) {
        while (remove_directory(works, cell) == -EAGAIN)
            continue;
        give_back(works, cell);
        return;
    }
    /* What its parent's end would tell it. One that has not come so far dies of it. */
    (void)syscall(SYS_pidfd_send_signal, cell->pidfd, SIGHUP, NULL, 0);
}

/* A keeper that does not end, or that was killed itself: what it keeps is killed from here. */
static int is_vacant(const struct ox_works *works, const struct ox_kept_cell *cell)
{
    if (!is_root(works))
        return 1;
    if (ox_uid_is_vacant(cell->ids.plugin) && ox_uid_is_vacant(cell->ids.warden))
        return 1;
    (void)ox_uid_kill(cell->ids.warden, cell->ids.plugin);
    return 0;
}

/* Orphans whose keeper was killed fall to us. */
static void reap_orphans(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

static int try_to_bury(struct ox_works *works, struct ox_kept_cell *cell)
{
    siginfo_t info;

    if (cell->pidfd >= 0 && ox_wait_readable(cell->pidfd, 0) < 0) {
        if (cell->state == OX_CELL_DYING && ox_now_ns() >= cell->deadline)
            (void)ox_kill(cell->pidfd);
        return -ETIMEDOUT;
    }
    (void)syscall(SYS_waitid, P_PIDFD, cell->pidfd, &info, WEXITED | WNOHANG, NULL);
    reap_orphans();
    if (!is_vacant(works, cell) || remove_directory(works, cell) < 0)
        return -ETIMEDOUT;
    give_back(works, cell);
    return 0;
}

static int bury(struct ox_works *works, struct ox_kept_cell *cell, int wait_ms)
{
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    int r = try_to_bury(works, cell);

    while (r < 0 && ox_now_ns() < deadline) {
        (void)poll(NULL, 0, 1);
        r = try_to_bury(works, cell);
    }
    return r;
}

const struct ox_level_calls ox_level_chroot = {
    .open = open_chroot,
    .close = close_works,
    .begin = begin,
    .kill = kill_cell,
    .bury = bury,
};

const struct ox_level_calls ox_level_landlock = {
    .open = open_landlock,
    .close = close_works,
    .begin = begin,
    .kill = kill_cell,
    .bury = bury,
};
