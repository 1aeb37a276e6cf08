/* Without a root of their own, programs are told where the places of their cell lie. */
#ifndef OX_PLAIN_PATHS_H
#define OX_PLAIN_PATHS_H

#include "../core.h"
#include "../posix/steps.h"

/* Put the prefix before cwd, before the path or the argument that is program ("/bin/<entry>"), and before
 * the places in the environment: HOME, PATH, TMPDIR, TMP, TEMP, OXGEN_WORKSPACE. strings are the
 * arguments, NULL, the environment, NULL. -ENAMETOOLONG: no room. For one launch at a time. */
int ox_paths_prefix(const char *prefix, const char *program, struct ox_step_plan *plan,
                    char **strings);

#endif
