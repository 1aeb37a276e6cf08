/* What a network namespace shows: every file of /proc/net and /proc/sys/net, beside those of a new one. */
#ifndef OX_LAUNCH_PORTRAIT_H
#define OX_LAUNCH_PORTRAIT_H

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A line for each file: its name and what it says. */
struct portrait {
    size_t size;
    char text[1 << 20];
};

static struct portrait *painted;

/* Addresses and numbers of the kernel's own sockets; figures of the whole machine. */
static int is_not_of_the_namespace(const char *path)
{
    static const char *const names[] = { "/net/netlink", "/net/softnet_stat", "/net/protocols",
                                         "/net/stat/", "/net/nf_conntrack" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strstr(path, names[i]) != NULL)
            return 1;
    }
    return 0;
}

/* Some figures of the sockets of a namespace stand beside those of the whole machine. */
static void drop_figures_of_the_machine(char *text)
{
    static const char *const words[] = { "orphan ", "alloc ", "mem " };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (char *at = text; (at = strstr(at, words[i])) != NULL;) {
            char *rest = at + strlen(words[i]);

            rest += strspn(rest, "-0123456789");
            at[0] = '.';
            memmove(at + 1, rest, strlen(rest) + 1);
        }
    }
}

static int paint_file(const char *path, const struct stat *what, int type, struct FTW *where)
{
    static char text[1 << 18];
    uint64_t hash = 14695981039346656037u;
    size_t size = 0;
    ssize_t n;
    int fd;

    (void)what;
    (void)where;
    if (type != FTW_F || is_not_of_the_namespace(path))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd >= 0 && (n = read(fd, text + size, sizeof(text) - 1 - size)) > 0)
        size += (size_t)n;
    if (fd >= 0)
        (void)close(fd);
    text[size] = '\0';
    if (strstr(path, "/net/sockstat") != NULL)
        drop_figures_of_the_machine(text);
    for (const char *at = text; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    painted->size +=
        (size_t)snprintf(painted->text + painted->size, sizeof(painted->text) - painted->size,
                         "%s %016llx\n", strchr(path + 1, '/'), (unsigned long long)hash);
    return painted->size < sizeof(painted->text) - 4096 ? 0 : 1;
}

/* net: -1 for a new one, in which alter, if there is one, does something first. */
static struct portrait *paint(int net, void (*alter)(void))
{
    struct portrait *made =
        mmap(NULL, sizeof(*made), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = -1;
    pid_t pid;

    if (made == MAP_FAILED)
        return NULL;
    painted = made;
    pid = fork();
    if (pid == 0) {
        if ((net < 0 ? unshare(CLONE_NEWNET) : setns(net, CLONE_NEWNET)) < 0)
            _exit(1);
        if (alter != NULL)
            alter();
        _exit(nftw("/proc/self/net", paint_file, 16, FTW_PHYS) != 0 ||
              nftw("/proc/sys/net", paint_file, 16, FTW_PHYS) != 0);
    }
    (void)waitpid(pid, &status, 0);
    return status == 0 && made->size > 1000 ? made : NULL;
}

/* How many files say something else; -1 when they are not the same files. */
static int differences(const struct portrait *one, const struct portrait *other)
{
    const char *a = one->text, *b = other->text;
    int count = 0;

    while (*a != '\0' && *b != '\0') {
        size_t size = strcspn(a, "\n");

        if (size != strcspn(b, "\n") || memcmp(a, b, strcspn(a, " ")) != 0)
            return -1;
        if (memcmp(a, b, size) != 0) {
            fprintf(stderr, "another: %.*s\n", (int)strcspn(a, " "), a);
            count++;
        }
        a += size + 1;
        b += size + 1;
    }
    return *a == *b ? count : -1;
}

static int differs_from_a_new_one(int net, void (*alter)(void))
{
    struct portrait *one = paint(net, alter), *other = paint(-1, NULL);
    int r = one == NULL || other == NULL ? -1 : differences(one, other);

    if (one != NULL)
        (void)munmap(one, sizeof(*one));
    if (other != NULL)
        (void)munmap(other, sizeof(*other));
    return r;
}

#endif
