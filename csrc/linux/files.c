/* Files in and out of a cell, between its runs: what a child of the warden does in the workspace.
 * It is the plugin as far as the kernel knows, so that it can do there what the plugin could, and
 * nothing else; no process of the plugin is there at that time.
 *
 * Names are walked one component at a time, and no link is followed: openat2() would do the same, but
 * not every kernel and every outer filter has it. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../posix/fd.h"

static int is_component(const char *name, size_t length)
{
    if (length == 0 || length > 255)
        return 0;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* Relative, no empty, "." or ".." component. */
static int is_name(const char *name)
{
    const char *at = name;

    if (strlen(name) >= OX_PATH_MAX)
        return 0;
    for (;;) {
        const char *end = strchrnul(at, '/');

        if (!is_component(at, (size_t)(end - at)))
            return 0;
        if (*end == '\0')
            return 1;
        at = end + 1;
    }
}

int ox_files_are_names(const char *names, size_t size, uint32_t count)
{
    const char *at = names;
    const char *end = names + size;
    uint32_t found = 0;

    if (size == 0 || end[-1] != '\0')
        return 0;
    while (at < end && found < count) {
        if (!is_name(at))
            return 0;
        at += strlen(at) + 1;
        found++;
    }
    return found == count && at == end;
}

/* Open the directory that the last component of a name lies in; with make those that are not there
 * are made. */
static int open_parent(const char *name, int make, const char **ret_last)
{
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *slash;

    while (here >= 0 && (slash = strchr(name, '/')) != NULL) {
        char part[256];
        int next;

        memcpy(part, name, (size_t)(slash - name));
        part[slash - name] = '\0';
        if (make && mkdirat(here, part, 0755) < 0 && errno != EEXIST) {
            int r = -errno;

            ox_close(&here);
            return r;
        }
        next = openat(here, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        (void)close(here); /* leaves errno alone when it succeeds, as it does for O_PATH */
        here = next;
        name = slash + 1;
    }
    *ret_last = name;
    return here < 0 ? -errno : here;
}

/* --- in --------------------------------------------------------------------------------------- */

static int read_exactly(int fd, void *ret_bytes, size_t size, off_t at)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, (char *)ret_bytes + done, size - done, at + (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        done += (size_t)n;
    }
    return 0;
}

static int fill(int file, int archive, off_t at, uint64_t size)
{
    off_t end = at + (off_t)size;

    while (at < end) {
        ssize_t n = sendfile(file, archive, &at, (size_t)(end - at));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
    }
    return 0;
}

static int put_file(const char *name, const struct ox_file_head *head, int archive, off_t at)
{
    const char *last;
    int parent = open_parent(name, 1, &last);
    int file, r;

    if (parent < 0)
        return parent;
    file = openat(parent, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                  (mode_t)(head->mode & 0777));
    r = file < 0 ? -errno : fill(file, archive, at, head->size);
    ox_close(&file);
    ox_close(&parent);
    return r;
}

static int put_files(struct ox_files_task *task)
{
    struct stat what;
    off_t at = 0;

    if (fstat(task->archive, &what) < 0)
        return -errno;
    for (; at < what.st_size; task->file++) {
        char name[OX_PATH_MAX];
        struct ox_file_head head;
        int r = read_exactly(task->archive, &head, sizeof(head), at);

        if (r < 0)
            return r;
        at += (off_t)sizeof(head);
        if (head.name_size >= sizeof(name))
            return -EBADMSG;
        r = read_exactly(task->archive, name, head.name_size, at);
        if (r < 0)
            return r;
        at += (off_t)head.name_size;
        name[head.name_size] = '\0';
        if (strlen(name) != head.name_size || !is_name(name) ||
            head.size > (uint64_t)(what.st_size - at))
            return -EBADMSG;
        r = put_file(name, &head, task->archive, at);
        if (r < 0)
            return r;
        at += (off_t)head.size;
    }
    return 0;
}

/* --- out -------------------------------------------------------------------------------------- */

/* What is no regular file is only looked at: to open a pipe would wait, a device would do whatever
 * it does. */
static int open_regular(int parent, const char *last, uint32_t *ret_mode)
{
    struct stat what;
    int fd;

    if (fstatat(parent, last, &what, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    *ret_mode = what.st_mode;
    if (!S_ISREG(what.st_mode))
        return -EINVAL;
    fd = openat(parent, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &what) < 0 || !S_ISREG(what.st_mode)) {
        ox_close(&fd);
        return -EINVAL;
    }
    return fd;
}

static int open_name(const char *name, uint32_t *ret_mode)
{
    const char *last;
    int parent = open_parent(name, 0, &last);
    int fd;

    if (parent < 0)
        return parent;
    fd = open_regular(parent, last, ret_mode);
    ox_close(&parent);
    return fd;
}

static void open_names(struct ox_files_task *task)
{
    const char *name = task->names;

    for (uint32_t i = 0; i < task->count; i++) {
        int fd = open_name(name, &task->rows[i].mode);

        task->fds[i] = fd < 0 ? -1 : fd;
        task->rows[i].errnum = fd < 0 ? -fd : 0;
        name += strlen(name) + 1;
    }
}

/* --- both ------------------------------------------------------------------------------------- */

/* Ids by raw system calls, because libc's wrappers signal every thread of the process, and here that
 * process is the warden. */
static int become_plugin(const struct ox_files_task *task)
{
    /* A file size limit that the launcher has inherited is an errno then, and no signal. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        return -errno;
    if (task->root != NULL && chroot(task->root) < 0)
        return -errno;
    if (chdir(task->prefix != NULL ? task->prefix : "/") < 0 || chdir("workspace") < 0)
        return -errno;
    if (task->own_ids)
        return 0;
    if (syscall(SYS_setresgid, task->gid, task->gid, task->gid) < 0)
        return -errno;
    return syscall(SYS_setresuid, task->uid, task->uid, task->uid) < 0 ? -errno : 0;
}

void ox_files_work(struct ox_files_task *task)
{
    int r = become_plugin(task);

    if (r == 0 && task->archive >= 0)
        r = put_files(task);
    else if (r == 0)
        open_names(task);
    task->errnum = -r;
}
