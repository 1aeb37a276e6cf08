/* Limits of processes that are the same for every run, and the bounds of the others. */
#ifndef OX_RLIMITS_H
#define OX_RLIMITS_H

#include "../wire.h"

/* Set what every run inherits; remember how far the rest may go. Before the first launch. */
int ox_rlimits_fix(void);

/* A hard limit that the machine's owner has set lower stays: what a request names are upper
 * bounds. */
void ox_rlimits_clamp(struct ox_wire_rlimit *rlimits, uint32_t count);

#endif
