/* What is read back from a cell after a run: asking its warden for descriptors. */
#include "../core.h"

#include <errno.h>
#include <string.h>

#include "../wire.h"
#include "fd.h"

_Static_assert(OX_COLLECT_MAX == sizeof(((struct ox_collection *)0)->files) /
                                     sizeof(((struct ox_collection *)0)->files[0]),
               "api.h and wire.h agree");

/* Descriptors that do not fit the rows are nobody's. */
static int adopt(const struct ox_wire_collected *reply, uint32_t count, int *fds, size_t fds_count,
                 struct ox_collection *ret_collection)
{
    size_t used = 0;

    if (reply->kind != OX_MESSAGE_COLLECTED || reply->count != count)
        return -EPROTO;
    for (uint32_t i = 0; i < count; i++)
        used += reply->rows[i].errnum == 0;
    if (used != fds_count)
        return -EPROTO;
    used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct ox_wire_collected_row *row = &reply->rows[i];

        ret_collection->files[i] = (struct ox_collected){
            .fd = row->errnum == 0 ? fds[used++] : -1,
            .errnum = row->errnum,
            .mode = row->mode,
        };
    }
    ret_collection->count = count;
    return 0;
}

int ox_cell_collect(const struct ox_cell *cell, const char *names, uint32_t names_size,
                    uint32_t count, int wait_ms, struct ox_collection *ret_collection)
{
    struct ox_wire_collect head = { .kind = OX_MESSAGE_COLLECT, .count = count };
    struct ox_wire_collected reply;
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    int fds[OX_COLLECT_MAX];
    size_t fds_count;
    ssize_t size;
    int r;

    if (count > OX_COLLECT_MAX || names_size > OX_STRINGS_MAX)
        return -E2BIG;
    r = ox_send(cell->warden, &head, sizeof(head), names, names_size, NULL, 0);
    if (r == 0)
        r = ox_wait_readable(cell->warden, deadline);
    if (r < 0)
        return r;
    size = ox_receive(cell->warden, &reply, sizeof(reply), fds, OX_COLLECT_MAX, &fds_count);
    if (size <= 0)
        return size < 0 ? (int)size : -EPIPE;
    r = size == (ssize_t)sizeof(reply) ? adopt(&reply, count, fds, fds_count, ret_collection)
                                       : -EPROTO;
    if (r < 0)
        ox_close_all(fds, fds_count);
    return r;
}

void ox_collection_close(struct ox_collection *collection)
{
    for (uint32_t i = 0; i < collection->count; i++)
        ox_close(&collection->files[i].fd);
    collection->count = 0;
}
