/* The warden: pid 1 of a cell. It launches, kills and reaps; it holds nothing else. */
#ifndef OX_WARDEN_H
#define OX_WARDEN_H

#include "../core.h"

struct ox_watch;

/* A filter for each program that it launches, besides its own; count 0: none. */
void ox_warden_take_filter(const struct ox_instruction *code, uint32_t count);

/* Give up every right that launching does not need, load the filter, keep only the socket. */
int ox_warden_confine(int socket, int oom_score, int *ret_socket, int *ret_oom_score,
                      int *ret_signals, struct ox_watch *watch, struct ox_error *ret_error);

/* Answer launch requests until the socket closes. */
void ox_warden_serve(int socket, int oom_score, int signals) __attribute__((noreturn));

#endif
