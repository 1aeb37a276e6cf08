/* What every C file of the core includes: the interface, once, with the types it needs. */
#ifndef OX_CORE_H
#define OX_CORE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* The version of the package; a test holds it against pyproject.toml. */
#define OX_VERSION "0.1.0"

#endif
