/* After the end of a run: what a slow reader still waits for, what there is to tell. */
#include "run.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "fd.h"
#include "sigpipe.h"

int ox_run_flush(struct ox_run *run, int slice_ms)
{
    int64_t until = ox_now_ns() + (int64_t)(slice_ms < 0 ? 1000000 : slice_ms) * OX_MS;
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
    if (run == NULL)
        return;
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

void ox_run_release(struct ox_run **run)
{
    struct ox_run *held = *run;

    *run = NULL;
    ox_run_free(held);
}
