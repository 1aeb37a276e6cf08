/* The host's side of one run: request, output, input, deadline, CPU watch, end. One object, one
 * thread at a time; only ox_run_cancel may come from elsewhere. */
#include "../core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../wire.h"
#include "counters.h"
#include "fd.h"
#include "pump.h"
#include "request.h"
#include "sigpipe.h"
#include "system.h"

#define MS INT64_C(1000000)
#define NEVER INT64_MAX

/* From asking the warden to killing the cell: a warden that was stopped, throttled or is blind
 * in vfork. */
#define GRACE_NS (150 * MS)
/* From killing the cell to giving up on the kernel. */
#define GIVE_UP_NS (500 * MS)
/* The CPU clock of a cgroup moves with the scheduler's tick: looking more often than this shows
 * nothing new. */
#define CPU_LOOK_MIN_NS (4 * MS)
/* One pass of the loop reads no more than this from each stream, so that a flood cannot keep it
 * from the clock. */
#define PASS_BYTES (256 * 1024)

struct ox_run {
    int socket;
    int pidfd;
    int cpu;
    int oom;
    int peak;
    uint32_t runs_before;
    int peak_reset;

    struct ox_pump outputs[2];
    struct ox_budget budget;
    int input; /* our end of the program's stdin; -1 once closed */
    const char *input_bytes;
    uint64_t input_left;

    int wake;
    int confirm;
    int cancelled; /* atomic: set by ox_run_cancel */
    int asked;     /* the warden has been asked to kill */
    int killed;    /* the cell has been killed by pidfd */
    int ended;

    int64_t begun;
    int64_t deadline;
    int64_t cpu_limit;
    int64_t cpu_look;
    int64_t kill_at; /* next escalation */
    int64_t processors;
    uint64_t cpu_before;
    uint64_t oom_before;
    struct ox_outcome outcome;
};

/* --- starting --------------------------------------------------------------------------------- */

static int fail(int stage, int r, struct ox_error *ret_error)
{
    ret_error->stage = stage;
    ret_error->errnum = -r;
    return r;
}

/* A pipe belongs to whoever made it, mode 0600: the program, under another uid, could use it but not
 * open it by a name such as /dev/stdout. Who can reach the name has the descriptor already. */
#define OPEN_FOR_READING 0644
#define OPEN_FOR_WRITING 0622

static int make_pipe(int *ret_ours, int *ret_theirs, int ours_is_read)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ret_ours = ends[ours_is_read ? 0 : 1];
    *ret_theirs = ends[ours_is_read ? 1 : 0];
    if (fchmod(*ret_theirs, ours_is_read ? OPEN_FOR_WRITING : OPEN_FOR_READING) < 0)
        return -errno;
    return fcntl(*ret_ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* An empty stdin: a pipe without a writer. /dev/null would be the host's own inode in the program's
 * hands, with its times, its locks and whatever else an administrator has put behind the name. */
static int make_empty(int *ret_theirs)
{
    int ours = -1;
    int r = make_pipe(&ours, ret_theirs, 0);

    ox_close(&ours);
    return r;
}

static int open_streams(struct ox_run *run, const struct ox_run_spec *spec, int *theirs)
{
    int r = 0;

    switch (spec->streams[0].mode) {
    case OX_STREAM_CAPTURE:
        r = make_pipe(&run->input, &theirs[0], 0);
        run->input_bytes = spec->input;
        run->input_left = spec->input_size;
        break;
    case OX_STREAM_DIRECT:
        theirs[0] = fcntl(spec->streams[0].fd, F_DUPFD_CLOEXEC, 0);
        r = theirs[0] < 0 || fchmod(theirs[0], OPEN_FOR_READING) < 0 ? -errno : 0;
        break;
    default: r = make_empty(&theirs[0]); break;
    }
    for (int i = 1; i < 3 && r == 0; i++) {
        const struct ox_stream *stream = &spec->streams[i];
        struct ox_pump *pump = &run->outputs[i - 1];

        pump->mode = stream->mode;
        pump->sink = stream->fd;
        pump->escape = stream->escape;
        pump->exclusive = stream->exclusive;
        if (stream->mode == OX_STREAM_COPY)
            ox_pump_open_sink(pump);
        if (stream->mode == OX_STREAM_NULL)
            pump->broken =
                1; /* read, counted and dropped: a dead end would be SIGPIPE to the program */
        r = make_pipe(&pump->source, &theirs[i], 1);
    }
    return r;
}

int ox_run_start(const struct ox_cell *cell, const struct ox_run_spec *spec,
                 struct ox_run **ret_run, struct ox_error *ret_error)
{
    struct ox_run *run = calloc(1, sizeof(*run));
    int theirs[3] = { -1, -1, -1 };
    int stage = OX_STAGE_STREAMS, r;

    if (run == NULL)
        return fail(OX_STAGE_REQUEST, -ENOMEM, ret_error);
    run->socket = cell->warden;
    run->pidfd = cell->pidfd;
    run->cpu = cell->cpu;
    run->oom = cell->oom;
    run->peak = cell->peak;
    run->runs_before = cell->runs;
    run->input = run->outputs[0].source = run->outputs[1].source = -1;
    run->wake = spec->wake;
    run->confirm = spec->confirm;
    run->budget.left = spec->output_bytes;
    run->cpu_limit = spec->cpu_ns;
    run->processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (run->processors < 1)
        run->processors = 1;

    r = open_streams(run, spec, theirs);
    if (r < 0)
        goto out;

    stage = OX_STAGE_CGROUP;
    r = ox_cgroup_read_cpu_ns(run->cpu, &run->cpu_before);
    if (r == 0)
        r = ox_cgroup_read_oom_kills(run->oom, &run->oom_before);
    if (r < 0)
        goto out;
    run->peak_reset = run->peak >= 0 && ox_cgroup_reset_peak(run->peak) == 0;

    run->begun = ox_now_ns();
    run->deadline = spec->wall_ns < 0 ? NEVER : run->begun + spec->wall_ns;
    run->cpu_look = run->cpu_limit < 0 ? NEVER : run->begun + run->cpu_limit / run->processors;
    run->kill_at = NEVER;

    stage = OX_STAGE_REQUEST;
    r = ox_request_send(run->socket, spec, theirs);
    /* A dead warden: the cell was lost before this run began, nothing ran. */
    if (r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE)
        stage = OX_STAGE_WARDEN;
out:
    for (int i = 0; i < 3; i++)
        ox_close(&theirs[i]);
    if (r < 0) {
        ox_run_free(run);
        return fail(stage, r, ret_error);
    }
    *ret_run = run;
    return 0;
}

/* --- while it runs ---------------------------------------------------------------------------- */

void ox_run_cancel(struct ox_run *run)
{
    __atomic_store_n(&run->cancelled, 1, __ATOMIC_RELEASE);
}

/* The cause is noted before the kill is sent: nobody has to guess later who sent the SIGKILL. */
static void ask_kill(struct ox_run *run, int cause, int64_t now)
{
    uint32_t message[4] = { OX_MESSAGE_KILL, 0, 0, 0 };

    if (run->asked)
        return;
    run->asked = 1;
    run->outcome.cause = cause;
    run->kill_at = now + GRACE_NS;
    if (send(run->socket, message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        run->kill_at = now;
}

static int64_t cpu_used(const struct ox_run *run)
{
    uint64_t now;

    if (ox_cgroup_read_cpu_ns(run->cpu, &now) < 0 || now < run->cpu_before)
        return 0;
    return (int64_t)(now - run->cpu_before);
}

static void check_limits(struct ox_run *run, int64_t now)
{
    if (__atomic_load_n(&run->cancelled, __ATOMIC_ACQUIRE))
        ask_kill(run, OX_CAUSE_CANCELLED, now);
    if (now >= run->deadline)
        ask_kill(run, OX_CAUSE_TIMEOUT, now);
    if (!run->asked && now >= run->cpu_look) {
        int64_t left = run->cpu_limit - cpu_used(run);

        if (left <= 0) {
            ask_kill(run, OX_CAUSE_CPU, now);
        } else {
            left /= run->processors; /* the soonest moment at which it can be used up */
            run->cpu_look = now + (left < CPU_LOOK_MIN_NS ? CPU_LOOK_MIN_NS : left);
        }
    }
    if (now >= run->kill_at) {
        if (!run->killed) {
            run->killed = 1;
            (void)ox_kill(run->pidfd);
            run->kill_at = now + GIVE_UP_NS;
        } else {
            /* Not even SIGKILL ended it: a process hangs in the kernel. The cell is given up. */
            run->outcome.lost = 1;
            run->ended = 1;
        }
    }
}

static void write_input(struct ox_run *run)
{
    while (run->input >= 0 && run->input_left > 0) {
        size_t most = run->input_left > (1 << 20) ? 1 << 20 : (size_t)run->input_left;
        ssize_t n = write(run->input, run->input_bytes, most);

        if (n > 0) {
            run->input_bytes += n;
            run->input_left -= (uint64_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            break; /* the program does not want the rest */
        }
    }
    ox_close(&run->input);
}

static void finish(struct ox_run *run)
{
    struct ox_outcome *outcome = &run->outcome;
    uint64_t kills = 0, peak = 0;

    run->ended = 1;
    outcome->wall_ns = ox_now_ns() - run->begun;
    outcome->cpu_ns = cpu_used(run);
    if (ox_cgroup_read_oom_kills(run->oom, &kills) == 0 && kills >= run->oom_before)
        outcome->oom_kills = (int64_t)(kills - run->oom_before);
    outcome->peak_memory_bytes = -1;
    if (run->peak >= 0 && (run->peak_reset || run->runs_before == 0) &&
        ox_cgroup_read_peak(run->peak, &peak) == 0)
        outcome->peak_memory_bytes = (int64_t)peak;

    /* Every writer is dead, so this ends: at EAGAIN or at the end of the file, whoever held
     * what. */
    for (int i = 0; i < 2; i++) {
        (void)ox_pump_drain(&run->outputs[i], &run->budget);
        ox_close(&run->outputs[i].source);
    }
    ox_close(&run->input);
}

/* The warden has something to say: 1 for "started", else the run has ended. */
static int read_report(struct ox_run *run)
{
    struct ox_wire_report report;
    int none[1];
    size_t count;
    ssize_t size = ox_receive(run->socket, &report, sizeof(report), none, 0, &count);

    if (size == (ssize_t)sizeof(report) && report.kind == OX_MESSAGE_STARTED)
        return 1;
    if (size == (ssize_t)sizeof(report) && report.kind == OX_MESSAGE_ENDED) {
        run->outcome.error = report.error;
        run->outcome.status = report.status;
        run->outcome.strays = report.strays;
        run->outcome.emptied = 1;
    } else {
        /* End of file: the warden is dead, and with pid 1 everybody in its namespace. */
        run->outcome.lost = 1;
    }
    finish(run);
    return 0;
}

enum {
    AT_SOCKET,
    AT_WAKE,
    AT_INPUT,
    AT_OUTPUT,
    AT_SINK = AT_OUTPUT + 2,
    AT_COUNT = AT_SINK + 2
};

static void fill_poll(const struct ox_run *run, struct pollfd *events)
{
    events[AT_SOCKET] = (struct pollfd){ .fd = run->socket, .events = POLLIN };
    events[AT_WAKE] = (struct pollfd){ .fd = run->asked ? -1 : run->wake, .events = POLLIN };
    events[AT_INPUT] = (struct pollfd){ .fd = run->input, .events = POLLOUT };
    for (int i = 0; i < 2; i++) {
        const struct ox_pump *pump = &run->outputs[i];
        int pending = ox_pump_pending(pump);

        events[AT_OUTPUT + i] =
            (struct pollfd){ .fd = pending ? -1 : pump->source, .events = POLLIN };
        events[AT_SINK + i] = (struct pollfd){ .fd = pending ? pump->sink : -1, .events = POLLOUT };
    }
}

static void pump(struct ox_run *run, const struct pollfd *events)
{
    if (events[AT_INPUT].revents != 0)
        write_input(run);
    for (int i = 0; i < 2; i++) {
        struct ox_pump *output = &run->outputs[i];

        if (events[AT_SINK + i].revents != 0)
            ox_pump_write(output, &run->budget);
        if (events[AT_OUTPUT + i].revents == 0)
            continue;
        if (output->mode == OX_STREAM_COPY) {
            if (ox_pump_read(output, &run->budget, 16 * 1024) < 0)
                ox_close(&output->source);
            continue;
        }
        for (int done = 0; done < PASS_BYTES && output->source >= 0; done += 64 * 1024) {
            uint64_t before = output->total;

            if (ox_pump_read(output, &run->budget, 64 * 1024) < 0)
                ox_close(&output->source);
            if (output->total == before)
                break;
        }
    }
}

static int step(struct ox_run *run, int slice_ms)
{
    int64_t until = slice_ms < 0 ? NEVER : ox_now_ns() + (int64_t)slice_ms * MS;

    if (__atomic_load_n(&run->cancelled, __ATOMIC_ACQUIRE))
        check_limits(run, ox_now_ns());
    while (!run->ended) {
        struct pollfd events[AT_COUNT];
        int64_t next = until;
        int n;

        if (run->deadline < next && !run->asked)
            next = run->deadline;
        if (run->cpu_look < next && !run->asked)
            next = run->cpu_look;
        if (run->kill_at < next)
            next = run->kill_at;
        fill_poll(run, events);
        n = poll(events, AT_COUNT, next == NEVER ? -1 : ox_until_ms(next));
        if (n < 0)
            return errno == EINTR ? OX_RUNNING : -errno;
        if (events[AT_WAKE].revents != 0)
            ox_run_cancel(run);
        pump(run, events);
        if (events[AT_SOCKET].revents != 0 && read_report(run) == 1 && run->confirm)
            return OX_STARTED;
        if (!run->ended) {
            int64_t now = ox_now_ns();

            check_limits(run, now);
            if (run->ended)
                finish(run);
            else if (now >= until)
                return OX_RUNNING;
        }
    }
    return OX_ENDED;
}

int ox_run_step(struct ox_run *run, int slice_ms)
{
    sigset_t before;
    int was_pending, r;

    ox_sigpipe_hold(&before, &was_pending);
    r = step(run, slice_ms);
    ox_sigpipe_release(&before, was_pending);
    return r;
}

/* --- after the end ---------------------------------------------------------------------------- */

int ox_run_flush(struct ox_run *run, int slice_ms)
{
    int64_t until = ox_now_ns() + (int64_t)(slice_ms < 0 ? 1000000 : slice_ms) * MS;
    sigset_t before;
    int was_pending, r = 0;

    ox_sigpipe_hold(&before, &was_pending);
    for (;;) {
        struct pollfd events[2];
        int waiting = 0, n;

        for (int i = 0; i < 2; i++) {
            int pending = ox_pump_pending(&run->outputs[i]);

            events[i] =
                (struct pollfd){ .fd = pending ? run->outputs[i].sink : -1, .events = POLLOUT };
            waiting += pending;
        }
        if (waiting == 0) {
            r = 1;
            break;
        }
        n = poll(events, 2, ox_until_ms(until));
        if (n < 0)
            break; /* EINTR: let the host look at its signals */
        for (int i = 0; i < 2; i++) {
            if (events[i].revents != 0)
                ox_pump_write(&run->outputs[i], &run->budget);
        }
        if (n == 0 && ox_now_ns() >= until)
            break;
    }
    ox_sigpipe_release(&before, was_pending);
    return r;
}

void ox_run_abandon(struct ox_run *run)
{
    for (int i = 0; i < 2; i++) {
        if (ox_pump_pending(&run->outputs[i])) {
            run->outputs[i].broken = 1;
            run->budget.truncated = 1;
        }
    }
}

void ox_run_forget(struct ox_run *run)
{
    ox_close(&run->outputs[0].source);
    ox_close(&run->outputs[1].source);
    ox_close(&run->input);
}

void ox_run_outcome(const struct ox_run *run, struct ox_outcome *ret_outcome)
{
    *ret_outcome = run->outcome;
    ret_outcome->written[0] = run->outputs[0].total;
    ret_outcome->written[1] = run->outputs[1].total;
    ret_outcome->truncated = run->budget.truncated;
    ret_outcome->undelivered = run->budget.undelivered;
}

const char *ox_run_captured(const struct ox_run *run, int stream, uint64_t *ret_size)
{
    const struct ox_pump *output = &run->outputs[stream == 1 ? 0 : 1];

    *ret_size = output->mode == OX_STREAM_CAPTURE ? output->size : 0;
    return output->bytes;
}

void ox_run_free(struct ox_run *run)
{
    if (run == NULL)
        return;
    ox_run_forget(run);
    ox_pump_free(&run->outputs[0]);
    ox_pump_free(&run->outputs[1]);
    free(run);
}
