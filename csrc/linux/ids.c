/* Pairs of host uids, one pair a cell. */
#include "ids.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../posix/fd.h"

/* Of root, and of an ordinary user: where a session made it, else where everybody may. */
#define DIRECTORY "/run/oxgen"
#define USER_DIRECTORY "/run/user/%u/oxgen"
#define SPARE_DIRECTORY "/tmp/oxgen-%u"
#define LOCK_FILE "uids"

static int open_lock(const char *path)
{
    int directory, fd, r;
    struct stat what;

    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -errno;
    directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return -errno;
    if (fstat(directory, &what) < 0) {
        r = -errno;
        goto out;
    }
    /* Whoever could replace the file could hand one pair to two cells. */
    if (what.st_uid != geteuid() || (what.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        r = -EPERM;
        goto out;
    }
    fd = openat(directory, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : fd;
out:
    ox_close(&directory);
    return r;
}

static void fill(int lock, uint32_t base, uint32_t count, struct ox_ids *ret_ids)
{
    memset(ret_ids, 0, sizeof(*ret_ids));
    ret_ids->lock = lock;
    ret_ids->base = base;
    ret_ids->pairs = count / 2 < OX_PAIRS_MAX ? count / 2 : OX_PAIRS_MAX;
    /* Launchers that run side by side start at different places, or each would try the others'
     * first. */
    if (ret_ids->pairs > 0)
        ret_ids->next = ((uint32_t)getpid() * 64u) % ret_ids->pairs;
}

int ox_ids_open(const struct ox_config *config, struct ox_ids *ret_ids,
                struct ox_problem *ret_problem)
{
    int fd;

    if (config->uid_count < 2 || config->uid_base < 1000 ||
        config->uid_base > UINT32_MAX - 1 - config->uid_count) {
        ret_problem->error = (struct ox_error){ OX_STAGE_UID_RANGE, EINVAL };
        (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause),
                       "the uid range %u+%u cannot be used", config->uid_base, config->uid_count);
        (void)snprintf(ret_problem->remedy, sizeof(ret_problem->remedy),
                       "name a range of at least 2 uids, from 1000 up, below 4294967295");
        return -EINVAL;
    }
    fd = open_lock(DIRECTORY);
    if (fd < 0) {
        ret_problem->error = (struct ox_error){ OX_STAGE_UID_RANGE, -fd };
        (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause),
                       "uid pairs are locked in " DIRECTORY "/" LOCK_FILE ": %s", strerror(-fd));
        (void)snprintf(ret_problem->remedy, sizeof(ret_problem->remedy),
                       "make " DIRECTORY
                       " a directory that belongs to root, mode 0755, on a writable /run");
        return fd;
    }
    fill(fd, config->uid_base, config->uid_count, ret_ids);
    return 0;
}

void ox_ids_open_user(uint32_t uid, uint32_t base, uint32_t count, struct ox_ids *ret_ids)
{
    char path[64];
    int fd = -1;

    if (count >= 2) {
        (void)snprintf(path, sizeof(path), USER_DIRECTORY, uid);
        fd = open_lock(path);
    }
    if (count >= 2 && fd < 0) {
        (void)snprintf(path, sizeof(path), SPARE_DIRECTORY, uid);
        fd = open_lock(path);
    }
    /* Two cells with one pair would be worse than all with the launcher's own id, which are told
     * apart by nothing but their namespaces, and say so. */
    if (fd < 0)
        fill(-1, 0, 0, ret_ids);
    else
        fill(fd, base, count, ret_ids);
    ret_ids->is_shared = fd < 0;
}

/* The bytes of both uids, at their own numbers: ranges of other launchers may begin elsewhere. */
static int lock_slot(const struct ox_ids *ids, uint32_t slot, short type)
{
    struct flock lock = { .l_type = type,
                          .l_whence = SEEK_SET,
                          .l_start = (off_t)ids->base + 2 * (off_t)slot,
                          .l_len = 2 };

    return fcntl(ids->lock, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int ox_ids_take(struct ox_ids *ids, struct ox_id_pair *ret_pair)
{
    if (ids->is_shared) {
        *ret_pair = (struct ox_id_pair){ .is_shared = 1 };
        return 0;
    }
    for (uint32_t tried = 0; tried < ids->pairs; tried++) {
        uint32_t slot = ids->next;
        int r;

        ids->next = (slot + 1) % ids->pairs;
        if ((ids->held[slot / 8] & (1u << slot % 8)) != 0)
            continue;
        r = lock_slot(ids, slot, F_WRLCK);
        if (r == -EAGAIN || r == -EACCES)
            continue;
        if (r < 0)
            return r;
        ids->held[slot / 8] |= (uint8_t)(1u << slot % 8);
        *ret_pair = (struct ox_id_pair){
            .slot = slot,
            .warden = ids->base + 2 * slot,
            .plugin = ids->base + 2 * slot + 1,
        };
        return 0;
    }
    return -EAGAIN;
}

void ox_ids_release(struct ox_ids *ids, const struct ox_id_pair *pair)
{
    if (pair->is_shared)
        return;
    ids->held[pair->slot / 8] &= (uint8_t) ~(1u << pair->slot % 8);
    (void)lock_slot(ids, pair->slot, F_UNLCK);
}

void ox_ids_close(struct ox_ids *ids)
{
    ox_close(&ids->lock);
}
