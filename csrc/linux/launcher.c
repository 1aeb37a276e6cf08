/* The launcher as a process: what it starts from, and its end. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "../wire.h"
#include "missing.h"
#include "serve.h"

#define CELLS_MAX 8192u
#define HELLO_MS 10000
/* How long the launcher itself waits for its cells when it ends. */
#define LAST_MS 1500

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

    /* As SCHED_OTHER, but that it preempts nobody when it is woken (sched(7)). A host that has sent a
     * request goes to sleep before its warden runs on the same processor; else the processor looks
     * busy, and the kernel puts the program on another one, which has to be roused. */
    if (sched_setscheduler(0, SCHED_BATCH, &normal) < 0)
        return -errno;
    /* EACCES: it was made nicer, which an ordinary user cannot undo. Plugins are so too then. */
    if (setpriority(PRIO_PROCESS, 0, 0) < 0 && errno != EACCES)
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
        fcntl(OX_LAUNCHER_HOST, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(OX_LAUNCHER_SOCKET, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
        return -errno;
    if (chdir("/") < 0)
        return -errno;
    return ox_close_from(OX_LAUNCHER_HOST + 1);
}

static int prepare(struct ox_service *service, const struct ox_config *config,
                   struct ox_problem *problem)
{
    int r;

    r = reset_inherited();
    if (r < 0)
        return ox_refuse(
            problem, OX_STAGE_SCHEDULING, r, "the host's scheduling cannot be reset for plugins",
            "start the host without real-time class and raised nice value, or with CAP_SYS_NICE");
    service->works.level = ox_level_find(config->level);
    if (service->works.level == NULL)
        return ox_refuse(problem, OX_STAGE_LAUNCHER, -ENOTSUP, "this build has no such level",
                         "use level 'namespaces', or name none");
    r = service->works.level->open(&service->works, config, problem);
    if (r < 0)
        return r;
    if (config->cells_max < 1 || config->cells_max > CELLS_MAX)
        return ox_refuse(problem, OX_STAGE_REQUEST, -EINVAL, "the number of cells is out of range",
                         "ask for 1 to 8192 cells");
    if (ox_service_prepare(service, config->cells_max) < 0)
        return ox_refuse(problem, OX_STAGE_LAUNCHER, -ENOMEM, "no memory for the table of cells",
                         "");
    return 0;
}

/* kept: what keep_descriptors() said. */
static int greet(struct ox_service *service, int kept)
{
    struct ox_wire_hello hello;
    struct ox_wire_hello_reply reply = { .kind = OX_MESSAGE_HELLO, .version = OX_WIRE_VERSION };
    int none[1], r;
    size_t count;

    if (ox_wait_readable(service->socket, ox_now_ns() + (int64_t)HELLO_MS * 1000000) < 0)
        return -ETIMEDOUT;
    if (ox_receive(service->socket, &hello, sizeof(hello), none, 0, &count) !=
            (ssize_t)sizeof(hello) ||
        hello.kind != OX_MESSAGE_HELLO)
        return -EBADMSG;

    (void)snprintf(reply.build, sizeof(reply.build), "%s", ox_build());
    if (hello.version != OX_WIRE_VERSION)
        r = -EPROTO;
    else if (kept == -ENOSYS)
        r = ox_refuse(&reply.problem, OX_STAGE_LAUNCHER, kept, "this kernel has no close_range",
                      "use Linux 5.10 or later, or a container profile that allows it");
    else if (kept < 0)
        r = ox_refuse(&reply.problem, OX_STAGE_LAUNCHER, kept, "/dev/null cannot be opened",
                      "restore the device: mknod -m 666 /dev/null c 1 3");
    else
        r = prepare(service, &hello.config, &reply.problem);
    /* Where the numbers of cells begin: one of a launcher before us means nothing here. */
    if (getrandom(&service->works.next_id, sizeof(service->works.next_id), 0) < 0)
        service->works.next_id = (uint32_t)getpid() << 8;
    service->works.next_id &= 0x3fffffff;
    if (r == -EPROTO)
        (void)ox_refuse(&reply.problem, OX_STAGE_HANDSHAKE, r,
                        "the launcher is of another build than the extension",
                        "install oxgen anew, so that both come from one build");
    reply.memory_version = service->works.cgroups.memory_version;
    reply.level = hello.config.level;
    reply.holds = service->works.holds;
    reply.weaker = service->works.weaker;
    reply.lacking = service->works.lacking;
    reply.lacking_rate = service->works.lacking_rate;
    if (ox_send(service->socket, &reply, sizeof(reply), NULL, 0, NULL, 0) < 0)
        return -EPIPE;
    return r;
}

int ox_launcher_main(int socket, int host)
{
    static struct ox_service service;
    int r;

    service.socket = socket;
    service.host = host;
    service.works = (struct ox_works)OX_WORKS_NONE;

    r = greet(&service, keep_descriptors());
    if (r == 0) {
        ox_serve(&service);
        ox_service_end(&service, LAST_MS);
        ox_cgroup_base_close(&service.works.cgroups);
    }
    if (service.works.level != NULL)
        service.works.level->close(&service.works);
    ox_service_free(&service);
    return r < 0 ? 1 : 0;
}
