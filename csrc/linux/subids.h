/* Ids that the administrator has given to a user: subuid(5), subgid(5). */
#ifndef OX_SUBIDS_H
#define OX_SUBIDS_H

#include "../core.h"

#define OX_NEWUIDMAP "/usr/bin/newuidmap"
#define OX_NEWGIDMAP "/usr/bin/newgidmap"

/* The widest range of ids that the user has both as uids and as gids. 0: there is none. */
uint32_t ox_subids_find(uint32_t uid, uint32_t *ret_base);

#endif
