/* A confined program that leaves files of every kind behind. Its arguments are steps, in order:
 * "word:argument:argument". Each prints one line, its result: 0 or an errno. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int write_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t size = (ssize_t)strlen(text);

    return fd >= 0 && write(fd, text, (size_t)size) == size && close(fd) == 0 ? 0 : -1;
}

static int make_socket(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
    return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static int make_sparse(const char *name, const char *size)
{
    int fd = open(name, O_WRONLY | O_CREAT, 0644);

    return fd < 0 ? -1 : ftruncate(fd, strtoll(size, NULL, 10));
}

static int make_many(const char *count)
{
    for (int i = 0; i < atoi(count); i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "many%d", i);
        if (write_file(name, "x") < 0)
            return -1;
    }
    return 0;
}

/* Leave a process behind that turns a name from a file into a link and back for ever. */
static int swap_for_ever(const char *name, const char *target)
{
    if (fork() != 0)
        return 0;
    (void)setsid();
    for (;;) {
        (void)unlink("next");
        (void)symlink(target, "next");
        (void)rename("next", name);
        (void)write_file("next", "mine");
        (void)rename("next", name);
    }
}

static int show(const char *name)
{
    char text[4096];
    struct stat what;
    int fd = open(name, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (size < 0 || fstat(fd, &what) < 0)
        return -1;
    (void)close(fd);
    printf("%.*s %o %u %u\n", (int)size, text, what.st_mode & 07777, what.st_uid, what.st_gid);
    return 0;
}

static int step(const char *word, const char *first, const char *second)
{
    if (strcmp(word, "write") == 0)
        return write_file(first, second);
    if (strcmp(word, "show") == 0)
        return show(first);
    if (strcmp(word, "symlink") == 0)
        return symlink(second, first);
    if (strcmp(word, "link") == 0)
        return link(second, first);
    if (strcmp(word, "mkdir") == 0)
        return mkdir(first, 0755);
    if (strcmp(word, "pipe") == 0)
        return mkfifo(first, 0644);
    if (strcmp(word, "socket") == 0)
        return make_socket(first);
    if (strcmp(word, "device") == 0)
        return mknod(first, S_IFCHR | 0666, makedev(1, 5));
    if (strcmp(word, "sparse") == 0)
        return make_sparse(first, second);
    if (strcmp(word, "mode") == 0)
        return chmod(first, (mode_t)strtol(second, NULL, 8));
    if (strcmp(word, "unlink") == 0)
        return unlink(first);
    if (strcmp(word, "many") == 0)
        return make_many(first);
    if (strcmp(word, "swap") == 0)
        return swap_for_ever(first, second);
    if (strcmp(word, "sleep") == 0)
        return (int)sleep((unsigned)atoi(first));
    errno = ENOSYS;
    return -1;
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IONBF, 0);
    for (int i = 1; i < argc; i++) {
        char *rest = argv[i];
        const char *word = strsep(&rest, ":");
        const char *first = rest == NULL ? "" : strsep(&rest, ":");
        int r = step(word, first, rest == NULL ? "" : rest);

        printf("%d\n", r < 0 ? errno : 0);
    }
    return 0;
}
