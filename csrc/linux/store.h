/* The launcher's store of verified programs: a tmpfs keyed by digest, alone in a mount namespace
 * that no process lives in. No path leads to it. */
#ifndef OX_STORE_H
#define OX_STORE_H

#include "../core.h"
#include "space.h"

#define OX_STORE_ENTRIES 64
#define OX_STORE_BYTES (INT64_C(1) << 30)

struct ox_store_entry {
    char digest[65]; /* "" : free */
    int64_t bytes;
    uint64_t used; /* stamp of the last use */
};

struct ox_store {
    int directory; /* the root of the tmpfs */
    int space;     /* its mount namespace */
    uint64_t stamp;
    int64_t bytes;
    struct ox_store_entry entries[OX_STORE_ENTRIES];
};

int ox_store_open(struct ox_store *ret_store);
void ox_store_close(struct ox_store *store);

/* A detached mount of the object with this digest; its bytes are read from source only if the
 * store lacks it. The caller has hashed source, which must be sealed against change. Objects in
 * use stay alive when evicted. */
int ox_store_tree(struct ox_store *store, struct ox_spaces *spaces, const char *digest, int source,
                  int *ret_tree);

/* A detached mount of the file or directory that is open as fd. elsewhere: it was opened in another
 * mount namespace than ours. -ESTALE: there it no longer has the name that it has here. */
int ox_tree_of(int elsewhere, int fd, int *ret_tree);

#endif
