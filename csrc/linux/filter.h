/* A filter of a cell's own: put on each program right before its exec, on top of the one that all
 * cells have. The kernel takes the more restrictive answer of the two, so it can only narrow. */
#ifndef OX_FILTER_H
#define OX_FILTER_H

#include <linux/filter.h>

#include "../core.h"
#include "../wire.h"

#define OX_FILTER_PROLOGUE 17u

struct ox_filter {
    uint32_t count; /* the prologue included; 0: none */
    uint64_t pass[3];
    struct sock_filter code[OX_FILTER_PROLOGUE + OX_FILTER_MAX];
};

/* Copy a program that ox_filter_check() has accepted into a filter that is all zero; count 0: none. */
void ox_filter_take(const struct ox_instruction *code, uint32_t count,
                    struct ox_filter *ret_filter);

/* Choose a new pass for the next exec. 0 or a negative errno. */
int ox_filter_renew(struct ox_filter *filter);

#endif
