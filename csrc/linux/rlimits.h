/* Limits of processes that are the same for every run, and the bounds of the others. */
#ifndef OX_RLIMITS_H
#define OX_RLIMITS_H

#include "../wire.h"

/* Set what every run inherits; remember how far the rest may go. Before the first launch. */
int ox_rlimits_fix(void);

/* 1: RLIMIT_DATA stands in for a memory limit of the tree. */
int ox_rlimits_stands_in(void);

/* Before that, where a cgroup or an own uid is missing: the memory of each process (RLIMIT_DATA, as
 * runtimes reserve address space that they never use; -1: no bound), and that the warden counts as
 * one of the plugin's processes. counts_strangers: RLIMIT_NPROC would count what others do with that
 * uid, and a cgroup holds the number of processes, so it is left alone. */
void ox_rlimits_stand_in(int64_t memory_bytes, int shares_uid, int counts_strangers);

/* A hard limit that the machine's owner has set lower stays: what a request names are upper
 * bounds. */
void ox_rlimits_clamp(struct ox_wire_rlimit *rlimits, uint32_t count);

#endif
