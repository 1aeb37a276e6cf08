/* Attacks on the file tree and the namespaces: 0 means that the attempt got what it wanted. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 1
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

/* The headers of older libraries have neither the name nor the number; the numbers are those of every
 * architecture. */
enum {
    OPEN_TREE_CALL = 428,
    FSOPEN_CALL = 430,
    PIDFD_OPEN_CALL = 434,
    CLONE3_CALL = 435,
    MOUNT_SETATTR_CALL = 442,
};

static int answer(long result)
{
    return result >= 0 ? 0 : -errno;
}

static int same_place(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The oldest way out of a chroot: one more chroot below the current directory, then upwards. */
static int chroot_walk(void)
{
    struct stat before, after;

    (void)mkdir("/tmp/inner", 0755);
    if (stat("/", &before) != 0 || chdir("/") != 0)
        return -errno;
    if (chroot("/tmp/inner") != 0)
        return -errno;
    for (int i = 0; i < 64; i++)
        if (chdir("..") != 0)
            return -errno;
    if (chroot(".") != 0 || stat("/", &after) != 0)
        return -errno;
    return same_place(&before, &after) ? 0 : -ENOENT;
}

/* Without any right: upwards from where the program was started. */
static int walk_up(void)
{
    for (int i = 0; i < 64; i++)
        if (chdir("..") != 0)
            return -errno;
    return access("root", F_OK) == 0 || access(".old", F_OK) == 0 ? 0 : -errno;
}

/* The same from every descriptor that the program was started with. */
static int walk_up_descriptors(void)
{
    for (int fd = 0; fd < 1024; fd++)
        if (fchdir(fd) == 0 && walk_up() == 0)
            return 0;
    return -ENOENT;
}

static int mount_tmpfs(void)
{
    return answer(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int mount_proc(void)
{
    return answer(mount("proc", "/tmp", "proc", 0, NULL));
}

static int mount_bind(void)
{
    return answer(mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL));
}

static int remount_executable(void)
{
    return answer(mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int unmount(void)
{
    return answer(umount2("/tmp", MNT_DETACH));
}

static int change_mount_attributes(void)
{
    struct {
        unsigned long long set, clear, propagation, userns;
    } attributes = { .set = MOUNT_ATTR_RDONLY };

    return answer(syscall(MOUNT_SETATTR_CALL, AT_FDCWD, "/tmp", 0, &attributes, sizeof attributes));
}

static int open_tree_clone(void)
{
    return answer(syscall(OPEN_TREE_CALL, AT_FDCWD, "/tmp", OPEN_TREE_CLONE));
}

static int open_file_system(void)
{
    return answer(syscall(FSOPEN_CALL, "tmpfs", 0));
}

static int pivot(void)
{
    /* The mount is a condition for the other call; that one is tried in any case. */
    if (mount("none", "/tmp", "tmpfs", 0, NULL) == 0 && chdir("/tmp") != 0)
        return -errno;
    return answer(syscall(SYS_pivot_root, ".", "."));
}

static int unshare_user(void)
{
    return answer(unshare(CLONE_NEWUSER));
}

static int unshare_mount(void)
{
    return answer(unshare(CLONE_NEWNS));
}

static int unshare_network(void)
{
    return answer(unshare(CLONE_NEWNET));
}

static int clone_user(void)
{
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

    if (child == 0)
        _exit(0);
    if (child > 0)
        (void)waitpid((pid_t)child, NULL, 0);
    return answer(child);
}

static int clone3_user(void)
{
    unsigned long long arguments[8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0 };
    long child = syscall(CLONE3_CALL, arguments, sizeof arguments);

    if (child == 0)
        _exit(0);
    if (child > 0)
        (void)waitpid((pid_t)child, NULL, 0);
    return answer(child);
}

static int enter_namespace(void)
{
    int self = (int)syscall(PIDFD_OPEN_CALL, getpid(), 0);

    return self < 0 ? -errno : answer(setns(self, CLONE_NEWUTS));
}

static int change_host_name(void)
{
    return answer(sethostname("owned", 5));
}

static int make_device(void)
{
    return answer(mknod("/tmp/null", S_IFCHR | 0666, makedev(1, 3)));
}

/* Files that every host has some of and no cell has any of. */
static int read_host_file(void)
{
    static const char *const files[] = { "/etc/shadow",   "/etc/fstab",      "/etc/hostname",
                                         "/etc/profile",  "/etc/os-release", "/proc/version",
                                         "/proc/cpuinfo", "/proc/kmsg" };
    int error = ENOENT;

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char byte;
        int fd = open(files[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0 && read(fd, &byte, 1) == 1)
            return 0;
        if (fd >= 0)
            (void)close(fd);
        else
            error = errno;
    }
    return -error;
}

/* Through the link that proc keeps to the root of process 1. */
static int root_of_process_1(void)
{
    return answer(open("/proc/1/root/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int environment_of_process_1(void)
{
    return answer(open("/proc/1/environ", O_RDONLY | O_CLOEXEC));
}

static int kernel_settings(void)
{
    return answer(open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC));
}

static int kernel_addresses(void)
{
    return answer(open("/proc/kallsyms", O_RDONLY | O_CLOEXEC));
}

static int control_groups(void)
{
    return answer(open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_by_handle(void)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + 128];
    } file = { .handle = { .handle_bytes = 128 } };
    int mount_id, place;

    place = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (name_to_handle_at(AT_FDCWD, "/", &file.handle, &mount_id, 0) != 0)
        return -errno;
    return answer(open_by_handle_at(place, &file.handle, O_RDONLY | O_CLOEXEC));
}

static int change_own_program(void)
{
    return answer(chmod(own_path(), 0777));
}

static int remove_own_program(void)
{
    char aside[4096];

    (void)snprintf(aside, sizeof aside, "%s.aside", own_path());
    if (rename(own_path(), aside) != 0)
        return -errno;
    (void)rename(aside, own_path());
    return 0;
}

/* ETXTBSY is what an executable that is running answers to its owner, before the kernel looks whether
 * the mount is read-only. */
static int overwrite_own_program(void)
{
    struct statvfs place;

    if (open(own_path(), O_WRONLY | O_CLOEXEC) >= 0)
        return 0;
    if (errno != ETXTBSY)
        return -errno;
    return statvfs(own_path(), &place) == 0 && place.f_flag & ST_RDONLY ? -EROFS : 0;
}

static int add_program(void)
{
    char beside[4096];

    (void)snprintf(beside, sizeof beside, "%s.new", own_path());
    return answer(open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
}

/* Whoever may link a file of the host into a writable directory may keep it there. */
static int link_own_program(void)
{
    char beside[4096];

    (void)snprintf(beside, sizeof beside, "%s.link", own_path());
    return answer(link(own_path(), beside));
}

const struct attack cage_attacks[] = {
    { "chroot_walk", chroot_walk },
    { "walk_up", walk_up },
    { "walk_up_descriptors", walk_up_descriptors },
    { "mount_tmpfs", mount_tmpfs },
    { "mount_proc", mount_proc },
    { "mount_bind", mount_bind },
    { "remount_executable", remount_executable },
    { "unmount", unmount },
    { "change_mount_attributes", change_mount_attributes },
    { "open_tree_clone", open_tree_clone },
    { "open_file_system", open_file_system },
    { "pivot", pivot },
    { "unshare_user", unshare_user },
    { "unshare_mount", unshare_mount },
    { "unshare_network", unshare_network },
    { "clone_user", clone_user },
    { "clone3_user", clone3_user },
    { "enter_namespace", enter_namespace },
    { "change_host_name", change_host_name },
    { "make_device", make_device },
    { "read_host_file", read_host_file },
    { "root_of_process_1", root_of_process_1 },
    { "environment_of_process_1", environment_of_process_1 },
    { "kernel_settings", kernel_settings },
    { "kernel_addresses", kernel_addresses },
    { "control_groups", control_groups },
    { "open_by_handle", open_by_handle },
    { "change_own_program", change_own_program },
    { "remove_own_program", remove_own_program },
    { "overwrite_own_program", overwrite_own_program },
    { "add_program", add_program },
    { "link_own_program", link_own_program },
    { NULL, NULL },
};
