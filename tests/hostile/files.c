/* Sub-commands about files: read, write everywhere, execute what was written, fill the disk. */
#include "hostile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static double number(int count, char **words, int at, double otherwise)
{
    return at < count ? strtod(words[at], NULL) : otherwise;
}

static int run_read(int count, char **words)
{
    static char text[4096];

    json_open('{');
    for (int i = 0; i < count; i++) {
        int fd = open(words[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
        int error = n < 0 ? errno : 0;

        json_key(words[i]);
        json_open('{');
        say_errno("read", error);
        json_key("text");
        json_bytes(text, n > 0 ? (size_t)n : 0);
        json_close();
        if (fd >= 0)
            (void)close(fd);
    }
    json_close();
    return 0;
}

static int run_list(int count, char **words)
{
    json_open('{');
    for (int i = 0; i < count; i++) {
        DIR *directory = opendir(words[i]);
        struct dirent *entry;

        json_key(words[i]);
        if (directory == NULL) {
            json_errno(errno);
            continue;
        }
        json_open('[');
        while ((entry = readdir(directory)) != NULL)
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                json_text(entry->d_name);
        json_close();
        (void)closedir(directory);
    }
    json_close();
    return 0;
}

/* Every file of the tree, with its mode; for runtimes whose content is only roughly known. */
static void walk(const char *path, int depth)
{
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (directory == NULL)
        return;
    while ((entry = readdir(directory)) != NULL) {
        char below[4096];
        struct stat status;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(below, sizeof below, "%s/%s", strcmp(path, "/") == 0 ? "" : path,
                       entry->d_name);
        if (lstat(below, &status) != 0)
            continue;
        json_key(below);
        json_int(status.st_mode);
        if (S_ISDIR(status.st_mode) && depth > 0)
            walk(below, depth - 1);
    }
    (void)closedir(directory);
}

static int run_walk(int count, char **words)
{
    json_open('{');
    walk(count > 0 ? words[0] : "/", (int)number(count, words, 1, 8));
    json_close();
    return 0;
}

/* Makes a file, and takes it away again, in each directory named. */
static int run_write(int count, char **words)
{
    json_open('{');
    for (int i = 0; i < count; i++) {
        char path[4096];
        int fd;

        (void)snprintf(path, sizeof path, "%s/probe-wrote-this", words[i]);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        json_key(words[i]);
        json_errno(fd < 0 ? errno : 0);
        if (fd >= 0) {
            (void)close(fd);
            (void)unlink(path);
        }
    }
    json_close();
    return 0;
}

static int copy_self(const char *path)
{
    static char block[1 << 16];
    int from = open(own_path(), O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    ssize_t n = -1;
    int error = 0;

    while (from >= 0 && to >= 0 && (n = read(from, block, sizeof block)) > 0)
        if (write(to, block, (size_t)n) != n)
            break;
    if (n != 0)
        error = errno;
    if (from >= 0)
        (void)close(from);
    if (to >= 0)
        (void)close(to);
    return error;
}

/* Copies itself into a directory and executes the copy; "ok" says that the copy ran. */
static int run_execute_from(int count, char **words)
{
    json_open('{');
    for (int i = 0; i < count; i++) {
        char path[4096];
        int status = 0, error;
        pid_t child;

        (void)snprintf(path, sizeof path, "%s/probe-copy", words[i]);
        json_key(words[i]);
        json_open('{');
        error = copy_self(path);
        say_errno("copy", error);
        json_key("execute");
        child = fork();
        if (child == 0) {
            char *arguments[] = { path, "exit", "0", NULL };
            char *environment[] = { NULL };

            (void)execve(path, arguments, environment);
            _exit(errno);
        }
        (void)waitpid(child, &status, 0);
        json_errno(WIFEXITED(status) ? WEXITSTATUS(status) : EINTR);
        json_close();
        (void)unlink(path);
    }
    json_close();
    return 0;
}

/* Files of 1 MiB each until nothing goes any more. They stay. */
static int run_fill(int count, char **words)
{
    static char block[1 << 20];
    const char *directory = count > 0 ? words[0] : "/tmp";
    long most = (long)number(count, words, 1, 1024);
    long long bytes = 0;
    int error = 0, files = 0;

    memset(block, 'x', sizeof block);
    while (error == 0 && files < most) {
        char path[4096];
        ssize_t n;
        int fd;

        (void)snprintf(path, sizeof path, "%s/fill-%d", directory, files);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) {
            error = errno;
            break;
        }
        files++;
        for (size_t at = 0; at < sizeof block; at += (size_t)n) {
            n = write(fd, block + at, sizeof block - at);
            if (n <= 0) {
                error = n < 0 ? errno : EIO;
                break;
            }
            bytes += n;
        }
        (void)close(fd);
    }
    json_open('{');
    say_int("bytes", bytes);
    say_int("files", files);
    say_errno("end", error);
    json_close();
    return 0;
}

static int run_fill_inodes(int count, char **words)
{
    const char *directory = count > 0 ? words[0] : "/tmp";
    long most = (long)number(count, words, 1, 1000000);
    long files = 0;
    int error = 0;

    for (; files < most; files++) {
        char path[4096];

        (void)snprintf(path, sizeof path, "%s/inode-%ld", directory, files);
        if (mkdir(path, 0700) != 0) {
            error = errno;
            break;
        }
    }
    json_open('{');
    say_int("files", files);
    say_errno("end", error);
    json_close();
    return 0;
}

static int run_allocate(int count, char **words)
{
    const char *directory = count > 0 ? words[0] : "/tmp";
    off_t bytes = (off_t)number(count, words, 1, 1) << 20;
    char path[4096];
    int fd, error;

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(path, sizeof path, "%s/allocated", directory);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    error = fd < 0 ? errno : posix_fallocate(fd, 0, bytes);
    json_open('{');
    say_errno("allocate", error);
    json_close();
    return 0;
}

/* One file as long as it may get; SIGXFSZ as it comes unless "ignore" is given. */
static int run_long_file(int count, char **words)
{
    static char block[1 << 16];
    const char *directory = count > 0 ? words[0] : "/tmp";
    long long most = (long long)number(count, words, 1, 1) << 20;
    char path[4096];
    long long bytes = 0;
    int fd, error = 0;

    if (count > 2 && strcmp(words[2], "ignore") == 0)
        (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(path, sizeof path, "%s/long", directory);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (bytes < most) {
        ssize_t n = write(fd, block, sizeof block);

        if (n <= 0) {
            error = n < 0 ? errno : EIO;
            break;
        }
        bytes += n;
    }
    json_open('{');
    say_int("bytes", bytes);
    say_errno("end", error);
    json_close();
    return 0;
}

/* Opens until it may not; tells how many descriptors there are then, inherited ones included. */
static int run_open_files(int count, char **words)
{
    int most = (int)number(count, words, 0, 100000);
    int highest = -1, error = 0;

    while (highest < most - 1) {
        int fd = dup(0);

        if (fd < 0) {
            error = errno;
            break;
        }
        highest = fd;
    }
    /* Room for the answer is not needed: descriptor 1 is open already. */
    json_open('{');
    say_int("open", highest + 1);
    say_errno("end", error);
    json_close();
    return 0;
}

/* Tries to lift each limit: the soft one by one step, then the hard one. */
static int run_raise_limits(int count, char **words)
{
    static const struct {
        const char *name;
        int resource;
    } known[] = {
        { "cpu", RLIMIT_CPU },           { "fsize", RLIMIT_FSIZE },   { "core", RLIMIT_CORE },
        { "nproc", RLIMIT_NPROC },       { "nofile", RLIMIT_NOFILE }, { "memlock", RLIMIT_MEMLOCK },
        { "msgqueue", RLIMIT_MSGQUEUE },
    };

    (void)count;
    (void)words;
    json_open('{');
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct rlimit limit;

        json_key(known[i].name);
        if (getrlimit((unsigned)known[i].resource, &limit) != 0) {
            json_errno(errno);
            continue;
        }
        limit.rlim_cur = limit.rlim_max =
            limit.rlim_max == RLIM_INFINITY ? RLIM_INFINITY : limit.rlim_max + 1;
        json_errno(setrlimit((unsigned)known[i].resource, &limit) == 0 ? 0 : errno);
    }
    json_close();
    return 0;
}

const struct command file_commands[] = {
    { "read", "FILE...", run_read },
    { "list", "DIRECTORY...", run_list },
    { "walk", "DIRECTORY [DEPTH]", run_walk },
    { "write", "DIRECTORY...", run_write },
    { "execute-from", "DIRECTORY...", run_execute_from },
    { "fill", "DIRECTORY [FILES]", run_fill },
    { "fill-inodes", "DIRECTORY [N]", run_fill_inodes },
    { "allocate", "DIRECTORY MEBIBYTES", run_allocate },
    { "long-file", "DIRECTORY MEBIBYTES [ignore]", run_long_file },
    { "open-files", "[MOST]", run_open_files },
    { "raise-limits", "", run_raise_limits },
    { NULL, NULL, NULL },
};
