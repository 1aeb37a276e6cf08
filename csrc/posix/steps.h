/* What a launched process does between clone and exec, as a table whose order can be read and
 * tested. */
#ifndef OX_STEPS_H
#define OX_STEPS_H

#include "../core.h"
#include "../wire.h"

/* Everything is prepared by the parent: the child shares its memory and only calls the kernel. */
struct ox_step_plan {
    int fds[4]; /* become 0, 1, 2 and, unless -1, 3 */
    const struct ox_wire_rlimit *rlimits;
    uint32_t rlimits_count;
    const char *root; /* NULL: the one that we have */
    const char *cwd;
    uint32_t uid;
    uint32_t gid;
    int own_ids; /* keep those that we have */
    int wall;    /* what else is given up before exec, see ox_give_up(); -1: nothing */
    const char *path;
    char *const *argv;
    char *const *envp;
    const struct ox_filter *filter; /* NULL: none */
    /* Shared memory: the stage that was reached last, and its errno. Stage EXEC with errno 0 means
     * that exec took place. */
    struct ox_error *report;
};

/* Runs the steps and does not return: it becomes the program, or reports {stage, errno} and
 * exits. */
void ox_steps_run(const struct ox_step_plan *plan) __attribute__((noreturn));

#endif
