/* From a child of the launcher to keeper and warden of a cell without namespaces.
 *
 * The keeper outlives the warden and ends whatever it left; the warden outlives its programs. Each can
 * signal those below it, and nobody below it can signal it: by uids at level chroot (keeper, warden
 * and programs have one each), by nested Landlock domains at level landlock. Both are
 * PR_SET_CHILD_SUBREAPER, so that a daemon falls to them and ECHILD means that nobody is left. */
#include "plain_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../wire.h"
#include "done.h"
#include "landlock.h"
#include "missing.h"
#include "plain_filter.h"
#include "plain_root.h"
#include "plain_uid.h"
#include "rlimits.h"
#include "warden.h"
#include "watch.h"

#define KEPT_CAPABILITIES ((1u << CAP_SETUID) | (1u << CAP_SETGID))

/* --- ending a tree ---------------------------------------------------------------------------- */

/* After a change of the effective uid, which clears it. One that has gone meanwhile has sent nothing. */
static int watch_parent(const struct ox_ground *ground)
{
    if (prctl(PR_SET_PDEATHSIG, ground->parent_death, 0, 0, 0) < 0)
        return -errno;
    if (getppid() != ground->parent)
        (void)raise(ground->parent_death);
    return 0;
}

static int kill_by_uid(const struct ox_ground *ground)
{
    int r = ox_uid_kill_from(ground->rest, ground->uid);

    if (r == 0 && ground->also != 0)
        r = ox_uid_kill_from(ground->rest, ground->also);
    return r < 0 ? r : watch_parent(ground);
}

/* Behind a wall that keeps signals in: it reaches whoever is behind the same wall or one inside it, and
 * nobody else of our uid. */
static int kill_by_wall(const struct ox_ground *ground)
{
    (void)ground;
    return kill(-1, SIGKILL) < 0 ? -errno : 0;
}

/* What is left without such a wall: our children, and with the next call theirs, which fall to us. A
 * program that forks faster than this is read outruns it: whole_tree_kill is not held then. */
static int kill_children(const struct ox_ground *ground)
{
    char text[4096], *at = text;
    ssize_t size = pread(ground->children, text, sizeof(text) - 1, 0);

    if (size < 0)
        return -errno;
    text[size] = '\0';
    for (;;) {
        char *end;
        long pid = strtol(at, &end, 10);

        if (end == at || pid < 2)
            return 0;
        (void)kill((pid_t)pid, SIGKILL);
        at = end;
    }
}

/* --- rights ----------------------------------------------------------------------------------- */

/* Of all three uids and gids, without groups. What the launcher has stays permitted until
 * ox_warden_confine(), which drops capabilities from the bounding set. */
static int become(uint32_t id)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct sets[2];

    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
        syscall(SYS_setresgid, id, id, id) < 0 || syscall(SYS_setresuid, id, id, id) < 0)
        return -errno;
    memset(sets, 0, sizeof(sets));
    sets[0].effective = sets[0].permitted = KEPT_CAPABILITIES | (1u << CAP_SETPCAP);
    if (syscall(SYS_capset, &header, sets) < 0)
        return -errno;
    return syscall(SYS_getgroups, 0, NULL) != 0 ? -EBADE : ox_done_ids(id);
}

static int open_own(const struct ox_works *works, const char *what, int flags)
{
    char path[96];
    int fd;

    /* The system call: libc's fork() is not what made us. */
    (void)snprintf(path, sizeof(path), "%ld/%s", (long)syscall(SYS_getpid), what);
    fd = openat(works->proc, path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Each of the two has its own. */
struct own {
    struct ox_ground ground;
    int socket;
    int oom_score;
    int signals;
    struct ox_watch watch;
};

/* Before anything is given up. */
static int prepare(const struct ox_plain_spec *spec, const struct ox_works *works, struct own *own,
                   struct ox_error *ret_error)
{
    char children[64];
    int r;

    own->ground = (struct ox_ground){
        .uid = spec->plugin,
        .own_ids = !spec->is_root,
        .capabilities = spec->is_root ? KEPT_CAPABILITIES : 0,
        .parent_death = SIGHUP,
        .wall = -1,
        .children = -1,
        .stat = -1,
        .kill_all = spec->is_root ? kill_by_uid : kill_by_wall,
        .prefix = spec->is_root ? NULL : spec->prefix,
    };
    own->socket = spec->socket;
    own->watch = (struct ox_watch){ .notes = OX_NOTES_NONE, .listener = -1 };

    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return ox_fail(OX_STAGE_WARDEN, -errno, ret_error);
    own->oom_score = open_own(works, "oom_score_adj", O_RDWR);
    if (own->oom_score < 0)
        return ox_fail(OX_STAGE_OOM_SCORE, own->oom_score, ret_error);
    own->signals = fcntl(0, F_DUPFD_CLOEXEC, 0); /* /dev/null, for ox_warden_confine() */
    if (own->signals < 0)
        return ox_fail(OX_STAGE_WARDEN_DESCRIPTORS, -errno, ret_error);
    if (!spec->is_root && ox_landlock_holds(OX_WALL_SIGNALS) == 0) {
        (void)snprintf(children, sizeof(children), "task/%ld/children", (long)syscall(SYS_getpid));
        r = open_own(works, children, O_RDONLY);
        if (r < 0)
            return ox_fail(OX_STAGE_WARDEN, r, ret_error);
        own->ground.children = r;
        own->ground.kill_all = kill_children;
    }
    return 0;
}

static int confine(const struct ox_plain_spec *spec, struct own *own, uint32_t id,
                   struct ox_error *ret_error)
{
    int r = 0;

    if (spec->is_root)
        r = become(id);
    if (r < 0)
        return ox_fail(OX_STAGE_CELL_IDS, r, ret_error);
    own->ground.rest = id;
    own->ground.parent = getppid();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ox_fail(OX_STAGE_NO_NEW_PRIVS, -errno, ret_error);
    r = ox_plain_filter_load(!spec->is_root);
    if (r < 0)
        return ox_fail(OX_STAGE_SECCOMP, r, ret_error);
    ox_rlimits_stand_in(spec->memory_bytes, 0, 0);
    ox_warden_stand_on(&own->ground);
    return ox_warden_confine(own->socket, own->oom_score, &own->socket, &own->oom_score,
                             &own->signals, &own->watch, ret_error);
}

/* --- the warden ------------------------------------------------------------------------------- */

/* Behind the wall of its cell; what it launches is behind one more, where that keeps signals from going
 * up. */
static int raise_walls(const struct ox_plain_spec *spec, struct own *own,
                       struct ox_error *ret_error)
{
    int wall, r = ox_plain_root_wall(spec->request, spec->is_root, &wall, ret_error);

    if (r < 0 || wall < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ox_fail(OX_STAGE_NO_NEW_PRIVS, -errno, ret_error);
    r = ox_wall_raise(wall);
    if (r == 0)
        r = ox_done_wall();
    if (r < 0)
        return ox_fail(OX_STAGE_LANDLOCK, r, ret_error);
    if (!spec->is_root && ox_landlock_holds(OX_WALL_SIGNALS) != 0)
        own->ground.wall = wall;
    else
        return 0;
    r = ox_done_signals(getppid());
    return r < 0 ? ox_fail(OX_STAGE_LANDLOCK, r, ret_error) : 0;
}

static int become_warden(const struct ox_plain_spec *spec, const struct ox_works *works,
                         struct own *own, struct ox_error *ret_error)
{
    int r = prepare(spec, works, own, ret_error);

    own->ground.stat = r < 0 ? -1 : open_own(works, "stat", O_RDONLY);
    if (r == 0 && own->ground.stat < 0)
        r = ox_fail(OX_STAGE_WARDEN, own->ground.stat, ret_error);
    if (r == 0)
        r = raise_walls(spec, own, ret_error);
    return r < 0 ? r : confine(spec, own, spec->warden, ret_error);
}

static void warden_main(const struct ox_plain_spec *spec, const struct ox_works *works,
                        pid_t keeper) __attribute__((noreturn));

static void warden_main(const struct ox_plain_spec *spec, const struct ox_works *works,
                        pid_t keeper)
{
    static struct own own;
    static char program[OX_ENTRY_MAX + 8];
    struct ox_error error = { OX_STAGE_NONE, 0 };
    int sent[2] = { -1, -1 }, r;

    own.socket = spec->socket;
    r = become_warden(spec, works, &own, &error);
    if (r == 0) {
        (void)snprintf(program, sizeof(program), "/bin/%s", spec->request->entry);
        own.ground.program = program;
        /* It could have died before its death was our business. */
        if (getppid() != keeper)
            _exit(1);
        sent[0] = (int)syscall(SYS_pidfd_open, syscall(SYS_getpid), 0);
        sent[1] = own.ground.stat;
        if (sent[0] < 0)
            r = ox_fail(OX_STAGE_WARDEN, -errno, &error);
    }
    ox_close(&own.watch.listener);
    if (ox_send(own.socket, &error, sizeof(error), NULL, 0, sent, sent[0] >= 0 ? 2 : 0) < 0 ||
        r < 0)
        _exit(1);
    ox_close_all(sent, 2);
    own.ground.stat = -1;
    ox_warden_take_filter(spec->request->filter, spec->request->filter_count);
    ox_warden_serve(own.socket, own.oom_score, own.signals);
}

/* --- the keeper ------------------------------------------------------------------------------- */

static int enter(const struct ox_plain_spec *spec, struct ox_error *ret_error)
{
    struct ox_error ready = { OX_STAGE_NONE, 0 };
    int r =
        ox_plain_root_fill(spec->directory, spec->request, spec->is_root, spec->plugin, ret_error);
    int writable;

    if (r < 0)
        return r;
    /* Not before: what was copied would count as the cell's memory, and is there for all its runs. */
    r = ox_cgroup_attach(spec->cgroup, (pid_t)syscall(SYS_getpid));
    if (r < 0)
        return ox_fail(OX_STAGE_CGROUP_JOIN, r, ret_error);
    if (fchdir(spec->directory) < 0 || (spec->is_root && (chroot(".") < 0 || chdir("/") < 0)))
        return ox_fail(OX_STAGE_CHROOT, -errno, ret_error);
    r = spec->is_root ? ox_done_chroot(spec->directory) : 0;
    if (r < 0)
        return ox_fail(OX_STAGE_CHROOT, r, ret_error);
    writable = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (writable < 0)
        return ox_fail(OX_STAGE_WRITABLE, -errno, ret_error);
    r = ox_send(spec->socket, &ready, sizeof(ready), NULL, 0, &writable, 1);
    ox_close(&writable);
    return r < 0 ? ox_fail(OX_STAGE_WARDEN, r, ret_error) : 0;
}

/* Only signals: the keeper uses no file, and the warden has some to open yet. */
static int raise_outer_wall(const struct ox_plain_spec *spec, struct ox_error *ret_error)
{
    int wall = -1, r;

    if (spec->is_root || ox_landlock_holds(OX_WALL_SIGNALS) == 0)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ox_fail(OX_STAGE_NO_NEW_PRIVS, -errno, ret_error);
    r = ox_wall_begin(OX_WALL_SIGNALS, &wall);
    if (r == 0)
        r = ox_wall_raise(wall);
    /* Or the end of this cell would be that of everything that the user runs. */
    if (r == 0)
        r = ox_done_signals(getppid());
    ox_close(&wall);
    return r < 0 ? ox_fail(OX_STAGE_LANDLOCK, r, ret_error) : 0;
}

static int become_keeper(const struct ox_plain_spec *spec, struct ox_works *works, struct own *own,
                         pid_t *ret_warden, struct ox_error *ret_error)
{
    pid_t self = (pid_t)syscall(SYS_getpid), pid;
    int r = enter(spec, ret_error);

    if (r == 0)
        r = prepare(spec, works, own, ret_error);
    if (r == 0)
        r = raise_outer_wall(spec, ret_error);
    if (r < 0)
        return r;
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0)
        return ox_fail(OX_STAGE_CLONE, -errno, ret_error);
    if (pid == 0)
        warden_main(spec, works, self);
    *ret_warden = pid;
    own->ground.also = spec->warden;
    r = confine(spec, own, spec->keeper, ret_error);
    if (r < 0 || !spec->is_root)
        return r;
    /* A signal of the parent's end is sent with the rights of the parent: the warden would not get ours. */
    own->ground.rest = spec->warden;
    if (syscall(SYS_setresuid, -1, spec->warden, -1) < 0 || watch_parent(&own->ground) < 0)
        return ox_fail(OX_STAGE_CELL_IDS, -errno, ret_error);
    return 0;
}

void ox_plain_child_main(const struct ox_plain_spec *spec, struct ox_works *works)
{
    static struct own own;
    struct ox_error error = { OX_STAGE_NONE, 0 };
    pid_t warden = 0;
    int r;

    ox_cgroup_base_forget(&works->cgroups);
    ox_plain_base_forget(&works->base);
    own.socket = spec->socket;
    own.watch.listener = -1;
    r = become_keeper(spec, works, &own, &warden, &error);
    ox_close(&own.watch.listener);
    if (r < 0) {
        /* With us the warden ends, if there is one. */
        (void)ox_send(own.socket, &error, sizeof(error), NULL, 0, NULL, 0);
        _exit(1);
    }
    /* The warden's alone from here on: its end is what the host hears. */
    ox_close(&own.socket);
    ox_warden_keep(own.signals, warden);
}
