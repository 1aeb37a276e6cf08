/* Sub-commands about sockets: reach the host, or anybody, by each family; abuse the broker's
 * socket. */
#include "hostile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int give_up_after_two_seconds(int fd)
{
    struct timeval two_seconds = { 2, 0 };

    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &two_seconds, sizeof two_seconds);
}

static int reach(int family, int type, const void *address, socklen_t length)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd < 0)
        return errno;
    (void)give_up_after_two_seconds(fd);
    if (connect(fd, address, length) != 0 || send(fd, "x", 1, MSG_NOSIGNAL) != 1)
        error = errno;
    (void)close(fd);
    return error;
}

static int reach_inet(const char *host, int port, int type)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    (void)inet_pton(AF_INET, host, &address.sin_addr);
    return reach(AF_INET, type, &address, sizeof address);
}

static int reach_inet6(const char *host, int port)
{
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

    (void)inet_pton(AF_INET6, host, &address.sin6_addr);
    return reach(AF_INET6, SOCK_STREAM, &address, sizeof address);
}

static int reach_unix(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = strlen(name);

    if (length >= sizeof address.sun_path)
        return ENAMETOOLONG;
    memcpy(address.sun_path, name, length);
    /* "@name" stands for an abstract one, which belongs to the network namespace. */
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    return reach(AF_UNIX, SOCK_STREAM, &address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

/* A port of the host's loopback, and the name of an abstract socket of the host. */
static int run_connect(int count, char **words)
{
    int port = count > 0 ? atoi(words[0]) : 80;

    json_open('{');
    say_errno("tcp4", reach_inet("127.0.0.1", port, SOCK_STREAM));
    say_errno("tcp6", reach_inet6("::1", port));
    say_errno("udp4", reach_inet("127.0.0.1", port, SOCK_DGRAM));
    say_errno("outside", reach_inet("192.0.2.1", 80, SOCK_STREAM));
    say_errno("outside_udp", reach_inet("192.0.2.1", 53, SOCK_DGRAM));
    for (int i = 1; i < count; i++)
        say_errno(words[i], reach_unix(words[i]));
    json_close();
    return 0;
}

/* A pair of sockets of its own must go on working. */
static int run_pair(int count, char **words)
{
    int pair[2] = { -1, -1 };
    char byte = 0;
    bool works = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[0], "y", 1) == 1 &&
                 read(pair[1], &byte, 1) == 1;

    (void)count;
    (void)words;
    json_open('{');
    say_bool("works", works && byte == 'y');
    json_close();
    return 0;
}

/* Sends descriptors with each message: a reader that takes them runs out of its own. */
static int run_descriptor_flood(int count, char **words)
{
    int socket = count > 0 ? atoi(words[0]) : 3;
    int messages = count > 1 ? atoi(words[1]) : 100;
    int sent = 0, error = 0;

    for (; sent < messages; sent++) {
        char control[CMSG_SPACE(sizeof(int) * 100)] = { 0 };
        struct iovec line = { "{}\n", 3 };
        struct msghdr message = {
            .msg_iov = &line,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof control,
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int descriptors[100];

        for (int i = 0; i < 100; i++)
            descriptors[i] = 0;
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof descriptors);
        memcpy(CMSG_DATA(header), descriptors, sizeof descriptors);
        if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
            error = errno;
            break;
        }
    }
    json_open('{');
    say_int("sent", sent);
    say_errno("end", error);
    json_close();
    return 0;
}

/* One line on the broker's socket, and the line that comes back. */
static int run_ask_broker(int count, char **words)
{
    static char answer[8192];
    struct pollfd ready = { .fd = 3, .events = POLLIN };
    size_t length = 0;

    if (count < 1 || dprintf(3, "%s\n", words[0]) < 0)
        return 3;
    while (length < sizeof answer && memchr(answer, '\n', length) == NULL &&
           poll(&ready, 1, 5000) == 1) {
        ssize_t n = read(3, answer + length, sizeof answer - length);

        if (n <= 0)
            break;
        length += (size_t)n;
    }
    json_open('{');
    json_key("answer");
    json_bytes(answer, length);
    json_close();
    return 0;
}

const struct command net_commands[] = {
    { "connect", "PORT [SOCKET...]", run_connect },
    { "pair", "", run_pair },
    { "descriptor-flood", "SOCKET MESSAGES", run_descriptor_flood },
    { "ask-broker", "LINE", run_ask_broker },
    { NULL, NULL, NULL },
};
