/* A hostile plugin: look for the accounts of the host and for a way out of the jail.
 *
 * It prints what it got on stdout, one line each, and exits with 0 only if nothing could be read.
 * Where it reads the real /etc/passwd it exits with 66: then the jail is broken. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int try_read(const char *path)
{
    char text[64];
    ssize_t got;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        printf("refused %s: %s\n", path, strerror(errno));
        return 0;
    }
    got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (got <= 0) {
        printf("empty %s\n", path);
        return 0;
    }
    text[got] = '\0';
    text[strcspn(text, "\n")] = '\0';
    printf("READ %s: %s\n", path, text);
    return 1;
}

int main(void)
{
    static const char *const paths[] = {
        "/etc/passwd",
        "/etc/shadow",
        "../../../../../../etc/passwd",
        "/proc/1/root/etc/passwd",
        "/proc/self/cwd/../../../etc/passwd",
    };
    int found = 0;

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        found += try_read(paths[i]);

    /* The classic way out of a chroot. */
    if (chroot("/tmp") == 0 && chdir("../../../../..") == 0 && chroot(".") == 0)
        found += try_read("/etc/passwd");
    else
        printf("refused chroot: %s\n", strerror(errno));
    if (setuid(0) == 0) {
        printf("BECAME root\n");
        found++;
    } else {
        printf("refused setuid(0): %s\n", strerror(errno));
    }
    (void)fflush(stdout);
    return found == 0 ? 0 : 66;
}
