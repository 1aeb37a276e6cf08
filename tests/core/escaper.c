/* Tries what the first wall of a cell holds back, and says of each attempt how it ended: "ok" or an
 * errno. PORT is one that somebody listens at on the loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, int failed)
{
    printf("%s=%d\n", name, failed ? errno : 0);
}

static int write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0)
        return -1;
    return write(fd, "x", 1) != 1 || close(fd) < 0 ? -1 : 0;
}

static int copy(const char *from, const char *to)
{
    static char bytes[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    ssize_t n;

    if (in < 0 || out < 0)
        return -1;
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        if (write(out, bytes, (size_t)n) != n)
            return -1;
    return n < 0 || close(out) < 0 || close(in) < 0 ? -1 : 0;
}

static int start(const char *path)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)execl(path, path, "child", (char *)NULL);
        _exit(errno);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    errno = WEXITSTATUS(status);
    return errno == 0 ? 0 : -1;
}

static int tcp(int listen_there, int port)
{
    struct sockaddr_in place = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return -1;
    return listen_there ? bind(fd, (struct sockaddr *)&place, sizeof(place))
                        : connect(fd, (struct sockaddr *)&place, sizeof(place));
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "child") == 0)
        return 0;
    if (argc != 2)
        return 2;
    say("root_file", write_file("/planted") < 0);
    say("root_directory", mkdir("/planted.d", 0755) < 0);
    say("bin_file", write_file("/bin/planted") < 0);
    say("exec_workspace", copy(argv[0], "/workspace/copy") < 0 || start("/workspace/copy") < 0);
    say("connect", tcp(0, atoi(argv[1])) < 0);
    say("bind", tcp(1, 0) < 0);
    /* What a plugin may do all the same. */
    say("home_file", write_file("/home/plugin/a") < 0);
    say("tmp_file", write_file("/tmp/a") < 0);
    say("workspace_move", write_file("/workspace/a") < 0 || mkdir("/workspace/d", 0755) < 0 ||
                              rename("/workspace/a", "/workspace/d/b") < 0 ||
                              link("/workspace/d/b", "/workspace/c") < 0 ||
                              unlink("/workspace/d/b") < 0 || rmdir("/workspace/d") < 0);
    say("workspace_kinds", symlink("c", "/workspace/l") < 0 || mkfifo("/workspace/f", 0600) < 0 ||
                               truncate("/workspace/c", 0) < 0);
    say("read_self", open(argv[0], O_RDONLY | O_CLOEXEC) < 0);
    say("exec_bin", start(argv[0]) < 0);
    return 0;
}
