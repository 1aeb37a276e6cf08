/* The second wall of a cell: what its mounts, their flags and the network namespace hold, Landlock
 * holds again, wherever the kernel has it. */
#ifndef OX_JAIL_WALL_H
#define OX_JAIL_WALL_H

#include "../core.h"
#include "jail.h"

/* Put the calling process, and with it everything that the cell will run, behind it. The jail has
 * been built, its root is where we are; writable is what ox_jail_build() returned. Silent where
 * there is no Landlock, or one that would get in the way of programs. Stage LANDLOCK on failure. */
int ox_jail_wall(const struct ox_jail_spec *spec, int writable, struct ox_error *ret_error);

/* The version of Landlock that it stands on; 0: there is none. */
int ox_jail_wall_version(void);

#endif
