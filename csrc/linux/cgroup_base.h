/* What the files about the base share. */
#ifndef OX_CGROUP_BASE_H
#define OX_CGROUP_BASE_H

#include "../core.h"

struct ox_cgroup_base;
struct ox_cgroup_hierarchy;
struct ox_cgroup_place;
struct ox_cgroup_problem;

/* 1 when a file of version 2 names all these controllers (bits of enum ox_controller). */
int ox_cgroup_lists_controllers(int directory, const char *file, unsigned controllers);

/* Version 2: let children of directory have the controllers. -EBUSY: it holds processes; -ENOENT:
 * it has none to pass on. */
int ox_cgroup_enable_controllers(int directory, unsigned controllers);

/* Remove what dead launchers left in a directory. */
int ox_cgroup_sweep(int parent);

/* Make and lock a base in a directory, and take the directory over, on success only. -EAGAIN:
 * somebody else took it for a leftover; try again. */
int ox_cgroup_base_make(int directory, const char *name, struct ox_cgroup_hierarchy *hierarchy);

/* Find out whether the rate of CPU time can be bounded: base->rate. Nothing is made. Where it
 * cannot, ret_problem says why; it is said already where place->mount is -1. */
void ox_cgroup_rate_probe(struct ox_cgroup_base *base, const struct ox_cgroup_place *place,
                          struct ox_cgroup_problem *ret_problem);

#endif
