/* SIGPIPE from a sink or from a program's stdin must not reach a host that has not ignored it. */
#ifndef OX_SIGPIPE_H
#define OX_SIGPIPE_H

#include <signal.h>

/* Block it in this thread. The outputs are for ox_sigpipe_release(). */
void ox_sigpipe_hold(sigset_t *ret_before, int *ret_pending);

/* Take back what was raised meanwhile, and restore the mask. */
void ox_sigpipe_release(const sigset_t *before, int was_pending);

#endif
