/* SIGPIPE, held back while a host's thread writes to pipes. */
#include "../core.h"

#include "sigpipe.h"

#include <errno.h>
#include <time.h>

void ox_sigpipe_hold(sigset_t *ret_before, int *ret_pending)
{
    sigset_t pipe_only, pending;

    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)sigpending(&pending);
    *ret_pending = sigismember(&pending, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, ret_before);
}

void ox_sigpipe_release(const sigset_t *before, int was_pending)
{
    static const struct timespec now = { 0, 0 };
    sigset_t pipe_only;

    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    if (!was_pending) {
        while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR)
            continue;
    }
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}
