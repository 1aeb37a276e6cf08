/* A program that leaves something: what the word says. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIB (1 << 20)

static char block[65536];

static int write_mib(int fd)
{
    size_t left = MIB;

    memset(block, 'x', sizeof(block));
    while (left > 0) {
        ssize_t n = write(fd, block, left < sizeof(block) ? left : sizeof(block));

        if (n <= 0)
            return 1;
        left -= (size_t)n;
    }
    return 0;
}

static int write_file(void)
{
    int fd = open("written", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd < 0 || write_mib(fd) != 0 || close(fd) != 0;
}

/* A daemon that stays until somebody ends it: its own session, no open stream. */
static int leave_daemon(void)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid < 0;
    (void)setsid();
    for (int fd = 0; fd < 3; fd++)
        (void)close(fd);
    for (;;)
        (void)pause();
}

int main(int argc, char **argv)
{
    const char *word = argc == 2 ? argv[1] : "";

    if (strcmp(word, "nothing") == 0)
        return 0;
    if (strcmp(word, "output") == 0)
        return write_mib(STDOUT_FILENO);
    if (strcmp(word, "file") == 0)
        return write_file();
    if (strcmp(word, "daemon") == 0)
        return leave_daemon();
    (void)fprintf(stderr, "usage: traces nothing|output|file|daemon\n");
    return 2;
}
