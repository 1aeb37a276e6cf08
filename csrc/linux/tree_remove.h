/* Removing what programs that nobody trusts have left in a directory. */
#ifndef OX_TREE_REMOVE_H
#define OX_TREE_REMOVE_H

#include "../core.h"

/* Remove everything in the directory that is open for reading, and nothing else: no link is
 * followed, no other file system entered. Stack and descriptors do not grow with the depth. 0: it is
 * empty; 1: the deadline came first, call again; a negative errno: something cannot be removed, all
 * the rest is. -EXDEV, -EBUSY: something is mounted there. */
int ox_tree_empty(int directory, int64_t deadline_ns);

#endif
