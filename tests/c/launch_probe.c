/* The confined program of the launch tests: does the one thing that its first word names and says
 * on stdout how that went. Static, so that it runs in a cell that holds nothing else. */
#define _GNU_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "launch_sockets.h"

#define HERE "/workspace"

/* The error's number, 0 for none. */
static int error_of(long r)
{
    return r < 0 ? errno : 0;
}

static int exit_with(const char *word)
{
    return atoi(word);
}

static int say(const char *word)
{
    puts(word);
    return 0;
}

static int copy_in(const char *word)
{
    char buffer[4096];
    ssize_t n;

    (void)word;
    while ((n = read(0, buffer, sizeof(buffer))) > 0)
        if (write(1, buffer, (size_t)n) != n)
            return 1;
    return n < 0;
}

static int status(const char *word)
{
    char text[8192];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    (void)word;
    return n < 0 || write(1, text, (size_t)n) != n;
}

/* What is read from a file, and how writing to it fails. */
static int look_at(const char *path)
{
    char text[64];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    printf("text=%.*s ", n < 0 ? 0 : (int)n, text);
    printf("write=%d\n", error_of(open(path, O_WRONLY)));
    return 0;
}

/* Descriptor 3, and what lies above it. */
static int broker(const char *word)
{
    ssize_t n = write(3, word, strlen(word));

    printf("written=%zd next=%d\n", n, error_of(fcntl(4, F_GETFD)));
    return 0;
}

static int sleep_on(const char *word)
{
    (void)word;
    while (pause() < 0)
        continue;
    return 0;
}

static int burn(const char *word)
{
    for (int children = atoi(word); children > 0; children--) {
        pid_t pid = fork();

        if (pid < 0)
            return 1;
        if (pid == 0)
            break;
        if (children == 1)
            return sleep_on("");
    }
    for (volatile int more = 1; more;)
        continue;
    return 0;
}

static int touch(const char *word)
{
    size_t size = strtoul(word, NULL, 10);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return 1;
    for (size_t at = 0; at < size; at += 4096)
        memory[at] = 1;
    return 0;
}

static int touch_in_child(const char *word)
{
    int ended = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(touch(word));
    if (pid < 0 || waitpid(pid, &ended, 0) != pid)
        return 1;
    printf("signal=%d\n", WIFSIGNALED(ended) ? WTERMSIG(ended) : 0);
    return 0;
}

/* More than fit, all of the same size, all at once; the parent sees them go. */
static int touch_in_many(const char *word)
{
    for (int i = 0; i < 9; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return 1;
        if (pid == 0) {
            (void)touch(word);
            (void)usleep(300000);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        continue;
    return say("ended");
}

static int bomb(const char *word)
{
    (void)word;
    for (int number = 1; number < 65; number++)
        (void)signal(number, SIG_IGN);
    for (;;)
        (void)fork(); /* EAGAIN at the limit of processes, ENOMEM at that of memory */
    return 1;
}

static int stop(const char *word)
{
    (void)word;
    return raise(SIGSTOP);
}

/* How many children there can be at once, up to word. */
static int fork_many(const char *word)
{
    int made = 0, error = 0;

    for (int wanted = atoi(word); made < wanted; made++) {
        pid_t pid = fork();

        if (pid == 0)
            (void)sleep_on("");
        if (pid < 0) {
            error = errno;
            break;
        }
    }
    printf("children=%d error=%d\n", made, error);
    return 0;
}

static int fill(const char *word)
{
    static const char block[4096];
    int fd = open(HERE "/big", O_WRONLY | O_CREAT | O_EXCL, 0600);
    long blocks = 0;

    (void)word;
    if (fd < 0)
        return 1;
    while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block))
        blocks++;
    printf("kib=%ld error=%d\n", blocks * 4, errno);
    return 0;
}

static int flood(const char *word)
{
    for (long left = atol(word); left > 0; left--)
        (void)putchar('x');
    return 0;
}

/* A grandchild in a session of its own that keeps stdout open. */
static int stray(const char *word)
{
    if (fork() == 0) {
        (void)setsid();
        (void)signal(SIGTERM, SIG_IGN);
        if (fork() != 0)
            _exit(0);
        (void)sleep_on("");
    }
    (void)wait(NULL);
    return say(word);
}

/* Ways to leave something behind. */
static int leave(const char *word)
{
    int error = EINVAL;

    if (strcmp(word, "file") == 0)
        error = error_of(open(HERE "/left", O_WRONLY | O_CREAT, 0600));
    else if (strcmp(word, "nothing") == 0)
        error = 0;
    else if (strcmp(word, "mode") == 0)
        error = error_of(chmod(HERE, 0700)) | error_of(chmod(HERE, 0755));
    else if (strcmp(word, "xattr") == 0)
        error = error_of(setxattr(HERE, "user.left", "x", 1, 0));
    printf("error=%d\n", error);
    return 0;
}

static int escape(const char *word)
{
    (void)word;
    printf("mount=%d ", error_of(mount("none", "/tmp", "tmpfs", 0, NULL)));
    printf("ptrace=%d ", error_of(ptrace(PTRACE_SEIZE, 1, NULL, NULL)));
    printf("chroot=%d ", error_of(chroot("/")));
    printf("unshare=%d\n", error_of(unshare(CLONE_NEWNS)));
    return 0;
}

static int new_user(const char *word)
{
    (void)word;
    printf("unshare=%d\n", error_of(unshare(CLONE_NEWUSER)));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const char *word);
    } commands[] = {
        { "exit", exit_with },
        { "say", say },
        { "copy", copy_in },
        { "status", status },
        { "sleep", sleep_on },
        { "burn", burn },
        { "touch", touch },
        { "touch-in-child", touch_in_child },
        { "touch-in-many", touch_in_many },
        { "bomb", bomb },
        { "stop", stop },
        { "fork-many", fork_many },
        { "fill", fill },
        { "flood", flood },
        { "stray", stray },
        { "look-at", look_at },
        { "broker", broker },
        { "leave", leave },
        { "escape", escape },
        { "new-user", new_user },
        { "socket", probe_socket },
    };

    for (size_t i = 0; argc == 3 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            int r = commands[i].run(argv[2]);

            return fflush(stdout) == 0 ? r : 1;
        }
    }
    return 99;
}
