/* What the levels without namespaces refuse beside the default filter. */
#ifndef OX_PLAIN_FILTER_H
#define OX_PLAIN_FILTER_H

#include "../core.h"

/* Without a network namespace: no socket but those of socketpair(). With a uid that has files outside
 * as well (shared_uid): no change of owner, mode, times and attributes, which Landlock does not
 * know. The caller has set no_new_privs. -EBADE: as ox_seccomp_load(). */
int ox_plain_filter_load(int shared_uid);

#endif
