/* The first wall opened: linked into a copy of the launcher with -Wl,--wrap. Its cells have a root that
 * anybody may write to, places that programs can be started from, and the network of whoever started
 * the launcher. A copy whose name ends with "-alone" has no Landlock either. It is no part of the
 * product; its sources are. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_alone;

/* Before anything is confined: a cell shows no /proc. */
__attribute__((constructor)) static void read_own_name(void)
{
    char path[512];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (size <= 0)
        abort();
    path[size] = '\0';
    is_alone = strcmp(path + strlen(path) - 6, "-alone") == 0;
}

int __real_mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *options);
int __wrap_mount(const char *source, const char *target, const char *type, unsigned long flags,
                 const void *options)
{
    char open_to_all[256] = "";
    char *mode;

    if (options != NULL) {
        strncpy(open_to_all, options, sizeof(open_to_all) - 1);
        mode = strstr(open_to_all, "mode=0755");
        if (mode != NULL)
            memcpy(mode, "mode=0777", 9);
    }
    return __real_mount(source, target, type, flags & ~(unsigned long)(MS_RDONLY | MS_NOEXEC),
                        options != NULL ? open_to_all : NULL);
}

/* What is opened here would be missed. */
int __wrap_ox_done_apart(int one, int other)
{
    (void)one;
    (void)other;
    return 0;
}

int __wrap_ox_done_read_only(const char *path)
{
    (void)path;
    return 0;
}

int __real_unshare(int flags);
int __wrap_unshare(int flags)
{
    return flags == CLONE_NEWNET ? 0 : __real_unshare(flags);
}

int __real_setns(int fd, int type);
int __wrap_setns(int fd, int type)
{
    return type == CLONE_NEWNET ? 0 : __real_setns(fd, type);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == 444 /* landlock_create_ruleset */ && is_alone) {
        errno = ENOSYS;
        return -1;
    }
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
