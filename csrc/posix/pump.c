/* One output stream of a run. */
#include "pump.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"

#define CHUNK (64 * 1024)

/* A sink that we share with others stays blocking. POLLOUT promises room for PIPE_BUF bytes in a
 * pipe (poll(2), pipe(7)), so never more at once. */
#define SHARED_WRITE PIPE_BUF

static int reserve(struct ox_pump *pump, size_t more)
{
    size_t wanted = pump->size + more, capacity = pump->capacity == 0 ? 4096 : pump->capacity;
    char *bytes;

    if (wanted <= pump->capacity)
        return 0;
    while (capacity < wanted)
        capacity *= 2;
    bytes = realloc(pump->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    pump->bytes = bytes;
    pump->capacity = capacity;
    return 0;
}

static size_t put_caret(char *to, unsigned char c)
{
    to[0] = '^';
    to[1] = (char)(c ^ 0x40);
    return 2;
}

static size_t put_hex(char *to, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";

    to[0] = '\\';
    to[1] = 'x';
    to[2] = digits[c >> 4];
    to[3] = digits[c & 15];
    return 4;
}

/* Make control characters visible: C0 but newline and tab, DEL, and C1, which reach a terminal
 * as UTF-8 (0xc2 0x80 to 0xc2 0x9f) or, where it is set to 8 bits, bare. Bare ones are told from
 * UTF-8 continuation bytes by the state of the sequence before them: after a lead byte other
 * than 0xc2 they are text. */
static size_t escape_into(struct ox_pump *pump, char *to, const unsigned char *from, size_t size)
{
    size_t out = 0;

    for (size_t i = 0; i < size; i++) {
        unsigned char c = from[i];
        unsigned char lead = pump->lead;

        pump->lead = 0;
        if (lead == 0xc2) {
            if (c >= 0x80 && c < 0xa0) {
                out += put_hex(to + out, 0xc2);
                out += put_hex(to + out, c);
                continue;
            }
            to[out++] = (char)0xc2;
        } else if (lead > 0 && c >= 0x80 && c < 0xc0) {
            to[out++] = (char)c;
            pump->lead = (unsigned char)(lead - 1);
            continue;
        }
        if (c == 0xc2)
            pump->lead = 0xc2;
        else if (c < 0x20 && c != '\n' && c != '\t')
            out += put_caret(to + out, c);
        else if (c == 0x7f)
            out += put_caret(to + out, c);
        else if (c >= 0x80 && c < 0xa0)
            out += put_hex(to + out, c);
        else {
            to[out++] = (char)c;
            /* continuation bytes that may follow: at most 3, so never mistaken for 0xc2 */
            pump->lead = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc3 ? 1 : 0;
        }
    }
    return out;
}

static int keep(struct ox_pump *pump, const char *bytes, size_t size)
{
    int r;

    if (pump->mode == OX_STREAM_COPY && pump->written == pump->size)
        pump->size = pump->written = 0;
    r = reserve(pump, pump->escape ? size * 8 + 8 : size);
    if (r < 0)
        return r;
    if (pump->escape) {
        pump->size +=
            escape_into(pump, pump->bytes + pump->size, (const unsigned char *)bytes, size);
    } else {
        memcpy(pump->bytes + pump->size, bytes, size);
        pump->size += size;
    }
    return 0;
}

int ox_pump_read(struct ox_pump *pump, struct ox_budget *budget, size_t most)
{
    char chunk[CHUNK];
    size_t kept;
    ssize_t n;

    if (pump->source < 0)
        return 0;
    do
        n = read(pump->source, chunk, most < sizeof(chunk) ? most : sizeof(chunk));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 1 : -errno;
    if (n == 0) {
        ox_close(&pump->source);
        return 0;
    }
    pump->total += (uint64_t)n;
    kept = (size_t)n;
    if (budget->left >= 0 && (int64_t)kept > budget->left)
        kept = (size_t)budget->left;
    if (pump->broken)
        kept = 0;
    if (kept < (size_t)n)
        budget->truncated = 1;
    if (kept == 0)
        return 1;
    if (budget->left >= 0)
        budget->left -= (int64_t)kept;
    return keep(pump, chunk, kept) < 0 ? -ENOMEM : 1;
}

int ox_pump_drain(struct ox_pump *pump, struct ox_budget *budget)
{
    for (;;) {
        uint64_t before = pump->total;
        int r = ox_pump_read(pump, budget, CHUNK);

        if (r <= 0 || pump->total == before)
            return r < 0 ? r : 0;
    }
}

void ox_pump_write(struct ox_pump *pump, struct ox_budget *budget)
{
    size_t left = pump->size - pump->written;
    ssize_t n;

    if (!pump->exclusive && left > SHARED_WRITE)
        left = SHARED_WRITE;
    n = write(pump->sink, pump->bytes + pump->written, left);
    if (n >= 0) {
        pump->written += (size_t)n;
    } else if (errno != EINTR && errno != EAGAIN) {
        /* Nobody reads, or the disk is full: the run goes on, what cannot be delivered counts as
         * truncated. */
        pump->broken = 1;
        budget->truncated = 1;
        if (errno != EPIPE)
            budget->undelivered = 1;
    }
}

int ox_pump_pending(const struct ox_pump *pump)
{
    return pump->mode == OX_STREAM_COPY && !pump->broken && pump->written < pump->size;
}

void ox_pump_free(struct ox_pump *pump)
{
    free(pump->bytes);
    pump->bytes = NULL;
}
