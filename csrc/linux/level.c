/* The table of levels. */
#include "level.h"

static const struct ox_level_calls *const levels[OX_LEVEL_COUNT] = {
    [OX_LEVEL_NAMESPACES] = &ox_level_namespaces,
    [OX_LEVEL_CHROOT] = &ox_level_chroot,
    [OX_LEVEL_LANDLOCK] = &ox_level_landlock,
};

const struct ox_level_calls *ox_level_find(uint32_t level)
{
    return level < OX_LEVEL_COUNT ? levels[level] : NULL;
}
