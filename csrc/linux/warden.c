/* The warden: pid 1 of a cell. No allocation, no file is opened, no path comes from a request
 * but those that the launched process itself uses behind chroot, as nobody. */
#include "warden.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../posix/system.h"
#include "../posix/steps.h"
#include "../wire.h"
#include "files.h"
#include "filter.h"
#include "ground.h"
#include "missing.h"
#include "plain_paths.h"
#include "rlimits.h"

/* How long processes that have been killed may take to end. */
#define END_ALL_MS 2000

struct request {
    struct ox_wire_launch head;
    char strings[OX_STRINGS_MAX];
};

static struct request request;
static char *pointers[OX_POINTERS_MAX + 2];
static struct ox_error report;
/* Of the files that were put in for the launch to come. */
static struct ox_error put;
static uint32_t put_file;
static struct ox_filter filter;
static char child_stack[64 * 1024] __attribute__((aligned(64)));

void ox_warden_take_filter(const struct ox_instruction *code, uint32_t count)
{
    ox_filter_take(code, count, &filter);
}

/* With the uid of others it would count theirs. */
static void lift_process_limit(void)
{
    for (uint32_t i = 0; i < request.head.rlimits_count; i++) {
        if (request.head.rlimits[i].resource == RLIMIT_NPROC)
            request.head.rlimits[i] = (struct ox_wire_rlimit){ .resource = RLIMIT_NPROC,
                                                               .soft = RLIM_INFINITY,
                                                               .hard = RLIM_INFINITY };
    }
}

/* Split the strings: path, cwd, arguments, environment. -EBADMSG when they do not add up. */
static int unpack(size_t size, struct ox_step_plan *ret_plan)
{
    const struct ox_wire_launch *head = &request.head;
    char *at = request.strings;
    char *end;
    uint32_t wanted, found = 0;
    char **out = pointers;

    if (size < sizeof(*head) || head->kind != OX_MESSAGE_LAUNCH)
        return -EBADMSG;
    end = request.strings + (size - sizeof(*head));
    if (head->argc < 1 || head->argc > OX_POINTERS_MAX ||
        head->envc > OX_POINTERS_MAX - head->argc || head->rlimits_count > OX_RLIMITS_MAX ||
        end == at || end[-1] != '\0')
        return -EBADMSG;

    wanted = 2 + head->argc + head->envc;
    while (at < end && found < wanted) {
        if (found == 0)
            ret_plan->path = at;
        else if (found == 1)
            ret_plan->cwd = at;
        else
            *out++ = at;
        found++;
        if (found == 2 + head->argc)
            *out++ = NULL;
        at += strlen(at) + 1;
    }
    *out = NULL;
    if (found != wanted || at != end)
        return -EBADMSG;
    ret_plan->argv = pointers;
    ret_plan->envp = pointers + head->argc + 1;
    if (ox_ground->prefix != NULL &&
        ox_paths_prefix(ox_ground->prefix, ox_ground->program, ret_plan, pointers) < 0)
        return -ENAMETOOLONG;
    if (ox_ground->own_ids)
        lift_process_limit();
    ox_rlimits_clamp(request.head.rlimits, head->rlimits_count);
    ret_plan->rlimits = head->rlimits;
    ret_plan->rlimits_count = head->rlimits_count;
    return 0;
}

static int child_main(void *plan)
{
    ox_steps_run(plan);
}

static int set_oom_score(int fd, const char *value)
{
    return pwrite(fd, value, strlen(value), 0) < 0 ? -errno : 0;
}

/* Start the program. The kernel chooses the child first when the cell runs out of memory: it is
 * cloned while the score is high, and takes that score with it. */
static pid_t launch(const struct ox_step_plan *plan, int oom_score, struct ox_error *ret_error)
{
    int r = set_oom_score(oom_score, "1000");
    pid_t pid;

    if (r < 0)
        return ox_fail(OX_STAGE_OOM_SCORE, r, ret_error);

    r = plan->filter != NULL ? ox_filter_renew(&filter) : 0;
    if (r < 0)
        return ox_fail(OX_STAGE_FILTER, r, ret_error);
    report = (struct ox_error){ OX_STAGE_NONE, 0 };
    pid = clone(child_main, child_stack + sizeof(child_stack), CLONE_VM | CLONE_VFORK | SIGCHLD,
                (void *)plan);
    r = pid < 0 ? -errno : 0;

    /* Back to where it was: allowed without a capability, as it is not below what was set for us. A
     * warden that cannot would be killed before its plugins; the program may be running, so this
     * is a lost run and no failed launch. */
    if (set_oom_score(oom_score, ox_ground_calm_score()) < 0)
        _exit(1);
    if (r < 0)
        return ox_fail(OX_STAGE_FORK, r, ret_error);
    if (report.stage == OX_STAGE_EXEC && report.errnum == 0)
        return pid;
    /* Without an errno it was killed on the way, for lack of memory for instance. */
    *ret_error = (struct ox_error){ report.stage, report.errnum != 0 ? report.errnum : ECHILD };
    return pid;
}

struct tree {
    pid_t leader; /* 0 once reaped */
    int status;
    int strays;
    int empty;         /* the kernel said: no child left */
    uint32_t peak_kib; /* the most that one of them had, where that is of interest */
};

/* Reap whatever has ended. */
static void reap(struct tree *tree)
{
    int counts = ox_rlimits_stands_in();

    for (;;) {
        struct rusage usage = { .ru_maxrss = 0 };
        int status;
        pid_t pid = wait4(-1, &status, WNOHANG | __WALL, counts ? &usage : NULL);

        if (pid == 0)
            return;
        if (pid < 0) {
            if (errno == EINTR)
                continue;
            /* ECHILD: everybody below pid 1 of a namespace is its child or below one that is. */
            tree->empty = 1;
            return;
        }
        if (usage.ru_maxrss > (long)tree->peak_kib)
            tree->peak_kib = (uint32_t)usage.ru_maxrss;
        if (pid == tree->leader) {
            tree->leader = 0;
            tree->status = status;
        } else if (tree->leader == 0) {
            tree->strays++;
        }
    }
}

/* 1: the parent has ended. */
static int drain_signals(int signals)
{
    struct signalfd_siginfo some[8];
    int orphaned = 0;
    ssize_t size;

    do {
        size = read(signals, some, sizeof(some));
        for (ssize_t i = 0; i < size / (ssize_t)sizeof(some[0]); i++)
            orphaned |= some[i].ssi_signo != SIGCHLD;
    } while (size == (ssize_t)sizeof(some));
    return orphaned;
}

/* The host or the launcher is gone. As pid 1 it is enough to end: the kernel ends the whole cell. */
static void leave(void) __attribute__((noreturn));

static void leave(void)
{
    if (!ox_ground_is_namespaces())
        (void)ox_warden_end_all();
    _exit(0);
}

int ox_warden_end_all(void)
{
    struct tree tree = { .leader = 0 };
    int64_t deadline = ox_now_ns() + (int64_t)END_ALL_MS * 1000000;

    while (!tree.empty && ox_now_ns() < deadline) {
        (void)ox_ground->kill_all(ox_ground);
        reap(&tree);
        if (!tree.empty)
            (void)poll(NULL, 0, 1);
    }
    return tree.empty;
}

/* Wait for the leader, then for the rest of its tree, which is killed. Never blocks in wait():
 * the host may ask for the kill at any time. The host holds the deadline; here every poll has
 * one of its own, so that a missed signal costs milliseconds. */
static void supervise(int socket, int signals, struct tree *tree)
{
    for (;;) {
        struct pollfd events[2] = {
            { .fd = signals, .events = POLLIN },
            { .fd = socket, .events = POLLIN },
        };

        reap(tree);
        if (tree->empty)
            return;
        if (tree->leader == 0)
            (void)ox_ground->kill_all(ox_ground);

        (void)poll(events, 2, tree->leader == 0 ? 2 : 1000);
        if ((events[0].revents & POLLIN) != 0 && drain_signals(signals))
            leave();
        if ((events[1].revents & POLLIN) != 0) {
            uint32_t kind[4];
            int none[1];
            size_t count;
            ssize_t size = ox_receive(socket, kind, sizeof(kind), none, 0, &count);

            if (size <= 0)
                leave();
            if ((size_t)size >= sizeof(kind[0]) && kind[0] == OX_MESSAGE_KILL)
                (void)ox_ground->kill_all(ox_ground);
        } else if ((events[1].revents & (POLLHUP | POLLERR)) != 0) {
            leave();
        }
    }
}

static void serve_one(int socket, int oom_score, int signals, size_t size, int *fds,
                      size_t fds_count)
{
    struct ox_wire_report reply = { .kind = OX_MESSAGE_ENDED, .processor = ox_processor_now() };
    struct ox_step_plan plan = {
        .root = ox_ground->root,
        .uid = ox_ground->uid,
        .gid = ox_ground->uid,
        .own_ids = ox_ground->own_ids,
        .wall = ox_ground->wall,
        .report = &report,
        .fds = { -1, -1, -1, -1 },
    };
    struct tree tree = { 0 };
    size_t wanted = request.head.has_broker != 0 ? 4 : 3;
    int r = unpack(size, &plan);

    if (r == 0 && fds_count != wanted)
        r = -EBADMSG;
    if (r < 0) {
        (void)ox_fail(OX_STAGE_REQUEST, r, &reply.error);
        tree.empty = 1;
    } else if (put.stage != OX_STAGE_NONE) {
        reply.error = put;
        reply.file = put_file;
        tree.empty = 1;
    } else {
        memcpy(plan.fds, fds, sizeof(int) * fds_count);
        plan.filter = filter.count > 0 ? &filter : NULL;
        tree.leader = launch(&plan, oom_score, &reply.error);
        if (tree.leader < 0)
            tree.leader = 0;
        /* Whoever talks to the program through these is to see when it closes them. */
        ox_close(&fds[0]);
        ox_close_all(fds + 3, fds_count - 3);
    }
    if (reply.error.stage != OX_STAGE_NONE && tree.leader > 0)
        (void)kill(tree.leader, SIGKILL);
    if (reply.error.stage == OX_STAGE_NONE && request.head.confirm != 0) {
        struct ox_wire_report started = { .kind = OX_MESSAGE_STARTED };

        (void)ox_send(socket, &started, sizeof(started), NULL, 0, NULL, 0);
    }
    if (!tree.empty)
        supervise(socket, signals, &tree);
    reply.status = tree.status;
    reply.strays = tree.strays;
    reply.peak_kib = tree.peak_kib;
    if (ox_send(socket, &reply, sizeof(reply), NULL, 0, NULL, 0) < 0)
        _exit(0);
    /* Its outputs only now: the host would wake for the end of each pipe, and then for the reply. */
    ox_close_all(fds, fds_count);
}

/* --- files ------------------------------------------------------------------------------------ */

static int files_main(void *task)
{
    ox_files_work(task);
    _exit(0);
}

/* The warden is blind until it is done, as it is until a program has started: whoever waits for it
 * outside has the deadline. */
static void work_on_files(struct ox_files_task *task, unsigned long flags)
{
    pid_t pid;

    task->root = ox_ground->root;
    task->prefix = ox_ground->prefix;
    task->own_ids = ox_ground->own_ids;
    task->uid = task->gid = ox_ground->uid;
    /* Killed on the way, unless it says otherwise. */
    task->errnum = ECHILD;
    pid = clone(files_main, child_stack + sizeof(child_stack),
                (int)(CLONE_VM | CLONE_VFORK | SIGCHLD | flags), task);
    if (pid < 0) {
        task->errnum = errno;
        return;
    }
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
}

static void put_files(size_t size, int *fds, size_t fds_count)
{
    struct ox_files_task task = { .archive = fds_count == 1 ? fds[0] : -1 };

    if (size != sizeof(struct ox_wire_put) || fds_count != 1)
        task.errnum = EBADMSG;
    else
        work_on_files(&task, 0);
    ox_close_all(fds, fds_count);
    if (put.stage == OX_STAGE_NONE && task.errnum != 0) {
        put = (struct ox_error){ OX_STAGE_FILES, task.errnum };
        put_file = task.file;
    }
}

/* Only ever between two runs: while a program runs, supervise() hears nothing but a kill. Nobody is
 * there who could change a name after it was looked at. */
static void collect_files(int socket, size_t size)
{
    const struct ox_wire_collect *head = (const struct ox_wire_collect *)(const void *)&request;
    const char *names = (const char *)&request + sizeof(*head);
    struct ox_wire_collected reply = { .kind = OX_MESSAGE_COLLECTED };
    int fds[OX_COLLECT_MAX], given[OX_COLLECT_MAX];
    struct ox_files_task task = { .archive = -1, .names = names, .rows = reply.rows, .fds = fds };
    size_t given_count = 0;

    if (size > sizeof(*head) && head->count <= OX_COLLECT_MAX &&
        ox_files_are_names(names, size - sizeof(*head), head->count))
        reply.count = task.count = head->count;
    for (uint32_t i = 0; i < task.count; i++) {
        reply.rows[i].errnum = ECHILD;
        fds[i] = -1;
    }
    /* The descriptors that it opens are to be ours. */
    work_on_files(&task, CLONE_FILES);
    for (uint32_t i = 0; i < task.count; i++) {
        if (task.errnum != 0)
            reply.rows[i].errnum = task.errnum;
        if (fds[i] >= 0 && reply.rows[i].errnum == 0)
            given[given_count++] = fds[i];
    }
    if (ox_send(socket, &reply, sizeof(reply), NULL, 0, given, given_count) < 0)
        leave();
    ox_close_all(fds, task.count);
}

void ox_warden_keep(int signals, int warden)
{
    for (;;) {
        struct pollfd events = { .fd = signals, .events = POLLIN };
        struct tree tree = { .leader = warden };

        (void)poll(&events, 1, -1);
        if (drain_signals(signals))
            break;
        reap(&tree);
        if (tree.leader == 0 || tree.empty)
            break;
    }
    _exit(ox_warden_end_all() ? 0 : 1);
}

static void wait_for_request(int socket, int signals)
{
    struct pollfd events[2] = {
        { .fd = signals, .events = POLLIN },
        { .fd = socket, .events = POLLIN },
    };

    while (events[1].revents == 0) {
        (void)poll(events, 2, -1);
        if ((events[0].revents & POLLIN) != 0 && drain_signals(signals))
            leave();
    }
}

void ox_warden_serve(int socket, int oom_score, int signals)
{
    for (;;) {
        int fds[8];
        size_t fds_count;
        ssize_t size;

        /* An idle warden has nothing to watch; the kernel wakes it for a request, for the end of
         * the host's side, or kills it with the launcher, unless that is for the warden to answer. */
        if (ox_ground->parent_death != SIGKILL)
            wait_for_request(socket, signals);
        size = ox_receive(socket, &request, sizeof(request), fds, 8, &fds_count);

        if (size == 0 || (size < 0 && size != -EMSGSIZE))
            leave();
        if (size < 0)
            size = 0;
        if ((size_t)size >= sizeof(uint32_t) && request.head.kind == OX_MESSAGE_KILL)
            continue; /* the run that it was meant for has ended by itself */
        if ((size_t)size >= sizeof(uint32_t) && request.head.kind == OX_MESSAGE_PUT) {
            put_files((size_t)size, fds, fds_count);
            continue;
        }
        if ((size_t)size >= sizeof(uint32_t) && request.head.kind == OX_MESSAGE_COLLECT) {
            ox_close_all(fds, fds_count);
            collect_files(socket, (size_t)size);
            continue;
        }
        serve_one(socket, oom_score, signals, (size_t)size, fds, fds_count);
        put = (struct ox_error){ OX_STAGE_NONE, 0 };
    }
}
