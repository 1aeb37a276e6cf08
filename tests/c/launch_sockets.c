/* What a hostile program does with sockets so that its network namespace remembers, or so that nobody
 * notices that one was made. */
#define _GNU_SOURCE 1

#include "launch_sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The error's number, 0 for none. */
static int error_of(long r)
{
    return r < 0 ? errno : 0;
}

/* A datagram for which there is no way: the namespace counts it (snmp, OutNoRoutes). */
static int leave_trace(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)sendto(fd, "x", 1, 0, (struct sockaddr *)&address, sizeof(address));
    (void)close(fd);
    return 0;
}

/* --- AF_UNIX ---------------------------------------------------------------------------------- */

static int send_descriptor(int socket, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec part = { .iov_base = (void *)"s", .iov_len = 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    *header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                .cmsg_type = SCM_RIGHTS,
                                .cmsg_len = CMSG_LEN(sizeof(int)) };
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    return error_of(sendmsg(socket, &message, MSG_NOSIGNAL));
}

static int bind_abstract(int type, const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));

    memcpy(address.sun_path + 1, name, strlen(name));
    return fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 ? fd : -1;
}

/* One that listens, one that has connected to it and waits to be accepted, with words on their way. */
static int listen_and_connect(int type)
{
    struct sockaddr_un address;
    socklen_t size = sizeof(address);
    int listener = bind_abstract(type, type == SOCK_STREAM ? "stream" : "packets");
    int other = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    if (listener < 0 || listen(listener, 8) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
        connect(other, (struct sockaddr *)&address, size) < 0 || write(other, "words", 5) != 5)
        return errno;
    return 0;
}

/* Two that are in flight in each other and that nobody else holds. */
static int leave_cycle(void)
{
    int pair[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return errno;
    r = send_descriptor(pair[0], pair[0]) | send_descriptor(pair[1], pair[1]);
    (void)close(pair[0]);
    (void)close(pair[1]);
    return r;
}

/* What can be set and asked for without a capability, on a socket that has a namespace all the same. */
static int turn_every_knob(void)
{
    struct sockaddr_un nameless = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), loopback = 1, error = 0;
    struct ifreq request = { .ifr_name = "lo" };
    char value[256];
    socklen_t size;

    if (fd < 0 || bind(fd, (struct sockaddr *)&nameless, sizeof(sa_family_t)) < 0)
        return errno;
    for (int name = 1; name < 100; name++) {
        (void)setsockopt(fd, SOL_SOCKET, name, &loopback, sizeof(loopback));
        size = sizeof(value);
        (void)getsockopt(fd, SOL_SOCKET, name, value, &size);
    }
    /* SIOCADDRT to the last of the private ones, with the name of the loopback. */
    for (unsigned long number = 0x8900; number < 0x8a00; number++)
        (void)ioctl(fd, number, &request);
    request.ifr_flags = IFF_UP;
    if (ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, &request) == 0)
        error = EINVAL; /* then this would be no test but a hole */
    return error;
}

static int storm(void)
{
    int error = listen_and_connect(SOCK_STREAM);

    error |= listen_and_connect(SOCK_SEQPACKET);
    error |= bind_abstract(SOCK_DGRAM, "datagrams") < 0;
    return error | turn_every_knob();
}

/* --- made so that nobody may notice ----------------------------------------------------------- */

static void *in_thread(void *error)
{
    *(int *)error = leave_trace();
    return NULL;
}

static int from_thread(void)
{
    pthread_t thread;
    int error = EINVAL;

    return pthread_create(&thread, NULL, in_thread, &error) | pthread_join(thread, NULL) | error;
}

/* By one that has left its session and that nobody waits for. */
static int from_stray(void)
{
    int pipes[2], error = EINVAL;

    if (pipe(pipes) < 0)
        return errno;
    if (fork() == 0) {
        (void)setsid();
        if (fork() != 0)
            _exit(0);
        error = leave_trace();
        _exit(write(pipes[1], &error, sizeof(error)) != sizeof(error));
    }
    return read(pipes[0], &error, sizeof(error)) == sizeof(error) ? error : EINVAL;
}

/* Under a filter of its own that allows everything; it cannot have a listener of its own too. */
static int under_own_filter(unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 4, .filter = code };

    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8 /* NEW_LISTENER */, &program) >= 0 ||
        errno != EBUSY)
        return EEXIST;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return errno;
    return leave_trace();
}

static void ignore(int number)
{
    (void)number;
}

/* The wait for the launcher is broken off again and again. */
static int under_signals(void)
{
    struct sigaction action = { .sa_handler = ignore };
    struct itimerval often = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
    int error, made = 0;

    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 2000; i++) {
        error = leave_trace();
        if (error != 0 && error != EINTR)
            return error;
        made += error == 0;
    }
    return made > 0 ? 0 : EINTR;
}

/* By the calls of i386, which know socketcall(SYS_SOCKET): the kernel kills for it. */
static int by_i386(void)
{
#ifdef __x86_64__
    static unsigned arguments[] = { AF_INET, SOCK_DGRAM, 0 };
    long r = 102;

    __asm__ volatile("int $0x80"
                     : "+a"(r)
                     : "b"(1L), "c"((long)(unsigned long)arguments)
                     : "memory", "r8", "r9", "r10", "r11");
#endif
    return 0;
}

/* As many as there may be, without an end. */
static int flood(void)
{
    while (fork() > 0)
        continue;
    for (;;)
        (void)close(socket(AF_INET, SOCK_DGRAM, 0));
    return 0;
}

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* As many as can be made in 300 ms, and how many may be: 64 and one each millisecond. */
static int count(void)
{
    int64_t begun = now_us();
    int made = 0, most;

    while (now_us() - begun < 300000) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        if (fd < 0)
            return errno;
        (void)close(fd);
        made++;
    }
    most = 64 + (int)((now_us() - begun) / 1000) + 1;
    return made < 10 ? ETIME : made > most ? ERANGE : 0;
}

/* Leave traces as fast as can be, until somebody makes an end. */
static int leave_traces(void)
{
    for (;;)
        (void)leave_trace();
    return 0;
}

static int leave_them_behind(void)
{
    return fork() == 0 ? leave_traces() : 0;
}

static int of_kind(const char *word)
{
    static const struct {
        const char *word;
        int family, type, protocol;
    } plain[] = {
        { "inet", AF_INET, SOCK_STREAM, 0 },    { "inet6", AF_INET6, SOCK_DGRAM, 0 },
        { "netlink", AF_NETLINK, SOCK_RAW, 0 }, { "tcp", AF_INET, SOCK_STREAM, IPPROTO_TCP },
        { "mptcp", AF_INET, SOCK_STREAM, 262 },
    };

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (strcmp(word, plain[i].word) == 0)
            return error_of(socket(plain[i].family, plain[i].type, plain[i].protocol));
    }
    if (strcmp(word, "trace") == 0)
        return leave_trace();
    if (strcmp(word, "abstract") == 0)
        return bind_abstract(SOCK_STREAM, "name") < 0 ? errno : 0;
    if (strcmp(word, "sent") == 0)
        return send_descriptor(3, socket(AF_UNIX, SOCK_STREAM, 0));
    if (strcmp(word, "storm") == 0)
        return storm();
    if (strcmp(word, "cycle") == 0)
        return leave_cycle();
    if (strcmp(word, "thread") == 0)
        return from_thread();
    if (strcmp(word, "stray") == 0)
        return from_stray();
    if (strcmp(word, "own-filter") == 0)
        return under_own_filter(SECCOMP_RET_ALLOW);
    if (strcmp(word, "own-trace") == 0)
        return under_own_filter(SECCOMP_RET_TRACE);
    if (strcmp(word, "signals") == 0)
        return under_signals();
    if (strcmp(word, "i386") == 0)
        return by_i386();
    if (strcmp(word, "count") == 0)
        return count();
    if (strcmp(word, "flood") == 0)
        return flood();
    if (strcmp(word, "traces") == 0)
        return leave_traces();
    return strcmp(word, "left-behind") == 0 ? leave_them_behind() : EINVAL;
}

int probe_socket(const char *word)
{
    printf("error=%d\n", of_kind(word));
    return 0;
}
