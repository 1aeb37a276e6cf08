/* Pid 1 of a throw-away virtual machine: mounts what the tests need, runs them, powers off.
 *
 * The kernel's command line says which cgroups there are: layout=v2 (all controllers in version 2) or layout=together
 * (one hierarchy of version 1 with cpuset, cpuacct, memory and pids). Started under another name than init it is
 * /bin/true. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int run(const char *path)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)execl(path, path, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int mount_at(const char *type, const char *point, const char *options)
{
    (void)mkdir(point, 0755);
    if (mount(type, point, type, 0, options) == 0)
        return 0;
    perror(point);
    return -1;
}

int main(int argc, char **argv)
{
    static const char *const tests[] = { "/test_seccomp_table", "/test_seccomp",
                                         "/test_cgroup_text", "/test_cgroup", "/test_cgroup_base" };
    const char *layout = getenv("layout");
    int failed = 0;

    if (argc < 1 || strcmp(argv[0], "/init") != 0)
        return 0;
    failed |= mount_at("proc", "/proc", NULL);
    failed |= mount_at("sysfs", "/sys", NULL);
    (void)mkdir("/tmp", 01777);
    if (layout != NULL && strcmp(layout, "together") == 0)
        failed |= mount_at("cgroup", "/cg", "cpuset,cpuacct,memory,pids");
    else
        failed |= mount_at("cgroup2", "/sys/fs/cgroup", NULL);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        int r = access(tests[i], X_OK) == 0 ? run(tests[i]) : -1;

        printf("%s: exit status %d\n", tests[i], r);
        failed |= r != 0;
    }
    printf("RESULT %s: %s\n", layout == NULL ? "v2" : layout, failed ? "FAILED" : "passed");
    (void)fflush(NULL);
    sync();
    (void)reboot(RB_POWER_OFF);
    return 1;
}
