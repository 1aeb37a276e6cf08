/* Levels: how the cells of one launcher are kept apart. A launcher has one for its life. */
#ifndef OX_LEVEL_H
#define OX_LEVEL_H

#include "../core.h"

struct ox_works;
struct ox_cell_request;
struct ox_kept_cell;

/* One row for each level, in a file of its own. The launcher's loop (serve.c) calls nothing else of
 * a level but ox_kept_cell_hear(), _note() and _hand_over(), which all share. */
struct ox_level_calls {
    /* Make what every cell draws on. Writes works->holds, works->weaker and, where there are no
     * cgroups, works->lacking. Fails, with ret_problem, only where no cell can be made at all.
     * works is OX_WORKS_NONE before; close() follows in any case. */
    int (*open)(struct ox_works *works, const struct ox_config *config,
                struct ox_problem *ret_problem);
    void (*close)(struct ox_works *works);

    /* Begin a cell in a free slot. It builds itself while the caller goes on; its socket says when
     * there is something to hear. On failure the slot is free again, or DYING if there is a process
     * to be buried. -EAGAIN of stage uid_pair: nothing was done, and the call may be repeated when
     * another cell has ended. */
    int (*begin)(struct ox_works *works, const struct ox_cell_request *request,
                 struct ox_kept_cell *cell, struct ox_error *ret_error);

    /* Kill what is in it. Waits for nothing. */
    void (*kill)(struct ox_works *works, struct ox_kept_cell *cell);

    /* Once its pidfd is readable no process is left: reap it and give everything back. -ETIMEDOUT:
     * not by wait_ms. */
    int (*bury)(struct ox_works *works, struct ox_kept_cell *cell, int wait_ms);
};

extern const struct ox_level_calls ox_level_namespaces;
/* plain.c */
extern const struct ox_level_calls ox_level_chroot;
extern const struct ox_level_calls ox_level_landlock;

/* NULL: this build has no such level. */
const struct ox_level_calls *ox_level_find(uint32_t level);

#endif
