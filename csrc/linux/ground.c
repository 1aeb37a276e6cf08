/* Becoming a warden: what it stands on, and the rights that it gives up. */
#include "warden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "done.h"
#include "ground.h"
#include "jail.h"
#include "missing.h"
#include "rlimits.h"
#include "watch.h"

#define PLUGIN_ID 65534

/* Descriptors 0 to 3 of the warden are /dev/null, so that received ones lie above. */
#define FIRST_OWN 4

#define KEPT_CAPABILITIES \
    ((1u << CAP_KILL) | (1u << CAP_SETUID) | (1u << CAP_SETGID) | (1u << CAP_SYS_CHROOT))

/* The kernel's sets have 64 bits. */
#define CAPABILITIES_MAX 64

static int kill_namespace(const struct ox_ground *ground)
{
    (void)ground;
    return kill(-1, SIGKILL) < 0 ? -errno : 0;
}

static struct ox_ground of_namespaces = {
    .root = OX_JAIL_ROOT,
    .uid = PLUGIN_ID,
    .capabilities = KEPT_CAPABILITIES,
    .parent_death = SIGKILL,
    .wall = -1,
    .children = -1,
    .stat = -1,
    .kill_all = kill_namespace,
};

struct ox_ground *ox_ground = &of_namespaces;

void ox_warden_stand_on(struct ox_ground *ground)
{
    ox_ground = ground;
}

int ox_ground_is_namespaces(void)
{
    return ox_ground == &of_namespaces;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
    struct __user_cap_data_struct sets[2];

    /* The bounding set first: dropping from it needs CAP_SETPCAP. EINVAL ends the list of the
     * kernel's own. */
    for (unsigned long capability = 0; !ox_ground->own_ids; capability++) {
        if (capability > CAPABILITIES_MAX)
            return -EBADE;
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
            if (errno == EINVAL && capability > CAP_SYS_CHROOT)
                break;
            return -errno;
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;

    memset(sets, 0, sizeof(sets));
    sets[0].effective = ox_ground->capabilities;
    sets[0].permitted = ox_ground->capabilities;
    if (syscall(SYS_capset, &header, sets) < 0)
        return -errno;
    return ox_done_capabilities(ox_ground->capabilities);
}

/* Move fd up to at least `least`, close-on-exec. */
static int move_up(int *fd, int least)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, least);

    if (moved < 0)
        return -errno;
    ox_close(fd);
    *fd = moved;
    return 0;
}

/* 0 to 3 become /dev/null, those that are kept follow, everything else is closed. null is open
 * already. */
static int arrange_descriptors(int null, int *socket, int *oom_score, int *signals)
{
    int *kept[] = { socket,          oom_score, signals, &ox_ground->wall, &ox_ground->children,
                    &ox_ground->stat };
    size_t count = 3;
    int r;

    for (size_t i = count; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (*kept[i] >= 0)
            kept[count++] = kept[i];
    }
    for (size_t i = 0; i < count; i++) {
        r = move_up(kept[i], FIRST_OWN + (int)count);
        if (r < 0)
            return r;
    }
    for (int fd = 0; fd < FIRST_OWN; fd++) {
        if (null != fd && dup2(null, fd) < 0)
            return -errno;
    }
    for (size_t i = 0; i < count; i++) {
        if (dup3(*kept[i], FIRST_OWN + (int)i, O_CLOEXEC) < 0)
            return -errno;
        *kept[i] = FIRST_OWN + (int)i;
    }
    /* One more, to see it closed. */
    if (dup2(null, FIRST_OWN + (int)count) < 0)
        return -errno;
    r = ox_close_from(FIRST_OWN + (unsigned)count);
    return r < 0 ? r : fcntl(FIRST_OWN + (int)count, F_GETFD) >= 0 ? -EBADE : 0;
}

static int open_signals(void)
{
    sigset_t child;
    int fd;

    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    if (ox_ground->parent_death != SIGKILL)
        (void)sigaddset(&child, ox_ground->parent_death);
    if (sigprocmask(SIG_SETMASK, &child, NULL) < 0)
        return -errno;
    fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* The launcher's end of the socket pair is its sign of life until it hands it to the host; the
 * parent-death signal takes over here. It comes after the last change of ids, which would clear
 * it (PR_SET_PDEATHSIG(2const)). */
static int die_with_launcher(int socket)
{
    struct pollfd peer = { .fd = socket, .events = 0 };
    int set = 0;

    if (prctl(PR_SET_PDEATHSIG, ox_ground->parent_death, 0, 0, 0) < 0 ||
        prctl(PR_GET_PDEATHSIG, &set, 0, 0, 0) < 0)
        return -errno;
    if (set != ox_ground->parent_death)
        return -EBADE;
    if (poll(&peer, 1, 0) > 0 && (peer.revents & (POLLHUP | POLLERR)) != 0)
        return -ESRCH;
    return 0;
}

/* What the warden's own score is between launches: that of the launcher, as one that somebody with
 * CAP_SYS_RESOURCE has raised can be lowered no more by others (systemd does so for user sessions). */
static char calm_score[8] = "0";

static void note_oom_score(int fd)
{
    char text[sizeof(calm_score)];
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);

    if (size <= 0 || text[0] == '-')
        return;
    memcpy(calm_score, text, (size_t)size);
    calm_score[size] = '\0';
}

const char *ox_ground_calm_score(void)
{
    return calm_score;
}

int ox_warden_confine(int socket, int oom_score, int *ret_socket, int *ret_oom_score,
                      int *ret_signals, struct ox_watch *watch, struct ox_error *ret_error)
{
    int null, signals, r;

    /* The device was opened by name before the pivot, as the oom score was. */
    null = *ret_signals;
    note_oom_score(oom_score);
    signals = open_signals();
    if (signals < 0)
        return ox_fail(OX_STAGE_WARDEN_DESCRIPTORS, signals, ret_error);
    r = arrange_descriptors(null, &socket, &oom_score, &signals);
    /* Half arranged they have moved too, and the caller reports the failure through the socket. */
    *ret_socket = socket;
    *ret_oom_score = oom_score;
    *ret_signals = signals;
    if (r < 0)
        return ox_fail(OX_STAGE_WARDEN_DESCRIPTORS, r, ret_error);

    r = ox_rlimits_fix();
    if (r < 0)
        return ox_fail(OX_STAGE_WARDEN_RLIMITS, r, ret_error);

    r = drop_capabilities();
    if (r < 0)
        return ox_fail(OX_STAGE_CAPABILITIES, r, ret_error);

    r = ox_done_kill();
    if (r < 0)
        return ox_fail(OX_STAGE_PARENT_DEATH, r, ret_error);

    r = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : die_with_launcher(socket);
    if (r < 0)
        return ox_fail(OX_STAGE_PARENT_DEATH, r, ret_error);

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ox_fail(OX_STAGE_NO_NEW_PRIVS, -errno, ret_error);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return ox_fail(OX_STAGE_NO_NEW_PRIVS, -EBADE, ret_error);

    r = ox_watch_load(watch);
    if (r < 0)
        return ox_fail(OX_STAGE_SECCOMP, r, ret_error);
    return 0;
}
