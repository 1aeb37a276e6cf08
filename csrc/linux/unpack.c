/* What a request for a cell may say. The host that sends it may have been taken over. */
#include "unpack.h"

#include <errno.h>
#include <string.h>

#define FEATURES \
    ((uint32_t)(OX_FEATURE_PROC | OX_FEATURE_DEV | OX_FEATURE_ETC | OX_FEATURE_EXEC | \
                OX_FEATURE_HOST_NETWORK))

static int is_component(const char *name, size_t length)
{
    if (length == 0 || length > 255 || memchr(name, '/', length) != NULL)
        return 0;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* Absolute, no empty, "." or ".." component. */
static int is_destination(const char *path)
{
    const char *at = path;

    if (path[0] != '/' || strlen(path) >= OX_PATH_MAX)
        return 0;
    while (*at == '/') {
        const char *end;

        at++;
        end = strchrnul(at, '/');
        if (!is_component(at, (size_t)(end - at)))
            return 0;
        at = end;
    }
    return *at == '\0';
}

static int is_digest(const char *digest)
{
    return strspn(digest, "0123456789abcdef") == OX_DIGEST_SIZE && digest[OX_DIGEST_SIZE] == '\0';
}

int ox_unpack_create(const union ox_request *message, size_t size, const int *fds, size_t fds_count,
                     struct ox_cell_request *ret_request)
{
    const struct ox_wire_create *head = &message->create;
    const char *at = message->bytes + sizeof(*head);
    const char *end = message->bytes + size;
    size_t filter_size = head->filter_count * sizeof(struct ox_instruction);

    if (head->filter_count > OX_FILTER_MAX || size <= sizeof(*head) + filter_size ||
        end[-1] != '\0' || head->mounts_count > OX_MOUNTS_MAX ||
        fds_count != 1 + (size_t)head->mounts_count)
        return -EBADMSG;
    if ((head->features & ~FEATURES) != 0)
        return -EINVAL;
    if (head->digest[0] != '\0' && !is_digest(head->digest))
        return -EINVAL;

    if (head->notes > OX_NOTES_ALL)
        return -EINVAL;
    ret_request->filter = (const struct ox_instruction *)at;
    ret_request->filter_count = head->filter_count;
    if (head->filter_count > 0 && ox_filter_check(ret_request->filter, head->filter_count) < 0)
        return -EINVAL;
    at += filter_size;

    ret_request->entry = at;
    if (strlen(at) >= OX_ENTRY_MAX || !is_component(at, strlen(at)))
        return -EINVAL;
    at += strlen(at) + 1;
    for (uint32_t i = 0; i < head->mounts_count; i++) {
        if (at >= end || !is_destination(at) || (head->mount_flags[i] & ~OX_MOUNT_NOEXEC) != 0)
            return -EINVAL;
        ret_request->mount_flags[i] = head->mount_flags[i];
        ret_request->destinations[i] = at;
        ret_request->mounts[i] = fds[1 + i];
        at += strlen(at) + 1;
    }
    if (at != end)
        return -EBADMSG;
    ret_request->sequence = head->sequence;
    ret_request->program = fds[0];
    ret_request->digest = head->digest[0] != '\0' ? head->digest : NULL;
    ret_request->features = head->features;
    ret_request->memory_bytes = head->memory_bytes;
    ret_request->processes = head->processes;
    ret_request->disk_bytes = head->disk_bytes;
    ret_request->cpu_quota_us = head->cpu_quota_us;
    ret_request->mounts_count = head->mounts_count;
    ret_request->notes = (int)head->notes;
    return 0;
}
