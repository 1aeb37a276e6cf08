/* A program to confine at the levels without namespaces. Each mode says "name=errno" of what it tries, 0
 * where that succeeded, or leaves something behind. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, int failed)
{
    printf("%s=%d\n", name, failed ? errno : 0);
}

static int write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

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
        (void)execl(path, path, "nothing", (char *)NULL);
        _exit(errno);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    errno = WEXITSTATUS(status);
    return errno == 0 ? 0 : -1;
}

/* Where a program of the cell finds its places. */
static const char *workspace(const char *name)
{
    static char path[600];
    const char *place = getenv("OXGEN_WORKSPACE");

    (void)snprintf(path, sizeof(path), "%s/%s", place != NULL ? place : ".", name);
    return path;
}

static int look(void)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    gid_t groups[64];
    unsigned caps[6] = { 0 };
    unsigned header[2] = { 0x20080522, 0 };
    struct rlimit processes;

    (void)getresuid(&r, &e, &s);
    (void)getresgid(&rg, &eg, &sg);
    (void)syscall(SYS_capget, header, caps);
    (void)getrlimit(RLIMIT_NPROC, &processes);
    printf("ruid=%u\neuid=%u\nsuid=%u\nrgid=%u\negid=%u\nsgid=%u\n", r, e, s, rg, eg, sg);
    printf("groups=%d\ncapabilities=%u\n", getgroups(64, groups),
           caps[0] | caps[1] | caps[3] | caps[4]);
    printf("no_new_privs=%d\nfilter=%d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
           prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    printf("pid=%d\nparent=%d\nprocesses=%lld\n", getpid(), getppid(),
           (long long)processes.rlim_cur);
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("descriptor=%d\n", fd);
    return 0;
}

/* Sockets without a namespace: names, and messages to names. */
static void reach_sockets(void)
{
    struct sockaddr_un place = { .sun_family = AF_UNIX, .sun_path = "\0oxgen-test-reach" };
    char bytes[8];
    int pair[2] = { -1, -1 }, raw[2], dgram[2] = { -1, -1 };
    struct sockaddr *name = (struct sockaddr *)&place;
    struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

    say("datagram_pair", socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgram) < 0);
    say("raw_pair", socketpair(AF_UNIX, SOCK_RAW, 0, raw) < 0);
    if (dgram[0] >= 0) /* the control: this is what a pair can become */
        say("disconnect", connect(dgram[0], &nowhere, sizeof(nowhere)) < 0);
    else
        say("disconnect", connect(0, &nowhere, sizeof(nowhere)) < 0);
    say("own_pair", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0);
    say("bind", bind(dgram[0] >= 0 ? dgram[0] : pair[0], name, sizeof(place)) < 0);
    say("sendto_name",
        sendto(dgram[0] >= 0 ? dgram[1] : pair[0], "x", 1, MSG_DONTWAIT, name, sizeof(place)) < 0);
    say("own_send", sendto(pair[0], "x", 1, 0, NULL, 0) != 1);
    say("own_receive", recv(pair[1], bytes, sizeof(bytes), 0) != 1);
    say("own_packets", socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, raw) < 0);
}

/* A descriptor for reading must not change what it reads, or hold up who writes it. */
static void reach_by_descriptor(int fd)
{
    int flags = 0;
    struct fsxattr more = { 0 };

    say("own_get_flags", ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0);
    say("set_flags", ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0);
    (void)ioctl(fd, FS_IOC_FSGETXATTR, &more);
    say("set_attributes", ioctl(fd, FS_IOC_FSSETXATTR, &more) < 0);
    say("lease", fcntl(fd, F_SETLEASE, F_RDLCK) < 0);
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
}

static int reach(const char *self, const char *outside, int port)
{
    struct sockaddr_in place = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd;

    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)write_file(workspace("mine"));
    reach_by_descriptor(open(workspace("mine"), O_RDONLY | O_CLOEXEC));
    say("read_outside", (fd = open(outside, O_RDONLY)) < 0);
    say("read_shadow", open("/etc/shadow", O_RDONLY) < 0);
    say("list_root", access("/root", R_OK) < 0 || open("/root", O_RDONLY | O_DIRECTORY) < 0);
    say("write_outside", write_file(outside) < 0);
    say("chmod_outside", chmod(outside, 0666) < 0);
    say("times_outside", utimensat(AT_FDCWD, outside, NULL, 0) < 0);
    say("truncate_outside", truncate(outside, 0) < 0);
    say("write_self", write_file(self) < 0);
    say("chmod_self", chmod(self, 0777) < 0);
    say("exec_workspace", copy(self, workspace("copy")) < 0 ||
                              (chmod(workspace("copy"), 0755), start(workspace("copy"))) < 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    say("tcp", fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof(place)) < 0);
    say("udp", socket(AF_INET, SOCK_DGRAM, 0) < 0);
    say("unix", socket(AF_UNIX, SOCK_STREAM, 0) < 0);
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 0) < 0);
    say("chroot", chroot(".") < 0);
    say("userns", unshare(CLONE_NEWUSER) < 0);
    say("mount", mount("x", "/tmp", "tmpfs", 0, NULL) < 0);
    say("setuid", setresuid(0, 0, 0) < 0);
    say("setgroups", setgroups(0, NULL) < 0);
    say("device", mknod(workspace("mem"), S_IFCHR | 0666, makedev(1, 1)) < 0);
    say("parent", kill(getppid(), SIGKILL) < 0);
    /* What it may do. */
    say("own_file", write_file(workspace("own")) < 0);
    reach_sockets();
    say("own_exec", start(self) < 0);
    say("own_signal", kill(getpid(), 0) < 0);
    return 0;
}

static int attack(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        pid_t pid = atoi(argv[i]);

        say("ptrace", ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0);
        say("queue", syscall(SYS_rt_sigqueueinfo, pid, SIGTERM, &(siginfo_t){ .si_code = -1 }) < 0);
        say("kill", kill(pid, SIGKILL) < 0);
    }
    (void)kill(-1, SIGKILL);
    return 0;
}

/* Daemons of each kind; the leader ends at once. */
static int leave_daemons(const char *tag)
{
    (void)tag; /* in the command line, to be found by */
    for (int kind = 0; kind < 4; kind++) {
        if (fork() != 0)
            continue;
        if (kind >= 1)
            (void)setsid();
        if (kind >= 2 && fork() != 0)
            _exit(0);
        if (kind == 2)
            (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        for (;;) {
            /* The last kind lives in one process after the other. */
            if (kind == 3 && fork() != 0)
                _exit(0);
            (void)usleep(kind == 3 ? 2000 : 1000000);
        }
    }
    return 0;
}

/* What makes a tree hard to remove. */
static int spread(int depth)
{
    if (chdir(workspace(".")) < 0)
        return 1;
    (void)symlink("/", "root");
    (void)symlink("/etc", "\xff\n -rf");
    (void)mkfifo("fifo", 0600);
    (void)mkdir("closed", 0700);
    (void)write_file("closed/file");
    (void)mkdir("closed/sub", 0700);
    (void)write_file("closed/sub/file");
    (void)chmod("closed/sub", 0);
    (void)chmod("closed", 0);
    for (int i = 0; i < depth; i++)
        if (mkdir("d", 0700) < 0 || chdir("d") < 0 || write_file("f") < 0)
            return 2;
    return 0;
}

static int many(void)
{
    int count = 0;

    while (count < 500) {
        pid_t pid = fork();

        if (pid < 0)
            break;
        if (pid == 0)
            for (;;)
                (void)pause();
        count++;
    }
    printf("children=%d\n", count);
    return 0;
}

static int hoard(void)
{
    for (;;) {
        char *bytes = malloc(1 << 20);

        if (bytes == NULL)
            return 9;
        memset(bytes, 1, 1 << 20);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* some attempts end us, or who would see to our end */
    if (strcmp(mode, "look") == 0)
        return look();
    if (strcmp(mode, "reach") == 0)
        return reach(argv[2], argv[3], atoi(argv[4]));
    if (strcmp(mode, "attack") == 0)
        return attack(argc - 2, argv + 2);
    if (strcmp(mode, "daemons") == 0)
        return leave_daemons(argv[2]);
    if (strcmp(mode, "spread") == 0)
        return spread(atoi(argv[2]));
    if (strcmp(mode, "many") == 0)
        return many();
    if (strcmp(mode, "hoard") == 0)
        return hoard();
    if (strcmp(mode, "sleep") == 0) {
        printf("pid=%d\n", getpid());
        (void)fflush(stdout);
        (void)sleep((unsigned)atoi(argv[2]));
        return 7;
    }
    return 0;
}
