/* One run as the files of the host's side share it. */
#ifndef OX_RUN_H
#define OX_RUN_H

#include "../core.h"

#include <poll.h>

#include "pump.h"

#define OX_MS INT64_C(1000000)
#define OX_NEVER INT64_MAX

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
    int writes;    /* to pipes: SIGPIPE is to be held back */
    int cancelled; /* atomic: set by ox_run_cancel */
    int asked;     /* the warden has been asked to kill */
    int killed;    /* the cell has been killed by pidfd */
    int ended;

    int64_t begun;
    int64_t deadline;
    int64_t cpu_limit;
    int64_t cpu_look;
    int64_t kill_at; /* next escalation */
    int64_t spin_until;
    int processor; /* of the caller when it asked */
    int64_t processors;
    uint64_t cpu_before;
    uint64_t oom_before;
    struct ox_outcome outcome;
};

/* What a run waits for, in this order; a descriptor of -1 is nothing to wait for. */
enum {
    OX_RUN_SOCKET,
    OX_RUN_WAKE,
    OX_RUN_INPUT,
    OX_RUN_OUTPUT,
    OX_RUN_SINK = OX_RUN_OUTPUT + 2,
    OX_RUN_EVENTS = OX_RUN_SINK + 2
};

void ox_run_poll_set(const struct ox_run *run, struct pollfd *ret_events);

/* Write of the input what the pipe takes now; close it after the last byte. SIGPIPE is held. */
void ox_run_write_input(struct ox_run *run);

/* When a limit is to be looked at next, OX_NEVER for none. */
int64_t ox_run_next_ns(const struct ox_run *run);

/* Deal with what poll() has said and with the clock. Returns enum ox_progress or a negative errno;
 * a limit does not end the run here but asks for its end. */
int ox_run_advance(struct ox_run *run, const struct pollfd *events);

#endif
