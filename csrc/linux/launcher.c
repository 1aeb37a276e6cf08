/* The launcher: one thread, one loop. Every request is answered; none of its waits is without a
 * deadline but the poll for the next request, which the end of the host ends. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "../posix/system.h"
#include "../wire.h"
#include "cell.h"
#include "missing.h"

#define CELLS_MAX 8192u
#define HELLO_MS 10000
/* How long the launcher itself waits for its cells when it ends. */
#define LAST_MS 1500
/* How long a new cell waits for the uid pair of one that is ending. */
#define PAIR_MS 500
/* How often the dying are looked at. */
#define BURY_MS 5

struct launcher {
    int socket;
    int host;
    struct ox_works works;
    struct ox_kept_cell *cells;
    uint32_t cells_max;
};

/* --- starting --------------------------------------------------------------------------------- */

/* What a cell's processes inherit from us: nothing of the host's own scheduling, signals, umask
 * or directory. */
static int reset_inherited(void)
{
    static const uint64_t
        standard[8]; /* struct sigaction as the kernel has it, with room to spare */
    struct sched_param normal = { .sched_priority = 0 };
    struct rlimit files;
    cpu_set_t *every;
    sigset_t none;
    int r = 0;

    /* The system call, as libc refuses its own two (32 and 33), which a host may have ignored
     * all the same; all zero is the default action. EINVAL for SIGKILL and SIGSTOP. */
    for (int number = 1; number <= 64; number++)
        (void)syscall(SYS_rt_sigaction, number, standard, NULL, sizeof(uint64_t));
    (void)sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return -errno;
    (void)umask(022);

    if (sched_setscheduler(0, SCHED_OTHER, &normal) < 0)
        return -errno;
    if (setpriority(PRIO_PROCESS, 0, 0) < 0)
        return -errno;
    /* Address-space randomisation and 64-bit mode, and the default of 50 us: exec keeps both. */
    if (personality(PER_LINUX) < 0 || prctl(PR_SET_TIMERSLACK, 50000, 0, 0, 0) < 0)
        return -errno;
    /* IOPRIO_WHO_PROCESS, ourselves, class none */
    if (syscall(SYS_ioprio_set, 1, 0, 0) < 0)
        return -errno;

    every = CPU_ALLOC(8192);
    if (every == NULL)
        return -ENOMEM;
    memset(every, 0xff, CPU_ALLOC_SIZE(8192));
    if (sched_setaffinity(0, CPU_ALLOC_SIZE(8192), every) < 0)
        r = -errno;
    CPU_FREE(every);

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    return r;
}

static int keep_descriptors(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    for (int fd = 0; fd < 3; fd++) {
        if (dup2(null, fd) < 0)
            return -errno;
    }
    ox_close(&null);
    if (fcntl(OX_LAUNCHER_SOCKET, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(OX_LAUNCHER_HOST, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    if (chdir("/") < 0)
        return -errno;
    return ox_close_from(OX_LAUNCHER_HOST + 1);
}

static int refuse(struct ox_problem *problem, int stage, int r, const char *cause,
                  const char *remedy)
{
    problem->error = (struct ox_error){ stage, -r };
    (void)snprintf(problem->cause, sizeof(problem->cause), "%s: %s", cause, strerror(-r));
    (void)snprintf(problem->remedy, sizeof(problem->remedy), "%s", remedy);
    return r;
}

static int prepare(struct launcher *launcher, const struct ox_config *config,
                   struct ox_problem *problem)
{
    struct ox_cgroup_problem cgroup_problem = { 0 };
    int r;

    r = reset_inherited();
    if (r < 0)
        return refuse(
            problem, OX_STAGE_SCHEDULING, r, "the host's scheduling cannot be reset for plugins",
            "start the host without real-time class and raised nice value, or with CAP_SYS_NICE");
    r = ox_ids_open(config, &launcher->works.ids, problem);
    if (r < 0)
        return r;
    r = ox_store_open(&launcher->works.store);
    if (r < 0)
        return refuse(
            problem, OX_STAGE_STORE, r,
            "the store of verified programs cannot be mounted (fsmount)",
            "run as root with CAP_SYS_ADMIN on Linux 5.10 or later, not from an initramfs");
    r = ox_cgroup_base_open(&launcher->works.cgroups, &cgroup_problem);
    if (r < 0) {
        problem->error = (struct ox_error){ OX_STAGE_CGROUP_BASE, -r };
        (void)snprintf(problem->cause, sizeof(problem->cause), "%s", cgroup_problem.cause);
        (void)snprintf(problem->remedy, sizeof(problem->remedy), "%s", cgroup_problem.remedy);
        return r;
    }
    if (config->cells_max < 1 || config->cells_max > CELLS_MAX)
        return refuse(problem, OX_STAGE_REQUEST, -EINVAL, "the number of cells is out of range",
                      "ask for 1 to 8192 cells");
    launcher->cells = calloc(config->cells_max, sizeof(*launcher->cells));
    if (launcher->cells == NULL)
        return refuse(problem, OX_STAGE_LAUNCHER, -ENOMEM, "no memory for the table of cells", "");
    launcher->cells_max = config->cells_max;
    return 0;
}

/* kept: what keep_descriptors() said. */
static int greet(struct launcher *launcher, int kept)
{
    struct ox_wire_hello hello;
    struct ox_wire_hello_reply reply = { .kind = OX_MESSAGE_HELLO, .version = OX_WIRE_VERSION };
    int none[1], r;
    size_t count;

    if (ox_wait_readable(launcher->socket, ox_now_ns() + (int64_t)HELLO_MS * 1000000) < 0)
        return -ETIMEDOUT;
    if (ox_receive(launcher->socket, &hello, sizeof(hello), none, 0, &count) !=
            (ssize_t)sizeof(hello) ||
        hello.kind != OX_MESSAGE_HELLO)
        return -EBADMSG;

    (void)snprintf(reply.build, sizeof(reply.build), "%s", ox_build());
    if (hello.version != OX_WIRE_VERSION)
        r = -EPROTO;
    else if (kept < 0)
        r = refuse(&reply.problem, OX_STAGE_LAUNCHER, kept, "/dev/null cannot be opened",
                   "restore the device: mknod -m 666 /dev/null c 1 3");
    else
        r = prepare(launcher, &hello.config, &reply.problem);
    /* Where the numbers of cells begin: one of a launcher before us means nothing here. */
    if (getrandom(&launcher->works.next_id, sizeof(launcher->works.next_id), 0) < 0)
        launcher->works.next_id = (uint32_t)getpid() << 8;
    launcher->works.next_id &= 0x3fffffff;
    if (r == -EPROTO)
        (void)refuse(&reply.problem, OX_STAGE_HANDSHAKE, r,
                     "the launcher is of another build than the extension",
                     "install oxgen anew, so that both come from one build");
    reply.memory_version = launcher->works.cgroups.memory_version;
    if (ox_send(launcher->socket, &reply, sizeof(reply), NULL, 0, NULL, 0) < 0)
        return -EPIPE;
    return r;
}

/* --- requests --------------------------------------------------------------------------------- */

static int is_component(const char *name, size_t length)
{
    if (length == 0 || length > 255 || memchr(name, '/', length) != NULL)
        return 0;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* Absolute, no empty, "." or ".." component. */
static int is_destination(const char *path)
{
    const char *at = path;

    if (path[0] != '/' || strlen(path) >= OX_PATH_MAX)
        return 0;
    while (*at == '/') {
        const char *end;

        at++;
        end = strchrnul(at, '/');
        if (!is_component(at, (size_t)(end - at)))
            return 0;
        at = end;
    }
    return *at == '\0';
}

static int is_digest(const char *digest)
{
    return strspn(digest, "0123456789abcdef") == OX_DIGEST_SIZE && digest[OX_DIGEST_SIZE] == '\0';
}

union message {
    uint32_t kind;
    struct ox_wire_create create;
    struct ox_wire_destroy destroy;
    char bytes[sizeof(struct ox_wire_create) + OX_STRINGS_MAX];
};

static int unpack_create(union message *message, size_t size, const int *fds, size_t fds_count,
                         struct ox_cell_request *ret_request)
{
    const struct ox_wire_create *head = &message->create;
    char *at = message->bytes + sizeof(*head);
    char *end = message->bytes + size;

    if (size <= sizeof(*head) || end[-1] != '\0' || head->mounts_count > OX_MOUNTS_MAX ||
        fds_count != 1 + (size_t)head->mounts_count)
        return -EBADMSG;
    if ((head->features & ~(uint32_t)(OX_FEATURE_PROC | OX_FEATURE_DEV | OX_FEATURE_ETC)) != 0)
        return -EINVAL;
    if (head->digest[0] != '\0' && !is_digest(head->digest))
        return -EINVAL;

    ret_request->entry = at;
    if (strlen(at) >= OX_ENTRY_MAX || !is_component(at, strlen(at)))
        return -EINVAL;
    at += strlen(at) + 1;
    for (uint32_t i = 0; i < head->mounts_count; i++) {
        if (at >= end || !is_destination(at))
            return -EINVAL;
        ret_request->destinations[i] = at;
        ret_request->mounts[i] = fds[1 + i];
        at += strlen(at) + 1;
    }
    if (at != end)
        return -EBADMSG;
    ret_request->program = fds[0];
    ret_request->digest = head->digest[0] != '\0' ? head->digest : NULL;
    ret_request->features = head->features;
    ret_request->memory_bytes = head->memory_bytes;
    ret_request->processes = head->processes;
    ret_request->disk_bytes = head->disk_bytes;
    ret_request->mounts_count = head->mounts_count;
    return 0;
}

static struct ox_kept_cell *find_cell(struct launcher *launcher, uint32_t id)
{
    for (uint32_t i = 0; i < launcher->cells_max; i++) {
        if (launcher->cells[i].id == id)
            return &launcher->cells[i];
    }
    return NULL;
}

/* Cells whose warden has ended although nobody asked for it: a host that lost track of them. */
static void end_dead(struct launcher *launcher)
{
    for (uint32_t i = 0; i < launcher->cells_max; i++) {
        struct ox_kept_cell *cell = &launcher->cells[i];

        if (cell->id != 0 && ox_wait_readable(cell->pidfd, 0) == 0)
            (void)ox_kept_cell_end(&launcher->works, cell, 0);
    }
}

/* Cells whose processes took their time. Returns how many still do. */
static int end_dying(struct launcher *launcher)
{
    int left = 0;

    for (uint32_t i = 0; i < launcher->cells_max; i++) {
        struct ox_kept_cell *cell = &launcher->cells[i];

        if (cell->dying && ox_kept_cell_end(&launcher->works, cell, 0) < 0)
            left++;
    }
    return left;
}

/* The uid pairs of cells that are ending come back a moment later; a small range waits for them. */
static int make_cell(struct launcher *launcher, const struct ox_cell_request *request,
                     struct ox_kept_cell *cell, struct ox_cell_parts *ret_parts,
                     struct ox_error *ret_error)
{
    int64_t until = ox_now_ns() + (int64_t)PAIR_MS * 1000000;

    for (;;) {
        int dying = end_dying(launcher);
        int r = ox_kept_cell_make(&launcher->works, request, cell, ret_parts, ret_error);

        if (r != -EAGAIN || ret_error->stage != OX_STAGE_UID_PAIR || ox_now_ns() >= until)
            return r;
        if (dying == 0) {
            end_dead(launcher);
            return ox_kept_cell_make(&launcher->works, request, cell, ret_parts, ret_error);
        }
        (void)poll(NULL, 0, 1);
    }
}

static int create(struct launcher *launcher, union message *message, size_t size, const int *fds,
                  size_t fds_count)
{
    static struct ox_cell_request request;
    struct ox_wire_create_reply reply = { .kind = OX_MESSAGE_CREATE,
                                          .sequence = message->create.sequence };
    struct ox_kept_cell *cell = find_cell(launcher, 0);
    struct ox_cell_parts parts = { -1, -1 };
    int given[7], r;
    size_t given_count = 0;

    if (cell == NULL) {
        end_dead(launcher);
        cell = find_cell(launcher, 0);
    }
    r = cell == NULL ? -EBUSY : unpack_create(message, size, fds, fds_count, &request);
    if (r < 0)
        reply.error = (struct ox_error){ OX_STAGE_REQUEST, -r };
    else
        r = make_cell(launcher, &request, cell, &parts, &reply.error);
    if (r == 0) {
        reply.id = cell->id;
        reply.has_peak = cell->cgroup.peak_fd >= 0;
        given[given_count++] = parts.warden;
        given[given_count++] = cell->pidfd;
        given[given_count++] = parts.writable;
        given[given_count++] = cell->cgroup.cpu_fd;
        given[given_count++] = cell->cgroup.oom_fd;
        given[given_count++] = cell->cgroup.usage_fd;
        if (reply.has_peak)
            given[given_count++] = cell->cgroup.peak_fd;
    }
    r = ox_send(launcher->socket, &reply, sizeof(reply), NULL, 0, given, given_count);
    ox_close(&parts.warden);
    ox_close(&parts.writable);
    return r;
}

static int destroy(struct launcher *launcher, const union message *message, size_t size)
{
    struct ox_wire_destroy_reply reply = { .kind = OX_MESSAGE_DESTROY,
                                           .sequence = message->destroy.sequence };
    struct ox_kept_cell *cell = NULL;
    int r;

    if (size == sizeof(message->destroy) && message->destroy.id != 0)
        cell = find_cell(launcher, message->destroy.id);
    /* Killed now, buried by the loop: the host sees the end through its own pidfd, and neither it nor
     * the next request waits for the kernel to take apart what a plugin has built. */
    r = cell == NULL ? -ENOENT : ox_kill(cell->pidfd);
    if (cell != NULL)
        cell->dying = 1;
    reply.errnum = -r;
    return ox_send(launcher->socket, &reply, sizeof(reply), NULL, 0, NULL, 0);
}

/* A negative result ends the launcher: the host has gone, or speaks another language. */
static int answer(struct launcher *launcher)
{
    static union message message;
    int fds[OX_FDS_MAX];
    size_t fds_count;
    ssize_t size =
        ox_receive(launcher->socket, &message, sizeof(message), fds, OX_FDS_MAX, &fds_count);
    int r;

    if (size == 0)
        return -EPIPE;
    if (size < (ssize_t)sizeof(struct ox_wire_destroy))
        r = size < 0 ? (int)size : -EBADMSG;
    else if (message.kind == OX_MESSAGE_CREATE && (size_t)size >= sizeof(struct ox_wire_create))
        r = create(launcher, &message, (size_t)size, fds, fds_count);
    else if (message.kind == OX_MESSAGE_DESTROY)
        r = destroy(launcher, &message, (size_t)size);
    else
        r = -EBADMSG;
    for (size_t i = 0; i < fds_count; i++)
        ox_close(&fds[i]);
    return r;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void serve(struct launcher *launcher)
{
    for (;;) {
        struct pollfd events[2] = {
            { .fd = launcher->socket, .events = POLLIN },
            { .fd = launcher->host, .events = POLLIN },
        };
        int pending = (int)ox_cgroup_retry(&launcher->works.cgroups) + end_dying(launcher);

        if (poll(events, 2, pending > 0 ? BURY_MS : -1) < 0 && errno != EINTR)
            return;
        /* The host first: a socket alone stays open in a forked child of a dead host. */
        if (events[1].revents != 0)
            return;
        if ((events[0].revents & POLLIN) != 0) {
            if (answer(launcher) < 0)
                return;
        } else if (events[0].revents != 0) {
            return;
        }
    }
}

static void end_cells(struct launcher *launcher)
{
    int64_t deadline = ox_now_ns() + (int64_t)LAST_MS * 1000000;

    /* All the kills before the first wait. */
    for (uint32_t i = 0; i < launcher->cells_max; i++) {
        if (launcher->cells[i].id != 0)
            (void)ox_kill(launcher->cells[i].pidfd);
    }
    for (uint32_t i = 0; i < launcher->cells_max; i++) {
        if (launcher->cells[i].id != 0)
            (void)ox_kept_cell_end(&launcher->works, &launcher->cells[i], ox_until_ms(deadline));
    }
}

int ox_launcher_main(int socket, int host)
{
    static struct launcher launcher;
    int r;

    launcher.socket = socket;
    launcher.host = host;
    launcher.works.ids.lock = -1;
    launcher.works.store.directory = launcher.works.store.space = -1;

    r = greet(&launcher, keep_descriptors());
    if (r == 0) {
        serve(&launcher);
        end_cells(&launcher);
        ox_cgroup_base_close(&launcher.works.cgroups);
    }
    ox_store_close(&launcher.works.store);
    ox_ids_close(&launcher.works.ids);
    free(launcher.cells);
    return r < 0 ? 1 : 0;
}
