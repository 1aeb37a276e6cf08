/* Sub-commands that leave a trace for whoever runs in the same place next. Each tells whether it
 * managed to. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static int make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int error = fd < 0 ? errno : 0;

    if (fd >= 0) {
        if (write(fd, "secret\n", 7) != 7)
            error = errno;
        (void)close(fd);
    }
    return error;
}

static int file_in_tmp(void)
{
    return make_file("/tmp/left");
}

static int file_in_workspace(void)
{
    return make_file("/workspace/left");
}

static int file_in_home(void)
{
    return make_file("/home/plugin/.left");
}

static int directory_in_workspace(void)
{
    return mkdir("/workspace/left.d", 0000) == 0 ? 0 : errno;
}

static int link_in_tmp(void)
{
    return symlink("/etc/passwd", "/tmp/left") == 0 ? 0 : errno;
}

static int pipe_in_tmp(void)
{
    return mkfifo("/tmp/left", 0666) == 0 ? 0 : errno;
}

static int mode_of_workspace(void)
{
    return chmod("/workspace", 0777) == 0 ? 0 : errno;
}

static int mode_of_tmp(void)
{
    return chmod("/tmp", 0700) == 0 ? 0 : errno;
}

static int attribute_of_workspace(void)
{
    return setxattr("/workspace", "user.left", "secret", 6, 0) == 0 ? 0 : errno;
}

static int attribute_of_home(void)
{
    return setxattr("/home/plugin", "user.left", "secret", 6, 0) == 0 ? 0 : errno;
}

/* The time is the trace: 8 bytes for whoever reads st_mtime. */
static int time_of_workspace(void)
{
    struct timespec times[2] = { { 1234567, 0 }, { 7654321, 0 } };

    return utimensat(AT_FDCWD, "/workspace", times, 0) == 0 ? 0 : errno;
}

static int file_made_and_removed(void)
{
    int error = make_file("/workspace/gone");

    return error != 0 ? error : unlink("/workspace/gone") == 0 ? 0 : errno;
}

/* A file without a name, held open by a process without a parent. */
static int deleted_file_of_daemon(void)
{
    int error = make_file("/tmp/held");

    if (error != 0)
        return error;
    if (fork() == 0) {
        int fd = open("/tmp/held", O_RDWR);

        (void)setsid();
        (void)unlink("/tmp/held");
        if (fd < 0 || ftruncate(fd, 1 << 20) != 0)
            _exit(1);
        (void)close(0);
        (void)close(1);
        (void)close(2);
        for (;;)
            (void)pause();
    }
    for (int tries = 0; tries < 2000 && access("/tmp/held", F_OK) == 0; tries++)
        (void)usleep(1000);
    return access("/tmp/held", F_OK) == 0 ? EBUSY : 0;
}

/* A process that waits, so that the next run finds somebody to talk to, or to be traced by. */
static int daemon_process(void)
{
    pid_t child = fork();

    if (child == 0) {
        (void)setsid();
        (void)close(0);
        (void)close(1);
        (void)close(2);
        for (;;)
            (void)pause();
    }
    return child < 0 ? errno : 0;
}

static int abstract_socket_of_daemon(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0left" };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + 5) != 0 ||
        listen(fd, 8) != 0)
        return errno;
    return daemon_process();
}

static int shared_memory(void)
{
    return shmget(0x6f78, 4096, IPC_CREAT | 0666) >= 0 ? 0 : errno;
}

static int message_queue(void)
{
    return msgget(0x6f78, IPC_CREAT | 0666) >= 0 ? 0 : errno;
}

static int key(void)
{
    /* KEY_SPEC_USER_KEYRING is -4. */
    return syscall(SYS_add_key, "user", "left", "secret", 6, -4) >= 0 ? 0 : errno;
}

static const struct {
    const char *name;
    int (*leave)(void);
} traces[] = {
    { "file-in-tmp", file_in_tmp },
    { "file-in-workspace", file_in_workspace },
    { "file-in-home", file_in_home },
    { "directory-in-workspace", directory_in_workspace },
    { "link-in-tmp", link_in_tmp },
    { "pipe-in-tmp", pipe_in_tmp },
    { "mode-of-workspace", mode_of_workspace },
    { "mode-of-tmp", mode_of_tmp },
    { "attribute-of-workspace", attribute_of_workspace },
    { "attribute-of-home", attribute_of_home },
    { "time-of-workspace", time_of_workspace },
    { "file-made-and-removed", file_made_and_removed },
    { "deleted-file-of-daemon", deleted_file_of_daemon },
    { "daemon", daemon_process },
    { "abstract-socket-of-daemon", abstract_socket_of_daemon },
    { "shared-memory", shared_memory },
    { "message-queue", message_queue },
    { "key", key },
};

static int run_leave(int count, char **words)
{
    json_open('{');
    for (int i = 0; i < count; i++)
        for (size_t t = 0; t < sizeof traces / sizeof traces[0]; t++)
            if (strcmp(traces[t].name, words[i]) == 0)
                say_errno(words[i], traces[t].leave());
    json_close();
    return 0;
}

static int run_leave_names(int count, char **words)
{
    (void)count;
    (void)words;
    json_open('[');
    for (size_t t = 0; t < sizeof traces / sizeof traces[0]; t++)
        json_text(traces[t].name);
    json_close();
    return 0;
}

/* What a run can find of those that are no files: "ok" means that it is there. */
static int run_find_traces(int count, char **words)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0left" };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int others = 0;

    (void)count;
    (void)words;
    for (pid_t pid = 2; pid < 4096; pid++)
        others += pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM);
    json_open('{');
    say_int("other_processes", others);
    say_errno("abstract-socket-of-daemon",
              connect(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + 5) == 0 ? 0 : errno);
    say_errno("shared-memory", shmget(0x6f78, 0, 0) >= 0 ? 0 : errno);
    say_errno("message-queue", msgget(0x6f78, 0) >= 0 ? 0 : errno);
    /* KEYCTL_SEARCH is 10. */
    say_errno("key", syscall(SYS_keyctl, 10, -4, "user", "left", 0) >= 0 ? 0 : errno);
    json_close();
    return 0;
}

const struct command trace_commands[] = {
    { "leave", "TRACE...", run_leave },
    { "leave-names", "", run_leave_names },
    { "find-traces", "", run_find_traces },
    { NULL, NULL, NULL },
};
