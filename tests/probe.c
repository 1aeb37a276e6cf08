/* The confined program of the test-suite: without a sub-command it prints what it sees as one JSON
 * object.
 *
 * Build: cc -std=gnu11 -O1 -static -pthread tests/probe.c tests/hostile/[a-z]*.c
 * Words that begin with "tag=" are ignored; tests find the processes of a run by them. Never start
 * a sub-command outside a sandbox: tests/control/unconfined.py is the one place that may. */
#include "hostile/hostile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Of the kernel, as signal numbers are; the C library's sigset_t hides 32 and 33. */
typedef unsigned long long kernel_mask;

const char *own_path(void)
{
    return (const char *)getauxval(AT_EXECFN);
}

static void ids(void)
{
    uid_t ruid = 0, euid = 0, suid = 0;
    gid_t rgid = 0, egid = 0, sgid = 0;
    gid_t groups[256];
    int count;

    (void)getresuid(&ruid, &euid, &suid);
    (void)getresgid(&rgid, &egid, &sgid);

    json_key("uids");
    json_open('{');
    say_int("real", ruid);
    say_int("effective", euid);
    say_int("saved", suid);
    say_int("filesystem", (uid_t)setfsuid((uid_t)-1));
    json_close();

    json_key("gids");
    json_open('{');
    say_int("real", rgid);
    say_int("effective", egid);
    say_int("saved", sgid);
    say_int("filesystem", (gid_t)setfsgid((gid_t)-1));
    json_close();

    json_key("groups");
    json_open('[');
    count = getgroups(256, groups);
    for (int i = 0; i < count; i++)
        json_int(groups[i]);
    json_close();
}

static void capabilities(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { 0 } };
    unsigned long long bounding = 0, ambient = 0;

    if (syscall(SYS_capget, &header, sets) != 0)
        memset(sets, 0xff, sizeof sets);
    for (unsigned long cap = 0; cap < 64; cap++) {
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
            bounding |= 1ULL << cap;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
            ambient |= 1ULL << cap;
    }

    json_key("capabilities");
    json_open('{');
    say_int("inheritable",
            (long long)((unsigned long long)sets[1].inheritable << 32 | sets[0].inheritable));
    say_int("permitted",
            (long long)((unsigned long long)sets[1].permitted << 32 | sets[0].permitted));
    say_int("effective",
            (long long)((unsigned long long)sets[1].effective << 32 | sets[0].effective));
    say_int("bounding", (long long)bounding);
    say_int("ambient", (long long)ambient);
    json_close();

    say_int("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    say_int("seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    say_int("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    say_int("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    say_int("keep_capabilities", prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
}

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFIFO: return "pipe";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "character";
    case S_IFBLK: return "block";
    case S_IFDIR: return "directory";
    case S_IFREG: return "file";
    case S_IFLNK: return "link";
    default: return "other";
    }
}

static void descriptors(void)
{
    static const char *const access_names[] = { "read", "write", "both", "none" };

    json_key("descriptors");
    json_open('{');
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status = { 0 };
        char number[16];
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
            continue;
        (void)fstat(fd, &status);
        (void)snprintf(number, sizeof number, "%d", fd);
        json_key(number);
        json_open('{');
        say_text("type", type_name(status.st_mode));
        say_text("access", access_names[flags & O_ACCMODE]);
        say_bool("nonblocking", (flags & O_NONBLOCK) != 0);
        say_bool("terminal", isatty(fd) == 1);
        say_int("device", (long long)status.st_rdev);
        json_close();
    }
    json_close();
}

static void signals(void)
{
    kernel_mask blocked = 0, pending = 0;

    (void)syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, sizeof blocked);
    (void)syscall(SYS_rt_sigpending, &pending, sizeof pending);

    json_key("signals");
    json_open('{');
    json_key("blocked");
    json_open('[');
    for (int sig = 1; sig <= 64; sig++)
        if (blocked >> (sig - 1) & 1)
            json_int(sig);
    json_close();
    json_key("pending");
    json_open('[');
    for (int sig = 1; sig <= 64; sig++)
        if (pending >> (sig - 1) & 1)
            json_int(sig);
    json_close();
    json_key("not_default");
    json_open('[');
    for (int sig = 1; sig <= 64; sig++) {
        /* As the kernel has it: handler, flags, restorer, mask. */
        unsigned long action[4] = { 0 };

        if (syscall(SYS_rt_sigaction, sig, NULL, action, sizeof(kernel_mask)) == 0 &&
            action[0] != 0)
            json_int(sig);
    }
    json_close();
    json_close();
}

static void scheduling(void)
{
    static const int timers[] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
    unsigned char cpus[1024] = { 0 };
    struct sched_parameters {
        int priority;
    } parameters = { -1 };
    long length = syscall(SYS_sched_getaffinity, 0, sizeof cpus, cpus);
    long policy = syscall(SYS_sched_getscheduler, 0);

    (void)syscall(SYS_sched_getparam, 0, &parameters);
    errno = 0;
    say_int("nice", getpriority(PRIO_PROCESS, 0));
    say_int("scheduling_policy", policy);
    say_int("scheduling_priority", parameters.priority);
    say_int("io_priority", syscall(SYS_ioprio_get, 1, 0));
    say_int("timer_slack_ns", prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));

    json_key("affinity");
    json_open('[');
    for (long cpu = 0; cpu < length * 8; cpu++)
        if (cpus[cpu / 8] >> (cpu % 8) & 1)
            json_int(cpu);
    json_close();

    json_key("timers");
    json_open('[');
    for (int i = 0; i < 3; i++) {
        struct itimerval timer = { 0 };

        if (getitimer(timers[i], &timer) == 0 &&
            (timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0))
            json_int(timers[i]);
    }
    json_close();
}

static void limits(void)
{
    static const struct {
        const char *name;
        int resource;
    } known[] = {
        { "cpu", RLIMIT_CPU },           { "fsize", RLIMIT_FSIZE },
        { "data", RLIMIT_DATA },         { "stack", RLIMIT_STACK },
        { "core", RLIMIT_CORE },         { "rss", RLIMIT_RSS },
        { "nproc", RLIMIT_NPROC },       { "nofile", RLIMIT_NOFILE },
        { "memlock", RLIMIT_MEMLOCK },   { "as", RLIMIT_AS },
        { "locks", RLIMIT_LOCKS },       { "sigpending", RLIMIT_SIGPENDING },
        { "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },
        { "rtprio", RLIMIT_RTPRIO },     { "rttime", RLIMIT_RTTIME },
    };

    json_key("rlimits");
    json_open('{');
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct rlimit limit = { 0 };

        if (getrlimit((unsigned)known[i].resource, &limit) != 0)
            continue;
        json_key(known[i].name);
        json_open('[');
        json_int(limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)limit.rlim_cur);
        json_int(limit.rlim_max == RLIM_INFINITY ? -1 : (long long)limit.rlim_max);
        json_close();
    }
    json_close();
}

static void entries(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;

    json_key("entries");
    if (directory == NULL) {
        json_errno(errno);
        return;
    }
    json_open('[');
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            json_text(entry->d_name);
    json_close();
    (void)closedir(directory);
}

/* A place of the file tree: what it is, how it is mounted, what is in it. */
static void place(const char *path)
{
    struct stat status;
    struct statvfs volume = { 0 };
    struct statfs raw = { 0 };
    char names[1024];
    ssize_t length;

    if (stat(path, &status) != 0)
        return;
    (void)statvfs(path, &volume);
    (void)statfs(path, &raw);
    length = listxattr(path, names, sizeof names);

    json_key(path);
    json_open('{');
    say_text("type", type_name(status.st_mode));
    say_int("mode", status.st_mode & 07777);
    say_int("uid", status.st_uid);
    say_int("gid", status.st_gid);
    say_int("links", (long long)status.st_nlink);
    say_int("device", (long long)status.st_dev);
    say_int("inode", (long long)status.st_ino);
    say_int("modified_ns", status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec);
    say_int("changed_ns", status.st_ctim.tv_sec * 1000000000LL + status.st_ctim.tv_nsec);
    say_int("filesystem", (long long)raw.f_type);
    say_bool("read_only", (volume.f_flag & ST_RDONLY) != 0);
    say_bool("nosuid", (volume.f_flag & ST_NOSUID) != 0);
    say_bool("nodev", (volume.f_flag & ST_NODEV) != 0);
    say_bool("noexec", (volume.f_flag & ST_NOEXEC) != 0);
    say_int("bytes", (long long)volume.f_blocks * (long long)volume.f_frsize);
    say_int("free_bytes", (long long)volume.f_bfree * (long long)volume.f_frsize);
    say_int("inodes", (long long)volume.f_files);
    say_int("free_inodes", (long long)volume.f_ffree);
    json_key("xattrs");
    json_open('[');
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1)
        json_text(names + at);
    json_close();
    if (S_ISDIR(status.st_mode))
        entries(path);
    json_close();
}

static void places(void)
{
    static const char *const looked_at[] = {
        "/",    "/bin", "/home", "/home/plugin", "/workspace", "/tmp", "/dev", "/dev/shm", "/proc",
        "/etc", "/usr", "/lib",  "/sys",         "/root",      "/run", "/var", "/boot",    "/opt"
    };

    json_key("places");
    json_open('{');
    for (size_t i = 0; i < sizeof looked_at / sizeof looked_at[0]; i++)
        place(looked_at[i]);
    if (own_path() != NULL)
        place(own_path());
    json_close();
}

/* By index and through whatever socket there is: SIOCGIFCONF leaves out interfaces that have no
 * address. */
static void interfaces(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    json_key("interfaces");
    if (fd < 0) {
        json_errno(errno);
        return;
    }
    json_open('{');
    for (int index = 1; index <= 64; index++) {
        struct ifreq request = { .ifr_ifindex = index };

        if (ioctl(fd, SIOCGIFNAME, &request) != 0)
            continue;
        json_key(request.ifr_name);
        (void)ioctl(fd, SIOCGIFFLAGS, &request);
        json_text((request.ifr_flags & IFF_UP) != 0 ? "up" : "down");
    }
    json_close();
    (void)close(fd);
}

static void process(void)
{
    struct utsname names = { 0 };
    struct timespec used = { 0 };
    char cwd[4096] = "";
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    int parent_death = -1, subreaper = -1;
    mode_t mask = umask(022);

    (void)umask(mask);
    if (getcwd(cwd, sizeof cwd) == NULL)
        (void)snprintf(cwd, sizeof cwd, "(%s)", strerrorname_np(errno));
    (void)uname(&names);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    (void)prctl(PR_GET_PDEATHSIG, &parent_death, 0, 0, 0);
    (void)prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);

    say_int("pid", getpid());
    say_int("ppid", getppid());
    say_int("sid", getsid(0));
    say_int("pgid", getpgid(0));
    say_text("path", own_path() != NULL ? own_path() : "");
    say_text("cwd", cwd);
    say_int("umask", mask);
    say_text("hostname", names.nodename);
    say_text("domainname", names.domainname);
    say_int("personality", personality(0xffffffff));
    say_int("parent_death_signal", parent_death);
    say_int("subreaper", subreaper);
    say_bool("terminal", terminal >= 0);
    say_int("cpu_ns", used.tv_sec * 1000000000LL + used.tv_nsec);
    if (terminal >= 0)
        (void)close(terminal);
}

static int portrait(int argc, char **argv)
{
    json_open('{');
    json_key("argv");
    json_open('[');
    for (int i = 0; i < argc; i++)
        json_text(argv[i]);
    json_close();
    json_key("environment");
    json_open('[');
    for (char **variable = environ; *variable != NULL; variable++)
        json_text(*variable);
    json_close();
    /* First, before anything below opens one of its own. */
    descriptors();
    ids();
    capabilities();
    signals();
    scheduling();
    limits();
    places();
    interfaces();
    process();
    json_close();
    return 0;
}

int main(int argc, char **argv)
{
    static const struct command *const tables[] = {
        end_commands, file_commands, net_commands, tree_commands, trace_commands, attack_commands
    };
    char *words[256];
    int count = 0;

    for (int i = 1; i < argc && count < 255; i++)
        if (strncmp(argv[i], "tag=", 4) != 0)
            words[count++] = argv[i];
    words[count] = NULL;
    if (count == 0)
        return portrait(argc, argv);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct command *row = tables[i]; row->name != NULL; row++)
            if (strcmp(row->name, words[0]) == 0)
                return row->run(count - 1, words + 1);
    (void)fprintf(stderr, "probe: no sub-command %s; there are:\n", words[0]);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct command *row = tables[i]; row->name != NULL; row++)
            (void)fprintf(stderr, "  %s %s\n", row->name, row->arguments);
    return 2;
}
