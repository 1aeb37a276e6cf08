/* Directories and small files of a cgroup file system. */
#include "cgroup_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

/* As the kernel writes it (getdents64(2)); glibc has no declaration of its own. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
};

int ox_cgroup_open_below(int directory, const char *path, size_t length)
{
    char name[NAME_MAX + 1];
    size_t at = 0;
    int fd = openat(directory, ".", DIRECTORY_FLAGS);

    if (fd < 0)
        return -errno;
    while (at < length) {
        size_t size = 0;
        int next;

        while (at < length && path[at] == '/')
            at++;
        while (at + size < length && path[at + size] != '/')
            size++;
        if (size == 0)
            break;
        if (size > NAME_MAX) {
            ox_close(&fd);
            return -ENAMETOOLONG;
        }
        memcpy(name, path + at, size);
        name[size] = '\0';
        if (strcmp(name, "..") == 0) {
            ox_close(&fd);
            return -EXDEV;
        }
        next = openat(fd, name, DIRECTORY_FLAGS);
        if (next < 0) {
            int r = -errno;

            ox_close(&fd);
            return r;
        }
        ox_close(&fd);
        fd = next;
        at += size;
    }
    return fd;
}

int ox_cgroup_read_file(int directory, const char *name, char *ret_text, size_t capacity)
{
    size_t size = 0;
    int r = 0;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -errno;
    for (;;) {
        ssize_t n = read(fd, ret_text + size, capacity - 1 - size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = -errno;
        if (n <= 0)
            break;
        size += (size_t)n;
        if (size == capacity - 1) {
            r = -EOVERFLOW;
            break;
        }
    }
    ret_text[size] = '\0';
    ox_close(&fd);
    return r;
}

int ox_cgroup_each_name(int directory, void (*visit)(int directory, const char *name))
{
    char buffer[4096] __attribute__((aligned(8)));

    if (lseek(directory, 0, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        long size = syscall(SYS_getdents64, directory, buffer, sizeof(buffer));

        if (size < 0)
            return -errno;
        if (size == 0)
            return 0;
        for (long at = 0; at < size;) {
            const struct entry *entry = (const struct entry *)(const void *)(buffer + at);

            visit(directory, entry->name);
            at += entry->size;
        }
    }
}

int ox_cgroup_has_word(const char *text, const char *word, const char *separators)
{
    size_t size = strlen(word);

    while (*text != '\0') {
        size_t length = strcspn(text, separators);

        if (length == size && memcmp(text, word, size) == 0)
            return 1;
        text += length;
        text += strspn(text, separators);
    }
    return 0;
}
