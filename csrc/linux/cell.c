/* Making and ending cells: the launcher's side, and the child's way to becoming a warden. */
#include "cell.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "../wire.h"
#include "dev.h"
#include "done.h"
#include "jail_wall.h"
#include "missing.h"
#include "namespaces.h"
#include "rlimits.h"
#include "warden.h"
#include "watch.h"

#define PLUGIN_ID 65534

/* The network namespace is one that the launcher has entered: see net.h. */
#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS)

/* --- inside the new namespaces ---------------------------------------------------------------- */

/* With ids of its own the warden is root inside. Without, there is one id, 65534, and it has the same
 * capabilities; groups cannot be dropped then (user_namespaces(7)). */
static int take_ids(int is_shared)
{
    uid_t id = is_shared ? PLUGIN_ID : 0;

    if (syscall(SYS_setgroups, 0, NULL) < 0 && !(is_shared && errno == EPERM))
        return -errno;
    if (syscall(SYS_setresgid, id, id, id) < 0)
        return -errno;
    if (syscall(SYS_setresuid, id, id, id) < 0)
        return -errno;
    if (!is_shared && syscall(SYS_getgroups, 0, NULL) != 0)
        return -EBADE;
    return ox_done_ids(id);
}

static int set_up(int socket, const struct ox_works *works, const struct ox_jail_spec *spec,
                  int *ret_socket, int *ret_oom_score, int *ret_signals, struct ox_watch *watch,
                  struct ox_error *ret_error)
{
    int oom_score = -1, null = -1, writable = -1, r;
    struct ox_error ready = { OX_STAGE_NONE, 0 };

    /* Before the ids change: afterwards files of /proc/self belong to the host's root. */
    oom_score = openat(works->proc, "self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (oom_score < 0)
        return ox_fail(OX_STAGE_OOM_SCORE, -errno, ret_error);
    /* The launcher's own standard input. */
    null = fcntl(0, F_DUPFD_CLOEXEC, 0);
    if (null < 0)
        return ox_fail(OX_STAGE_WARDEN_DESCRIPTORS, -errno, ret_error);

    r = take_ids(works->ids.is_shared);
    if (r < 0)
        return ox_fail(OX_STAGE_CELL_IDS, r, ret_error);
    /* The cell's cgroup becomes the root of what is seen in it; it was joined before. */
    if (unshare(CLONE_NEWCGROUP) < 0)
        return ox_fail(OX_STAGE_CGROUP_NAMESPACE, -errno, ret_error);
    if (sethostname("oxgen", 5) < 0 || setdomainname("", 0) < 0)
        return ox_fail(OX_STAGE_HOSTNAME, -errno, ret_error);

    r = ox_jail_build(spec, &writable, ret_error);
    if (r == 0)
        r = ox_jail_wall(spec, writable, ret_error);
    if (r < 0)
        return r;

    /* The directory goes out first: once confined, the warden keeps nothing but its socket. */
    r = ox_send(socket, &ready, sizeof(ready), NULL, 0, &writable, 1);
    if (r < 0)
        return ox_fail(OX_STAGE_WARDEN, r, ret_error);

    ox_warden_take_filter(spec->filter, spec->filter_count);
    *ret_signals = null;
    return ox_warden_confine(socket, oom_score, ret_socket, ret_oom_score, ret_signals, watch,
                             ret_error);
}

/* Runs in the child; the launcher has written the id maps and the cgroup once a byte arrives. */
static void child_main(int socket, const struct ox_jail_spec *spec, struct ox_works *works)
    __attribute__((noreturn));

static void child_main(int socket, const struct ox_jail_spec *spec, struct ox_works *works)
{
    struct ox_error error = { OX_STAGE_NONE, 0 };
    struct ox_watch watch = { .notes = spec->notes, .listener = -1 };
    int oom_score = -1, signals = -1;
    char go;
    int r;

    ox_rlimits_stand_in(spec->memory_bytes, works->ids.is_shared,
                        works->counts_strangers && works->cgroups.count > 0);
    ox_cgroup_base_forget(&works->cgroups);
    r = ox_wait_readable(socket, ox_now_ns() + (int64_t)OX_CELL_MAKE_MS * 1000000);
    if (r < 0)
        (void)ox_fail(OX_STAGE_WARDEN, r, &error);
    else if (read(socket, &go, 1) != 1)
        _exit(1); /* the launcher is gone */
    if (r < 0 || set_up(socket, works, spec, &socket, &oom_score, &signals, &watch, &error) < 0) {
        (void)ox_send(socket, &error, sizeof(error), NULL, 0, NULL, 0);
        _exit(1);
    }
    if (ox_watch_hand_over(socket, &watch) < 0)
        _exit(1);
    ox_close(&watch.listener);
    ox_warden_serve(socket, oom_score, signals);
}

/* --- the launcher's side ---------------------------------------------------------------------- */

static int write_id_maps(pid_t pid, const struct ox_id_pair *ids)
{
    char path[64], map[96];
    int r;

    if (ids->is_shared)
        (void)snprintf(map, sizeof(map), "65534 0 1\n");
    else
        (void)snprintf(map, sizeof(map), "0 %u 1\n65534 %u 1\n", ids->warden, ids->plugin);
    (void)snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
    r = ox_write_text(AT_FDCWD, path, 0, map);
    if (r < 0)
        return r;
    (void)snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
    return ox_write_text(AT_FDCWD, path, 0, map);
}

struct trees {
    struct ox_tree places[200];
    int fds[200];
    uint32_t count;
    int program;
    int dev;
    int dev_nodes[OX_DEV_NODES];
};

static int open_dev(int is_own, struct trees *trees)
{
    int r = ox_dev_tree(is_own, &trees->dev);

    for (unsigned i = 0; r == 0 && is_own && i < OX_DEV_NODES; i++)
        r = ox_dev_node_tree(i, &trees->dev_nodes[i]);
    return r;
}

static int open_trees(struct ox_works *works, const struct ox_cell_request *request,
                      struct trees *trees, struct ox_error *ret_error)
{
    int r;

    trees->count = 0;
    trees->program = -1;
    trees->dev = -1;
    for (unsigned i = 0; i < OX_DEV_NODES; i++)
        trees->dev_nodes[i] = -1;

    if (request->digest != NULL)
        r = ox_store_tree(&works->store, &works->spaces, request->digest, request->program,
                          &trees->program);
    else
        r = ox_tree_of(works->user.is_own, request->program, &trees->program);
    if (r < 0)
        return ox_fail(OX_STAGE_PROGRAM, r, ret_error);

    for (uint32_t i = 0; i < request->mounts_count; i++) {
        r = ox_tree_of(works->user.is_own, request->mounts[i], &trees->fds[i]);
        if (r < 0)
            return ox_fail(OX_STAGE_TREE, r, ret_error);
        trees->places[i] = (struct ox_tree){ .fd = trees->fds[i],
                                             .destination = request->destinations[i],
                                             .flags = request->mount_flags[i] };
        trees->count = i + 1;
    }
    if ((request->features & OX_FEATURE_DEV) != 0) {
        r = open_dev(works->user.is_own, trees);
        if (r < 0)
            return ox_fail(OX_STAGE_DEV, r, ret_error);
    }
    return 0;
}

static void close_trees(struct trees *trees)
{
    ox_close_all(trees->fds, trees->count);
    for (unsigned i = 0; i < OX_DEV_NODES; i++)
        ox_close(&trees->dev_nodes[i]);
    ox_close(&trees->dev);
    ox_close(&trees->program);
}

static pid_t clone_child(int *ret_pidfd)
{
    unsigned long flags = (unsigned long)NAMESPACES | CLONE_PIDFD | SIGCHLD;

    return (pid_t)syscall(SYS_clone, flags, NULL, ret_pidfd, NULL, NULL);
}

/* The child is born in an empty network namespace, and if possible where its outer root is in place
 * already. The pair of sockets must not belong to that network namespace. */
static pid_t clone_in_place(struct ox_works *works, const struct ox_jail_spec *spec,
                            struct ox_kept_cell *cell, const int *pair)
{
    int own_net = (spec->features & OX_FEATURE_HOST_NETWORK) == 0;
    pid_t pid;
    int r = own_net ? ox_net_enter(&works->nets, &cell->net) : works->user.is_own ? -EPERM : 0;

    if (r < 0)
        return r;
    r = spec->is_placed ? ox_space_enter(works->outer) : 0;
    pid = r < 0 ? r : clone_child(&cell->pidfd);
    if (pid == 0) {
        int socket = pair[1], other = pair[0];

        ox_close(&other);
        child_main(socket, spec, works);
    }
    r = pid < 0 && r == 0 ? -errno : r;
    if (r < 0)
        cell->pidfd = -1;
    if ((spec->is_placed && ox_space_leave(&works->spaces) < 0) ||
        (own_net && ox_net_leave(&works->nets) < 0))
        return -ENOTRECOVERABLE;
    return r < 0 ? r : pid;
}

/* What the warden and those that it has reaped have used, for want of a cgroup. */
static int open_stat(int proc, pid_t pid)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "%d/stat", pid);
    return openat(proc, path, O_RDONLY | O_CLOEXEC);
}

/* The child waits for its cgroup and its id maps; both are ours to write. */
static int start_warden(struct ox_works *works, const struct ox_jail_spec *spec,
                        struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    int pair[2] = { -1, -1 };
    pid_t pid;
    int r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return ox_fail(OX_STAGE_CLONE, -errno, ret_error);
    pid = clone_in_place(works, spec, cell, pair);
    ox_close(&pair[1]);
    cell->socket = pair[0];
    if (pid < 0)
        return ox_fail(OX_STAGE_CLONE, pid, ret_error);

    if (cell->cgroup.cpu_fd < 0)
        cell->cgroup.cpu_fd = open_stat(works->proc, pid);
    r = ox_cgroup_attach(&cell->cgroup, pid);
    if (r < 0)
        return ox_fail(OX_STAGE_CGROUP_JOIN, r, ret_error);
    r = write_id_maps(pid, &cell->ids);
    if (r < 0)
        return ox_fail(OX_STAGE_ID_MAP, r, ret_error);
    if (send(cell->socket, "g", 1, MSG_NOSIGNAL) != 1)
        return ox_fail(OX_STAGE_WARDEN, -errno, ret_error);
    return 0;
}

static void give_back(struct ox_works *works, struct ox_kept_cell *cell)
{
    ox_close(&cell->pidfd);
    ox_close(&cell->listener);
    ox_net_give_back(&works->nets, &cell->net, cell->noted);
    /* Ended by itself: its host may be reading the counters yet, which must not count for another. */
    if (cell->state == OX_CELL_READY)
        (void)ox_cgroup_remove(&works->cgroups, &cell->cgroup);
    else
        ox_cgroup_give_back(&works->cgroups, &cell->cgroup);
    ox_ids_release(&works->ids, &cell->ids);
    cell->id = 0;
    cell->state = OX_CELL_FREE;
}

static void kill_cell(struct ox_works *works, struct ox_kept_cell *cell)
{
    ox_close(&cell->socket);
    ox_close(&cell->writable);
    if (cell->pidfd < 0) {
        give_back(works, cell);
        return;
    }
    (void)ox_kill(cell->pidfd);
    cell->state = OX_CELL_DYING;
}

static int begin(struct ox_works *works, const struct ox_cell_request *request,
                 struct ox_kept_cell *cell, struct ox_error *ret_error)
{
    /* The warden counts as a process of the cell and not of the plugin. */
    int64_t processes = request->processes < 0 ? -1 : request->processes + 1;
    struct ox_jail_spec spec = {
        .entry = request->entry,
        .features = request->features,
        .disk_bytes = request->disk_bytes,
        .memory_bytes = works->cgroups.memory_version == 0 ? request->memory_bytes : -1,
        .is_placed = (request->features & OX_FEATURE_PROC) == 0,
        .filter = request->filter,
        .filter_count = request->filter_count,
        .notes = request->notes,
    };
    static struct trees trees;
    int r;

    ox_kept_cell_begin(request, cell);
    cell->notes = request->notes;
    r = ox_ids_take(&works->ids, &cell->ids);
    if (r < 0) {
        cell->state = OX_CELL_FREE;
        return ox_fail(OX_STAGE_UID_PAIR, r, ret_error);
    }
    cell->id = ++works->next_id;

    r = open_trees(works, request, &trees, ret_error);
    if (r < 0)
        goto out;
    spec.program = trees.program;
    spec.trees = trees.places;
    spec.trees_count = trees.count;
    spec.dev = trees.dev;
    spec.dev_nodes = works->user.is_own ? trees.dev_nodes : NULL;

    r = ox_kept_cell_take_cgroup(works, request, processes, cell, ret_error);
    if (r == 0)
        r = start_warden(works, &spec, cell, ret_error);
out:
    close_trees(&trees);
    if (r < 0)
        kill_cell(works, cell);
    return r;
}

/* The kernel lets pid 1 of a namespace be reaped only when nobody else is left in it. */
static int bury(struct ox_works *works, struct ox_kept_cell *cell, int wait_ms)
{
    siginfo_t info;
    int r = ox_wait_readable(cell->pidfd, ox_now_ns() + (int64_t)wait_ms * 1000000);

    if (r < 0)
        return r;
    if (syscall(SYS_waitid, P_PIDFD, cell->pidfd, &info, WEXITED | WNOHANG, NULL) < 0 &&
        errno != ECHILD)
        return -errno;
    give_back(works, cell);
    return 0;
}

const struct ox_level_calls ox_level_namespaces = {
    .open = ox_namespaces_open,
    .close = ox_namespaces_close,
    .begin = begin,
    .kill = kill_cell,
    .bury = bury,
};
