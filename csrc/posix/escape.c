/* Text from a program, made harmless for a terminal. */
#include "../core.h"

#include "escape.h"

#include <stdio.h>
#include <string.h>

/* Not controls to a terminal, but what they do to a reader is as bad: they cannot be seen, break the
 * line or turn its direction (Unicode, general categories Cf, Zl, Zp, and the tag characters). */
static const struct {
    uint32_t first, last;
} hidden[] = {
    { 0x00ad, 0x00ad },   { 0x034f, 0x034f },   { 0x0600, 0x0605 },   { 0x061c, 0x061c },
    { 0x06dd, 0x06dd },   { 0x070f, 0x070f },   { 0x0890, 0x0891 },   { 0x08e2, 0x08e2 },
    { 0x115f, 0x1160 },   { 0x17b4, 0x17b5 },   { 0x180b, 0x180f },   { 0x200b, 0x200f },
    { 0x2028, 0x202e },   { 0x2060, 0x206f },   { 0x3164, 0x3164 },   { 0xfe00, 0xfe0f },
    { 0xfeff, 0xfeff },   { 0xffa0, 0xffa0 },   { 0xfff0, 0xfffb },   { 0x110bd, 0x110bd },
    { 0x110cd, 0x110cd }, { 0x13430, 0x13438 }, { 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a },
    { 0xe0000, 0xe0fff },
};

static int is_hidden(uint32_t code)
{
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        if (code >= hidden[i].first && code <= hidden[i].last)
            return 1;
    }
    return 0;
}

static size_t put_hex(char *ret, unsigned char byte)
{
    return (size_t)sprintf(ret, "\\x%02x", byte);
}

static size_t put_ascii(char *ret, unsigned char byte)
{
    if ((byte >= 0x20 && byte < 0x7f) || byte == '\n' || byte == '\t') {
        ret[0] = (char)byte;
        return 1;
    }
    ret[0] = '^';
    ret[1] = (char)(byte ^ 0x40);
    return 2;
}

size_t ox_escape_end(struct ox_partial *partial, char *ret)
{
    size_t out = 0;

    for (unsigned i = 0; i < partial->have; i++)
        out += put_hex(ret + out, partial->bytes[i]);
    partial->have = 0;
    return out;
}

static uint32_t decode(const struct ox_partial *partial)
{
    uint32_t code = partial->bytes[0] & (0xffu >> (partial->want + 1));

    for (unsigned i = 1; i < partial->want; i++)
        code = code << 6 | (partial->bytes[i] & 0x3f);
    return code;
}

/* A sequence that has all its bytes. RFC 3629: no longer form than needed, no surrogates. */
static size_t put_sequence(struct ox_partial *partial, char *ret)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t code = decode(partial);
    size_t size = partial->want;

    if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return ox_escape_end(partial, ret);
    partial->have = 0;
    if (code < 0xa0)
        return put_hex(ret, (unsigned char)code);
    if (is_hidden(code))
        return (size_t)sprintf(ret, code > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)code);
    memcpy(ret, partial->bytes, size);
    return size;
}

static unsigned sequence_size(unsigned char lead)
{
    if (lead >= 0xc2 && lead < 0xe0)
        return 2;
    if (lead >= 0xe0 && lead < 0xf0)
        return 3;
    return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

size_t ox_escape(struct ox_partial *partial, char *ret, const char *text, size_t size)
{
    size_t out = 0;

    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (partial->have > 0 && (byte & 0xc0) == 0x80) {
            partial->bytes[partial->have++] = byte;
            if (partial->have == partial->want)
                out += put_sequence(partial, ret + out);
            continue;
        }
        out += ox_escape_end(partial, ret + out);
        if (byte < 0x80) {
            out += put_ascii(ret + out, byte);
            continue;
        }
        partial->want = sequence_size(byte);
        if (partial->want == 0) {
            out += put_hex(ret + out, byte);
        } else {
            partial->bytes[0] = byte;
            partial->have = 1;
        }
    }
    return out;
}
