/* The launcher's store of verified programs. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "missing.h"
#include "tmpfs.h"

/* A child that shares memory and descriptors with the launcher, but neither root nor mount
 * namespace. Linux before 6.15 clones a mount only for a caller in the namespace that holds it, and
 * the launcher must stay in the host's for the sake of the host's own files. */
static char child_stack[16 * 1024] __attribute__((aligned(64)));

static int run_child(int (*child)(void *), void *task)
{
    pid_t pid = clone(child, child_stack + sizeof(child_stack),
                      CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, task);

    if (pid < 0)
        return -errno;
    while (waitpid(pid, NULL, __WALL) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

struct settling {
    struct ox_store *store;
    int result;
};

/* Make a namespace in which the store is everything there is. */
static int settle(void *argument)
{
    struct settling *task = argument;
    int space = -1;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        goto fail;
    space = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (space < 0)
        goto fail;
    if (syscall(SYS_move_mount, task->store->directory, "", AT_FDCWD, "/",
                MOVE_MOUNT_F_EMPTY_PATH) < 0)
        goto fail;
    /* The copies of the host's mounts go: they would keep its file systems busy. */
    if (fchdir(task->store->directory) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0)
        goto fail;
    task->store->space = space;
    task->result = 0;
    _exit(0);
fail:
    task->result = -errno;
    ox_close(&space);
    _exit(1);
}

int ox_store_open(struct ox_store *ret_store)
{
    struct settling task = { .store = ret_store, .result = -EIO };
    int r;

    memset(ret_store, 0, sizeof(*ret_store));
    ret_store->directory = ret_store->space = -1;
    r = ox_tmpfs_make("1g", &ret_store->directory);
    if (r == 0)
        r = run_child(settle, &task);
    if (r == 0)
        r = task.result;
    if (r < 0)
        ox_store_close(ret_store);
    return r;
}

void ox_store_close(struct ox_store *store)
{
    ox_close(&store->directory);
    ox_close(&store->space);
}

struct cloning {
    const struct ox_store *store;
    const char *digest;
    int result; /* descriptor of the tree or a negative errno */
};

static int clone_tree(void *argument)
{
    struct cloning *task = argument;

    if (setns(task->store->space, CLONE_NEWNS) < 0) {
        task->result = -errno;
        _exit(1);
    }
    task->result = (int)syscall(SYS_open_tree, AT_FDCWD, task->digest,
                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    if (task->result < 0)
        task->result = -errno;
    _exit(0);
}

int ox_tree_of(int fd, int *ret_tree)
{
    int tree =
        (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (tree < 0)
        return -errno;
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

int ox_store_tree(struct ox_store *store, const char *digest, int source, int *ret_tree)
{
    struct cloning task = { .store = store, .digest = digest, .result = -EIO };
    struct ox_store_entry *entry = NULL;
    int r;

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

    r = run_child(clone_tree, &task);
    if (r < 0)
        return r;
    if (task.result < 0)
        return task.result;
    *ret_tree = task.result;
    return 0;
}
