/* What the launcher of level namespaces draws on. */
#ifndef OX_NAMESPACES_H
#define OX_NAMESPACES_H

#include "../core.h"

struct ox_works;

int ox_namespaces_open(struct ox_works *works, const struct ox_config *config,
                       struct ox_problem *ret_problem);
void ox_namespaces_close(struct ox_works *works);

#endif
