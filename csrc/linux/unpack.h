/* What a request for a cell may say. */
#ifndef OX_UNPACK_H
#define OX_UNPACK_H

#include "../core.h"
#include "../wire.h"
#include "cell.h"

union ox_request {
    uint32_t kind;
    struct ox_wire_create create;
    struct ox_wire_destroy destroy;
    char bytes[sizeof(struct ox_wire_create) + OX_STRINGS_MAX];
};

/* Check a message of kind OX_MESSAGE_CREATE, of size bytes with at least the head, and point
 * ret_request into it. */
int ox_unpack_create(const union ox_request *message, size_t size, const int *fds, size_t fds_count,
                     struct ox_cell_request *ret_request);

#endif
