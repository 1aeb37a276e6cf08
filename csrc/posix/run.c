/* A run under way: output, input, deadline, CPU watch, end. One object, one thread at a time; only
 * ox_run_cancel may come from elsewhere. */
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../wire.h"
#include "counters.h"
#include "fd.h"
#include "sigpipe.h"
#include "spin.h"
#include "system.h"

/* From asking the warden to killing the cell: a warden that was stopped, throttled or is blind
 * in vfork. */
#define GRACE_NS (150 * OX_MS)
/* From killing the cell to giving up on the kernel. */
#define GIVE_UP_NS (500 * OX_MS)
/* The CPU clock of a cgroup moves with the scheduler's tick: looking more often than this shows
 * nothing new. */
#define CPU_LOOK_MIN_NS (4 * OX_MS)
/* One pass of the loop reads no more than this from each stream, so that a flood cannot keep it
 * from the clock. */
#define PASS_BYTES (256 * 1024)
#define READ_BYTES (64 * 1024)

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

    if (run->cpu < 0 || ox_cgroup_read_cpu_ns(run->cpu, &now) < 0 || now < run->cpu_before)
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

void ox_run_write_input(struct ox_run *run)
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

static void stop_spinning(struct ox_run *run, int found)
{
    ox_spin_end(run->spin_until, found);
    run->spin_until = 0;
}

static void finish(struct ox_run *run)
{
    struct ox_outcome *outcome = &run->outcome;
    uint64_t kills = 0, peak = 0;

    stop_spinning(run, 1);
    run->ended = 1;
    outcome->wall_ns = ox_now_ns() - run->begun;
    outcome->cpu_ns = cpu_used(run);
    if (run->oom >= 0 && ox_cgroup_read_oom_kills(run->oom, &kills) == 0 &&
        kills >= run->oom_before)
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
        run->outcome.file = report.file;
        run->outcome.status = report.status;
        run->outcome.strays = report.strays;
        run->outcome.process_peak_bytes = (int64_t)report.peak_kib * 1024;
        run->outcome.emptied = 1;
        run->outcome.apart = report.processor >= 0 && report.processor != run->processor;
    } else {
        /* End of file: the warden is dead, and with pid 1 everybody in its namespace. */
        run->outcome.lost = 1;
    }
    finish(run);
    return 0;
}

void ox_run_poll_set(const struct ox_run *run, struct pollfd *ret_events)
{
    ret_events[OX_RUN_SOCKET] = (struct pollfd){ .fd = run->socket, .events = POLLIN };
    ret_events[OX_RUN_WAKE] =
        (struct pollfd){ .fd = run->asked ? -1 : run->wake, .events = POLLIN };
    ret_events[OX_RUN_INPUT] = (struct pollfd){ .fd = run->input, .events = POLLOUT };
    for (int i = 0; i < 2; i++) {
        const struct ox_pump *pump = &run->outputs[i];
        int pending = ox_pump_pending(pump);

        ret_events[OX_RUN_OUTPUT + i] =
            (struct pollfd){ .fd = pending ? -1 : pump->source, .events = POLLIN };
        ret_events[OX_RUN_SINK + i] =
            (struct pollfd){ .fd = pending ? pump->sink : -1, .events = POLLOUT };
    }
}

int64_t ox_run_next_ns(const struct ox_run *run)
{
    int64_t next = run->kill_at;

    if (!run->asked && run->deadline < next)
        next = run->deadline;
    if (!run->asked && run->cpu_look < next)
        next = run->cpu_look;
    return next;
}

static void pump(struct ox_run *run, const struct pollfd *events)
{
    if (events[OX_RUN_INPUT].revents != 0)
        ox_run_write_input(run);
    for (int i = 0; i < 2; i++) {
        struct ox_pump *output = &run->outputs[i];

        if (events[OX_RUN_SINK + i].revents != 0)
            ox_pump_write(output, &run->budget);
        if (events[OX_RUN_OUTPUT + i].revents == 0)
            continue;
        if (output->mode == OX_STREAM_COPY) {
            if (ox_pump_read(output, &run->budget, 16 * 1024) < 0)
                ox_close(&output->source);
            continue;
        }
        for (int done = 0; done < PASS_BYTES && output->source >= 0; done += READ_BYTES) {
            uint64_t before = output->total;

            if (ox_pump_read(output, &run->budget, READ_BYTES) < 0)
                ox_close(&output->source);
            if (output->total - before < READ_BYTES)
                break; /* it was empty then; if it no longer is, poll() says so */
        }
    }
}

int ox_run_advance(struct ox_run *run, const struct pollfd *events)
{
    if (events[OX_RUN_WAKE].revents != 0)
        ox_run_cancel(run);
    if (events[OX_RUN_SOCKET].revents != 0 && read_report(run) == 1 && run->confirm)
        return OX_STARTED;
    if (run->ended)
        return OX_ENDED;
    pump(run, events);
    check_limits(run, ox_now_ns());
    if (!run->ended)
        return OX_RUNNING;
    finish(run);
    return OX_ENDED;
}

/* poll(), but at first without sleeping. */
static int wait_for_news(struct ox_run *run, struct pollfd *events, int timeout_ms)
{
    int n = 0;

    while (n == 0 && ox_now_ns() < run->spin_until)
        n = poll(events, OX_RUN_EVENTS, 0);
    if (n != 0)
        return n;
    stop_spinning(run, 0);
    return poll(events, OX_RUN_EVENTS, timeout_ms);
}

static int watch(struct ox_run *run, int slice_ms)
{
    int64_t until = slice_ms < 0 ? OX_NEVER : ox_now_ns() + (int64_t)slice_ms * OX_MS;
    int r = OX_RUNNING;

    if (__atomic_load_n(&run->cancelled, __ATOMIC_ACQUIRE))
        check_limits(run, ox_now_ns());
    while (!run->ended) {
        struct pollfd events[OX_RUN_EVENTS];
        int64_t next = ox_run_next_ns(run);

        if (until < next)
            next = until;
        ox_run_poll_set(run, events);
        if (wait_for_news(run, events, next == OX_NEVER ? -1 : ox_until_ms(next)) < 0)
            return errno == EINTR ? OX_RUNNING : -errno;
        r = ox_run_advance(run, events);
        if (r != OX_RUNNING)
            return r;
        if (ox_now_ns() >= until)
            return OX_RUNNING;
    }
    return OX_ENDED;
}

int ox_run_step(struct ox_run *run, int slice_ms)
{
    sigset_t before;
    int was_pending, r;

    if (!run->writes)
        return watch(run, slice_ms);
    ox_sigpipe_hold(&before, &was_pending);
    r = watch(run, slice_ms);
    ox_sigpipe_release(&before, was_pending);
    return r;
}
