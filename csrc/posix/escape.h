/* Text from a program, made harmless for a terminal: what is not plain UTF-8 text becomes visible. */
#ifndef OX_ESCAPE_H
#define OX_ESCAPE_H

#include <stddef.h>

/* How much longer the text can get, and room for what a partial character adds. */
#define OX_ESCAPE_GROWTH 4
#define OX_ESCAPE_SPARE 32

/* A character of which not all bytes have come. */
struct ox_partial {
    unsigned char bytes[4];
    unsigned have;
    unsigned want;
};

/* Escape size bytes into ret, which has room for size * OX_ESCAPE_GROWTH + OX_ESCAPE_SPARE. Newline
 * and tab stay; other controls become ^X, C1 controls and invalid bytes \\x9b, invisible and
 * direction-changing characters \\u202e. Returns how much was written. */
size_t ox_escape(struct ox_partial *partial, char *ret, const char *text, size_t size);

/* The end of the text: escape what is left of a character. ret has room for OX_ESCAPE_SPARE. */
size_t ox_escape_end(struct ox_partial *partial, char *ret);

#endif
