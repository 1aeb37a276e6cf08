/* The warden: pid 1 of a cell. It launches, kills and reaps; it holds nothing else. */
#ifndef OX_WARDEN_H
#define OX_WARDEN_H

#include "../core.h"

/* Give up every right that launching does not need, load the filter, keep only the socket.
 * ret_listener is for the launcher: see ox_seccomp_load_noted(). */
int ox_warden_confine(int socket, int oom_score, int *ret_socket, int *ret_oom_score,
                      int *ret_signals, int *ret_listener, struct ox_error *ret_error);

/* Answer launch requests until the socket closes. */
void ox_warden_serve(int socket, int oom_score, int signals) __attribute__((noreturn));

#endif
