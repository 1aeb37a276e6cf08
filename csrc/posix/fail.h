/* How a step says where it failed. */
#ifndef OX_FAIL_H
#define OX_FAIL_H

#include "../core.h"

/* Note stage and errno of r, a negative errno, and return r. */
static inline int ox_fail(int stage, int r, struct ox_error *ret_error)
{
    ret_error->stage = stage;
    ret_error->errnum = -r;
    return r;
}

/* Say it for people: what stands in the way, with the text of r, and what helps. Returns r. */
int ox_refuse(struct ox_problem *ret_problem, int stage, int r, const char *cause,
              const char *remedy);

#endif
