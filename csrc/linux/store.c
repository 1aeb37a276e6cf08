/* The launcher's store of verified programs. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"
#include "tmpfs.h"

int ox_store_open(struct ox_store *ret_store)
{
    int r;

    memset(ret_store, 0, sizeof(*ret_store));
    ret_store->directory = ret_store->space = -1;
    r = ox_tmpfs_make("1g", &ret_store->directory);
    if (r == 0)
        r = ox_space_make(ret_store->directory, 0, &ret_store->space);
    if (r < 0)
        ox_store_close(ret_store);
    return r;
}

void ox_store_close(struct ox_store *store)
{
    ox_close(&store->directory);
    ox_close(&store->space);
}

/* The same file or directory in our own mount namespace: the kernel clones no mount of another. It is
 * found by the name that it has there, and is the same one or none. */
static int find_here(int fd, int *ret_here)
{
    char link[32], path[4096];
    struct stat wanted, found;
    ssize_t size;
    int here;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof(path));
    if (size <= 0 || size == (ssize_t)sizeof(path))
        return size < 0 ? -errno : -ENAMETOOLONG;
    path[size] = '\0';
    here = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (here < 0)
        return errno == ENOENT ? -ESTALE : -errno;
    if (fstat(fd, &wanted) < 0 || fstat(here, &found) < 0 || wanted.st_dev != found.st_dev ||
        wanted.st_ino != found.st_ino) {
        ox_close(&here);
        return -ESTALE;
    }
    *ret_here = here;
    return 0;
}

int ox_tree_of(int elsewhere, int fd, int *ret_tree)
{
    int here = -1, tree, r = 0;

    if (elsewhere)
        r = find_here(fd, &here);
    if (r < 0)
        return r;
    tree = (int)syscall(SYS_open_tree, elsewhere ? here : fd, "",
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    r = tree < 0 ? -errno : 0;
    ox_close(&here);
    if (r < 0)
        return r;
    *ret_tree = tree;
    return 0;
}

static int copy_bytes(int source, int target, int64_t bytes)
{
    off_t at = 0;

    while (at < bytes) {
        ssize_t n = sendfile(target, source, &at, (size_t)(bytes - at));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
    }
    return 0;
}

static void evict(struct ox_store *store, struct ox_store_entry *entry)
{
    (void)unlinkat(store->directory, entry->digest, 0);
    store->bytes -= entry->bytes;
    memset(entry, 0, sizeof(*entry));
}

/* A free entry with room for bytes, older objects dropped where needed. NULL: too big for the
 * store. */
static struct ox_store_entry *make_room(struct ox_store *store, int64_t bytes)
{
    if (bytes > OX_STORE_BYTES)
        return NULL;
    for (;;) {
        struct ox_store_entry *oldest = NULL, *vacant = NULL;

        for (int i = 0; i < OX_STORE_ENTRIES; i++) {
            struct ox_store_entry *entry = &store->entries[i];

            if (entry->digest[0] == '\0')
                vacant = entry;
            else if (oldest == NULL || entry->used < oldest->used)
                oldest = entry;
        }
        if (vacant != NULL && store->bytes + bytes <= OX_STORE_BYTES)
            return vacant;
        evict(store, oldest);
    }
}

static int add(struct ox_store *store, const char *digest, int source,
               struct ox_store_entry **ret_entry)
{
    struct ox_store_entry *entry;
    struct stat what;
    int target, r;

    if (fstat(source, &what) < 0)
        return -errno;
    if (!S_ISREG(what.st_mode))
        return -EINVAL;
    entry = make_room(store, what.st_size);
    if (entry == NULL)
        return -EFBIG;

    target = openat(store->directory, digest, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target < 0)
        return -errno;
    r = copy_bytes(source, target, what.st_size);
    if (r == 0 && fchmod(target, 0555) < 0)
        r = -errno;
    ox_close(&target); /* before any exec: a file that is open for writing cannot be executed */
    if (r < 0) {
        (void)unlinkat(store->directory, digest, 0);
        return r;
    }
    memcpy(entry->digest, digest, sizeof(entry->digest));
    entry->bytes = what.st_size;
    store->bytes += entry->bytes;
    *ret_entry = entry;
    return 0;
}

int ox_store_tree(struct ox_store *store, struct ox_spaces *spaces, const char *digest, int source,
                  int *ret_tree)
{
    struct ox_store_entry *entry = NULL;
    int tree, r;

    for (int i = 0; i < OX_STORE_ENTRIES && entry == NULL; i++) {
        if (strcmp(store->entries[i].digest, digest) == 0)
            entry = &store->entries[i];
    }
    if (entry == NULL) {
        r = add(store, digest, source, &entry);
        if (r < 0)
            return r;
    }
    entry->used = ++store->stamp;

    /* Linux before 6.15 clones a mount only for a caller in the namespace that holds it. */
    r = ox_space_enter(store->space);
    if (r < 0)
        return r;
    tree = (int)syscall(SYS_open_tree, AT_FDCWD, digest,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    r = tree < 0 ? -errno : 0;
    if (ox_space_leave(spaces) < 0 && r == 0) {
        ox_close(&tree);
        r = -ENOTRECOVERABLE;
    }
    if (r == 0)
        *ret_tree = tree;
    return r;
}
