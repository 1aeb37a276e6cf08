/* What a cell without a mount namespace shows: files in a directory of its own, on disk. */
#ifndef OX_PLAIN_ROOT_H
#define OX_PLAIN_ROOT_H

#include "../core.h"
#include "cell.h"

/* Put into the directory the program (a copy, read-only), the writable places, which are owner's, and
 * with is_root all that the program needs beside it: libraries and interpreter as hard links where
 * nobody but root may change the file, else as copies; /dev and /etc. Returns a stage on failure. */
int ox_plain_root_fill(int directory, const struct ox_cell_request *request, int is_root,
                       uint32_t owner, struct ox_error *ret_error);

/* A wall (landlock.h) of just that: we are in the directory, and with is_root it is our root. With
 * version 0 of Landlock there is none, *ret_wall is -1 then. */
int ox_plain_root_wall(const struct ox_cell_request *request, int is_root, int *ret_wall,
                       struct ox_error *ret_error);

#endif
