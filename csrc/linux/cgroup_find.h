/* Where the controllers of cgroups are: in which hierarchy, mounted where, and the caller's own
 * place in it. */
#ifndef OX_CGROUP_FIND_H
#define OX_CGROUP_FIND_H

#include "../core.h"

#include <sys/types.h>

enum ox_controller {
    OX_CONTROLLER_MEMORY = 0,
    OX_CONTROLLER_PIDS,
    OX_CONTROLLER_CPU, /* CPU time: cpuacct, or cpu.stat, which version 2 always has */
    OX_CONTROLLERS_NEEDED,
    OX_CONTROLLER_RATE = OX_CONTROLLERS_NEEDED, /* of CPU time; few cells need it */
    OX_CONTROLLERS
};

#define OX_CGROUP_PATH 1024

struct ox_cgroup_problem;

struct ox_cgroup_place {
    int version;
    int mount;    /* the mounted root of the hierarchy */
    dev_t device; /* tells hierarchies apart */
    char
        path[OX_CGROUP_PATH]; /* the caller's own cgroup, below mount; "" or "/...", without ".." */
    char controllers[64]; /* of version 1: all that are in this hierarchy, as mount(8) has them */
};

/* Choose a hierarchy for each controller: version 1 where it is attached to one, else version 2.
 * The descriptors are of /proc/self/cgroup and /proc/self/mountinfo (proc(5), cgroups(7)). The
 * caller closes each mount. That of OX_CONTROLLER_RATE is -1 where there is none, and ret_problem
 * says why. */
int ox_cgroup_find(int cgroup, int mountinfo, struct ox_cgroup_place ret[OX_CONTROLLERS],
                   struct ox_cgroup_problem *ret_problem);

const char *ox_controller_name(int controller, int version);

#endif
