/* The host's side of cells: asking for them, looking at them, giving them back. */
#include "../core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "../posix/counters.h"
#include "../posix/fail.h"
#include "../posix/fd.h"
#include "../wire.h"

static const char *const writable_names[4] = { "home", "workspace", "tmp", "shm" };
/* The same in a directory on disk, which shares its file system with others. */
static const char *const names_on_disk[4] = { "home/plugin", "workspace", "tmp", "dev/shm" };

static int is_on_disk(const struct ox_cell *cell)
{
    return cell->gone >= 0;
}

static int take_baseline(const struct ox_cell *cell, struct ox_baseline *ret_baseline)
{
    struct statfs space;
    int r;

    memset(ret_baseline, 0, sizeof(*ret_baseline));
    r = cell->usage < 0 ? 0 : ox_cgroup_read_usage(cell->usage, &ret_baseline->memory_bytes);
    if (r < 0)
        return r;
    if (!is_on_disk(cell)) {
        if (fstatfs(cell->writable, &space) < 0)
            return -errno;
        ret_baseline->blocks_free = (uint64_t)space.f_bfree;
        ret_baseline->files_free = (uint64_t)space.f_ffree;
    }
    for (int i = 0; i < 4; i++) {
        int64_t *stamp = ret_baseline->stamp[i];
        const char *name = is_on_disk(cell) ? names_on_disk[i] : writable_names[i];
        struct stat what;

        if (fstatat(cell->writable, name, &what, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENOENT && is_on_disk(cell))
                continue; /* a cell without /dev */
            return -errno;
        }
        stamp[0] = (int64_t)what.st_mode;
        stamp[1] = ((int64_t)what.st_uid << 32) | (int64_t)what.st_gid;
        stamp[2] = (int64_t)what.st_nlink;
        stamp[3] = (int64_t)what.st_size;
        stamp[4] = (int64_t)what.st_ctim.tv_sec;
        stamp[5] = (int64_t)what.st_ctim.tv_nsec;
    }
    return 0;
}

int ox_cell_is_alive(const struct ox_cell *cell)
{
    struct pollfd ended = { .fd = cell->pidfd, .events = POLLIN };

    return poll(&ended, 1, 0) == 0;
}

/* A time stamp alone does not do: a file that is made in the tick of the baseline changes none. */
static int is_listed_empty(int parent, const char *name)
{
    const struct dirent *entry;
    int empty = 1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);

    if (fd < 0)
        return errno == ENOENT; /* a cell without /dev */
    if (listing == NULL) {
        ox_close(&fd);
        return 0;
    }
    while (empty && (entry = readdir(listing)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    (void)closedir(listing);
    return empty;
}

int ox_cell_is_empty(const struct ox_cell *cell, int64_t memory_slack)
{
    struct ox_baseline now;
    uint64_t most = cell->baseline.memory_bytes + (uint64_t)memory_slack;

    if (take_baseline(cell, &now) < 0)
        return 0;
    if (memory_slack >= 0 && now.memory_bytes > most)
        return 0;
    now.memory_bytes = cell->baseline.memory_bytes;
    if (memcmp(&now, &cell->baseline, sizeof(now)) != 0)
        return 0;
    for (int i = 0; i < 4 && is_on_disk(cell); i++) {
        if (!is_listed_empty(cell->writable, names_on_disk[i]))
            return 0;
    }
    return 1;
}

/* Append text with its NUL. */
static int append(char *buffer, size_t capacity, size_t *used, const char *text)
{
    size_t size = strlen(text) + 1;

    if (size > capacity - *used)
        return -E2BIG;
    memcpy(buffer + *used, text, size);
    *used += size;
    return 0;
}

/* Descriptors of every cell: warden, pidfd, writable. The counters follow, then the listener. */
#define FDS_OF_CELL 3u

static size_t fds_of(const struct ox_wire_create_reply *reply)
{
    if (reply->error.stage != OX_STAGE_NONE)
        return 0;
    return FDS_OF_CELL + (size_t)__builtin_popcount(reply->counters & OX_COUNTERS) +
           (size_t)(reply->has_listener != 0);
}

static int adopt(const struct ox_wire_create_reply *reply, const int *fds, struct ox_cell *ret_cell)
{
    int *counters[] = { &ret_cell->cpu, &ret_cell->oom, &ret_cell->usage, &ret_cell->peak,
                        &ret_cell->gone };

    *ret_cell = (struct ox_cell){
        .id = reply->id,
        .warden = fds[0],
        .pidfd = fds[1],
        .writable = fds[2],
        .listener = reply->has_listener != 0 ? fds[fds_of(reply) - 1] : -1,
    };

    for (unsigned i = 0, at = FDS_OF_CELL; i < 5; i++)
        *counters[i] = (reply->counters & 1u << i) != 0 ? fds[at++] : -1;
    return take_baseline(ret_cell, &ret_cell->baseline);
}

int ox_cell_request(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                    uint32_t sequence, struct ox_error *ret_error)
{
    struct ox_wire_create head = {
        .kind = OX_MESSAGE_CREATE,
        .sequence = sequence,
        .features = (uint32_t)spec->features,
        .mounts_count = spec->mounts_count,
        .memory_bytes = spec->memory_bytes,
        .processes = spec->processes,
        .disk_bytes = spec->disk_bytes,
        .cpu_quota_us = spec->cpu_quota_us,
        .filter_count = spec->filter_count,
        .notes = (uint32_t)spec->notes,
    };
    char strings[sizeof(struct ox_instruction) * OX_FILTER_MAX + (size_t)16 * 1024];
    int fds[OX_MOUNTS_MAX + 1];
    size_t used = sizeof(struct ox_instruction) * spec->filter_count;
    int r;

    if (spec->mounts_count > OX_MOUNTS_MAX || spec->filter_count > OX_FILTER_MAX)
        return ox_fail(OX_STAGE_REQUEST, -E2BIG, ret_error);
    if (spec->filter_count > 0)
        memcpy(strings, spec->filter, used);
    if (spec->digest != NULL) {
        if (strlen(spec->digest) != OX_DIGEST_SIZE)
            return ox_fail(OX_STAGE_REQUEST, -EINVAL, ret_error);
        memcpy(head.digest, spec->digest, OX_DIGEST_SIZE);
    }
    fds[0] = spec->program;
    r = append(strings, sizeof(strings), &used, spec->entry);
    for (uint32_t i = 0; i < spec->mounts_count && r == 0; i++) {
        fds[1 + i] = spec->mounts[i].fd;
        head.mount_flags[i] = (uint8_t)spec->mounts[i].flags;
        r = append(strings, sizeof(strings), &used, spec->mounts[i].destination);
    }
    if (r == 0)
        r = ox_send(launcher->socket, &head, sizeof(head), strings, used, fds,
                    1 + (size_t)spec->mounts_count);
    return r < 0 ? ox_fail(OX_STAGE_REQUEST, r, ret_error) : 0;
}

int ox_cell_answer(const struct ox_launcher *launcher, int wait_ms, uint32_t *ret_sequence,
                   struct ox_cell *ret_cell, struct ox_error *ret_error)
{
    struct ox_wire_create_reply reply;
    size_t given_count;
    ssize_t size;
    int given[8], r;

    r = ox_wait_readable(launcher->socket, ox_now_ns() + (int64_t)wait_ms * 1000000);
    if (r < 0)
        return r == -ETIMEDOUT ? 0 : r;
    size = ox_receive(launcher->socket, &reply, sizeof(reply), given, 8, &given_count);
    if (size <= 0)
        return size < 0 ? (int)size : -EPIPE;
    if (size != (ssize_t)sizeof(reply) || reply.kind != OX_MESSAGE_CREATE ||
        given_count != fds_of(&reply)) {
        ox_close_all(given, given_count);
        return -EPROTO;
    }
    *ret_sequence = reply.sequence;
    *ret_error = reply.error;
    if (reply.error.stage != OX_STAGE_NONE)
        return 1;
    r = adopt(&reply, given, ret_cell);
    if (r < 0) {
        (void)ox_cell_destroy(launcher, ret_cell);
        ox_cell_forget(ret_cell);
        (void)ox_fail(OX_STAGE_WRITABLE, r, ret_error);
    }
    return 1;
}

int ox_cell_create(const struct ox_launcher *launcher, const struct ox_cell_spec *spec, int wait_ms,
                   struct ox_cell *ret_cell, struct ox_error *ret_error)
{
    static uint32_t last;
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    uint32_t wanted = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED), sequence;
    struct ox_cell cell;
    struct ox_error error;
    int r = ox_cell_request(launcher, spec, wanted, ret_error);

    if (r < 0)
        return r;
    for (;;) {
        r = ox_cell_answer(launcher, ox_until_ms(deadline), &sequence, &cell, &error);
        if (r <= 0)
            return ox_fail(OX_STAGE_LAUNCHER, r < 0 ? r : -ETIMEDOUT, ret_error);
        if (sequence == wanted)
            break;
        /* To a call before this one, which has not waited for it. */
        if (error.stage == OX_STAGE_NONE) {
            (void)ox_cell_destroy(launcher, &cell);
            ox_cell_forget(&cell);
        }
    }
    if (error.stage != OX_STAGE_NONE)
        return ox_fail(error.stage, error.errnum > 0 ? -error.errnum : -EPROTO, ret_error);
    *ret_cell = cell;
    return 0;
}

void ox_cell_forget(struct ox_cell *cell)
{
    ox_close(&cell->warden);
    ox_close(&cell->pidfd);
    ox_close(&cell->cpu);
    ox_close(&cell->oom);
    ox_close(&cell->usage);
    ox_close(&cell->peak);
    ox_close(&cell->gone);
    ox_close(&cell->writable);
    ox_close(&cell->listener);
}

int ox_cell_destroy(const struct ox_launcher *launcher, struct ox_cell *cell)
{
    struct ox_wire_destroy request = { .kind = OX_MESSAGE_DESTROY, .id = cell->id };
    int pidfd = cell->pidfd, gone = cell->gone;

    /* Before the request: nothing of ours may keep a mount or a counter of the cell alive. */
    cell->pidfd = cell->gone = -1;
    ox_cell_forget(cell);
    cell->pidfd = pidfd;
    cell->gone = gone;
    return ox_send(launcher->socket, &request, sizeof(request), NULL, 0, NULL, 0);
}

int ox_cell_wait_gone(struct ox_cell *cell, int wait_ms)
{
    int64_t deadline = ox_now_ns() + (int64_t)wait_ms * 1000000;
    int r = ox_wait_readable(cell->pidfd, deadline);

    if (r == 0 && cell->gone >= 0)
        r = ox_wait_readable(cell->gone, deadline);
    ox_close(&cell->pidfd);
    ox_close(&cell->gone);
    return r;
}
