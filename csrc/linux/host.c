/* The host's side of the launcher: starting it and ending it. */
#include "../core.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "../wire.h"
#include "launcher.h"
#include "missing.h"

/* How long a message to the launcher may wait for room. */
#define SEND_SECONDS 5

#define STRINGIFY(x) #x
#define TEXT_OF(x) STRINGIFY(x)

const char *ox_build(void)
{
    return "oxgen-core/" OX_VERSION " wire/" TEXT_OF(OX_WIRE_VERSION);
}

/* --- the launcher ----------------------------------------------------------------------------- */

/* posix_spawn is vfork-like: the size of the host's heap does not matter, and no other thread
 * runs code of ours between fork and exec. The launcher closes what it inherits beside its two
 * descriptors. */
static int spawn_launcher(const char *path, int socket, int host, int *ret_pid)
{
    static char *const argv[] = { (char *)"oxgen-launcher", NULL };
    static char *const envp[] = { NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    pid_t pid;
    int r;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
    }
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    /* A session of its own: Ctrl-C at the host's terminal is for the host to handle. */
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETSID);
    /* Both sources lie above the targets, see above_targets(). */
    r = posix_spawn_file_actions_adddup2(&actions, socket, OX_LAUNCHER_SOCKET);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, host, OX_LAUNCHER_HOST);
    if (r == 0)
        r = posix_spawn(&pid, path, &actions, &attributes, argv, envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    if (r != 0)
        return -r;
    *ret_pid = pid;
    return 0;
}

static int above_targets(int *fd)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, 16);

    if (moved < 0) /* fcntl(2): EINVAL when the limit on open files is not above 16 */
        return errno == EINVAL ? -EMFILE : -errno;
    ox_close(fd);
    *fd = moved;
    return 0;
}

static int shake_hands(int socket, const struct ox_config *config, int64_t deadline,
                       struct ox_launcher *launcher, struct ox_problem *ret_problem)
{
    struct ox_wire_hello hello = { .kind = OX_MESSAGE_HELLO,
                                   .version = OX_WIRE_VERSION,
                                   .config = *config };
    struct ox_wire_hello_reply reply;
    int none[1], r;
    size_t count;
    ssize_t size;

    r = ox_send(socket, &hello, sizeof(hello), NULL, 0, NULL, 0);
    if (r == 0)
        r = ox_wait_readable(socket, deadline);
    if (r == 0) {
        size = ox_receive(socket, &reply, sizeof(reply), none, 0, &count);
        r = size < 0                         ? (int)size
            : size == 0                      ? -EPIPE
            : size != (ssize_t)sizeof(reply) ? -EPROTO
                                             : 0;
    }
    if (r == -EPIPE || r == -ECONNRESET) {
        (void)ox_refuse(ret_problem, OX_STAGE_HANDSHAKE, r, "the launcher ended before it answered",
                        "");
        return r;
    }
    if (r == -ETIMEDOUT) {
        (void)ox_refuse(ret_problem, OX_STAGE_HANDSHAKE, r,
                        "the launcher was stopped, or had no processor", "");
        return r;
    }
    if (r == 0 && (reply.kind != OX_MESSAGE_HELLO || reply.version != OX_WIRE_VERSION))
        r = -EPROTO;
    if (r < 0) {
        (void)ox_refuse(ret_problem, OX_STAGE_HANDSHAKE, r, "the launcher did not answer",
                        "install oxgen anew, so that extension and launcher come from one build");
        return r;
    }
    if (reply.problem.error.stage != OX_STAGE_NONE) {
        *ret_problem = reply.problem;
        return reply.problem.error.errnum > 0 ? -reply.problem.error.errnum : -EPROTO;
    }
    launcher->memory_version = reply.memory_version;
    launcher->level = reply.level;
    launcher->holds = reply.holds;
    launcher->weaker = reply.weaker;
    launcher->lacking = reply.lacking;
    launcher->lacking_rate = reply.lacking_rate;
    memcpy(launcher->build, reply.build, sizeof(launcher->build));
    launcher->build[sizeof(launcher->build) - 1] = '\0';
    return 0;
}

int ox_launcher_start(const char *path, const struct ox_config *config, int wait_ms,
                      struct ox_launcher *ret_launcher, struct ox_problem *ret_problem)
{
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    const struct timeval patience = { .tv_sec = SEND_SECONDS };
    struct ox_launcher launcher = { .socket = -1, .pidfd = -1 };
    int pair[2] = { -1, -1 };
    int self = -1, r;

    self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0) {
        r = -errno;
        if (r == -ENOSYS)
            (void)ox_refuse(ret_problem, OX_STAGE_LAUNCHER, r, "this kernel has no pidfd_open",
                            "use Linux 5.10 or later");
        else
            (void)ox_refuse(ret_problem, OX_STAGE_LAUNCHER, r,
                            "no descriptor for the host's own process", "");
        goto out;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0) {
        r = -errno;
        (void)ox_refuse(ret_problem, OX_STAGE_LAUNCHER, r, "no socket pair",
                        "raise the limit on open files");
        goto out;
    }
    r = above_targets(&self);
    if (r == 0)
        r = above_targets(&pair[1]);
    if (r == 0)
        r = spawn_launcher(path, pair[1], self, &launcher.pid);
    if (r < 0) {
        (void)ox_refuse(ret_problem, OX_STAGE_LAUNCHER, r,
                        "the launcher executable of the oxgen package cannot be started",
                        "its file system must not be noexec; if it is damaged, install oxgen anew");
        goto out;
    }
    ox_close(&pair[1]);
    launcher.pidfd = (int)syscall(SYS_pidfd_open, launcher.pid, 0);
    if (launcher.pidfd < 0) {
        r = -errno;
        (void)ox_refuse(
            ret_problem, OX_STAGE_LAUNCHER, r,
            r == -ESRCH ? "the launcher ended at once" : "no descriptor for the launcher", "");
        goto out;
    }
    r = shake_hands(pair[0], config, deadline, &launcher, ret_problem);
    if (r < 0)
        goto out;
    launcher.socket = pair[0];
    *ret_launcher = launcher;
    pair[0] = -1;
    launcher.pidfd = -1;
    launcher.pid = 0;
    r = 0;
out:
    ox_close(&self);
    ox_close(&pair[0]);
    ox_close(&pair[1]);
    if (launcher.pid > 0) {
        launcher.socket = -1;
        (void)ox_launcher_stop(&launcher, 1000);
    }
    return r;
}

int ox_launcher_stop(struct ox_launcher *launcher, int wait_ms)
{
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    siginfo_t info;
    int r = 0;

    ox_close(&launcher->socket); /* it ends its cells and itself */
    if (launcher->pidfd < 0)
        return 0;
    if (ox_wait_readable(launcher->pidfd, deadline) == -ETIMEDOUT) {
        r = -ETIMEDOUT;
        (void)ox_kill(launcher->pidfd);
        (void)ox_wait_readable(launcher->pidfd, ox_now_ns() + INT64_C(1000000000));
    }
    /* ECHILD: the host reaps everything itself, or ignores SIGCHLD. WNOHANG: no wait without a
     * deadline. */
    (void)syscall(SYS_waitid, P_PIDFD, launcher->pidfd, &info, WEXITED | WNOHANG, NULL);
    ox_close(&launcher->pidfd);
    launcher->pid = 0;
    return r;
}
