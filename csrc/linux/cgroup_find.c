/* Where the controllers of cgroups are. */
#include "cgroup_find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../posix/fd.h"
#include "cgroup.h"
#include "cgroup_files.h"
#include "missing.h"

/* The lines we want are short; an overlay with many layers may write one of many kilobytes. */
#define LINE_SIZE 4096

struct lines {
    int fd;
    size_t size;
    size_t at;
    char buffer[LINE_SIZE];
};

/* The next line without its newline. A line that is too long is left out. 1, 0 at the end, or a
 * negative errno. */
static int next_line(struct lines *lines, char *ret_line)
{
    size_t length = 0;

    for (;;) {
        char c;

        if (lines->at == lines->size) {
            ssize_t n;

            do
                n = read(lines->fd, lines->buffer, sizeof(lines->buffer));
            while (n < 0 && errno == EINTR);
            if (n < 0)
                return -errno;
            if (n == 0)
                return 0; /* what has no newline is no line */
            lines->size = (size_t)n;
            lines->at = 0;
        }
        c = lines->buffer[lines->at++];
        if (c != '\n') {
            if (length < LINE_SIZE)
                ret_line[length] = c;
            length++;
            continue;
        }
        if (length < LINE_SIZE) {
            ret_line[length] = '\0';
            return 1;
        }
        length = 0;
    }
}

const char *ox_controller_name(int controller, int version)
{
    static const char *const names[OX_CONTROLLERS] = { "memory", "pids", "cpuacct", "cpu" };

    if (controller == OX_CONTROLLER_CPU && version == 2)
        return "cpu.stat";
    return names[controller];
}

/* --- /proc/self/cgroup
 * ------------------------------------------------------------------------- */

static int keep_path(struct ox_cgroup_place *place, int version, const char *path)
{
    if (strlen(path) >= sizeof(place->path))
        return -ENAMETOOLONG;
    place->version = version;
    (void)strcpy(place->path, path);
    return 0;
}

/* Lines are "number:controllers:path"; version 2 is "0::path". */
static int find_paths(int cgroup, struct ox_cgroup_place *places)
{
    struct lines lines = { .fd = cgroup };
    char line[LINE_SIZE];
    int r;

    while ((r = next_line(&lines, line)) > 0) {
        char *controllers = strchr(line, ':');
        char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        int unified;

        if (path == NULL)
            continue;
        *controllers++ = '\0';
        *path++ = '\0';
        unified = strcmp(line, "0") == 0 && *controllers == '\0';
        for (int i = 0; i < OX_CONTROLLERS; i++) {
            int attached = ox_cgroup_has_word(controllers, ox_controller_name(i, 1), ",");

            if (!attached && !(unified && places[i].version == 0))
                continue;
            r = keep_path(&places[i], attached ? 1 : 2, path);
            if (r < 0)
                return r;
            (void)snprintf(places[i].controllers, sizeof(places[i].controllers), "%s", controllers);
        }
    }
    return r;
}

/* --- /proc/self/mountinfo
 * ---------------------------------------------------------------------- */

struct mount {
    unsigned major, minor;
    char *root;
    char *point;
    char *type;
    char *options; /* of the file system: for version 1 its controllers */
};

/* Space, tab, newline and backslash come as a backslash and three octal digits. */
static void unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0';) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' &&
            in[3] >= '0' && in[3] <= '7') {
            *out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 4;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

static char *word(char **rest)
{
    char *found = strsep(rest, " ");

    return found != NULL && *found != '\0' ? found : NULL;
}

/* "36 35 98:0 /root /point options [optional ...] - type source options" */
static int parse_mount(char *line, struct mount *ret)
{
    char *rest = line;
    char *numbers, *tag;

    if (word(&rest) == NULL || word(&rest) == NULL)
        return -EBADMSG;
    numbers = word(&rest);
    ret->root = word(&rest);
    ret->point = word(&rest);
    if (numbers == NULL || ret->root == NULL || ret->point == NULL || word(&rest) == NULL)
        return -EBADMSG;
    if (sscanf(numbers, "%u:%u", &ret->major, &ret->minor) != 2)
        return -EBADMSG;
    while ((tag = word(&rest)) != NULL && strcmp(tag, "-") != 0)
        ;
    ret->type = word(&rest);
    if (tag == NULL || ret->type == NULL)
        return -EBADMSG;
    (void)strsep(&rest, " "); /* the source may be empty */
    ret->options = rest == NULL ? NULL : word(&rest);
    if (ret->options == NULL)
        return -EBADMSG;
    unescape(ret->root);
    unescape(ret->point);
    return 0;
}

/* What is left of path below root, or NULL. */
static const char *below(const char *path, const char *root)
{
    size_t size = strcmp(root, "/") == 0 ? 0 : strlen(root);

    if (strncmp(path, root, size) != 0 || (path[size] != '/' && path[size] != '\0'))
        return NULL;
    return strcmp(path + size, "/") == 0 ? "" : path + size;
}

/* Open the mount and make sure that it is what the line says: another one may lie on top of it. */
static int open_mount(const struct mount *mount, int version, dev_t *ret_device)
{
    struct statfs filesystem;
    struct stat status;
    int fd = open(mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int r = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) < 0 || fstatfs(fd, &filesystem) < 0)
        r = -errno;
    else if ((unsigned long)filesystem.f_type != (version == 1
                                                      ? (unsigned long)CGROUP_SUPER_MAGIC
                                                      : (unsigned long)CGROUP2_SUPER_MAGIC) ||
             status.st_dev != makedev(mount->major, mount->minor))
        r = -ESTALE;
    if (r < 0) {
        ox_close(&fd);
        return r;
    }
    *ret_device = status.st_dev;
    return fd;
}

/* 0 when this mount shows the place. */
static int try_mount(const struct mount *mount, int controller, struct ox_cgroup_place *place)
{
    char path[OX_CGROUP_PATH];
    const char *rest;
    dev_t device = 0;
    int own;
    int fd;

    if (strcmp(mount->type, place->version == 1 ? "cgroup" : "cgroup2") != 0)
        return -ENOENT;
    if (place->version == 1 &&
        !ox_cgroup_has_word(mount->options, ox_controller_name(controller, 1), ","))
        return -ENOENT;
    rest = below(place->path, mount->root);
    if (rest == NULL)
        return -EXDEV;
    (void)strcpy(path, rest);
    fd = open_mount(mount, place->version, &device);
    if (fd < 0)
        return fd;
    own = ox_cgroup_open_below(fd, path, strlen(path));
    if (own < 0) {
        ox_close(&fd);
        return own;
    }
    ox_close(&own);
    (void)strcpy(place->path, path);
    place->device = device;
    place->mount = fd;
    return 0;
}

static int find_mounts(int mountinfo, struct ox_cgroup_place *places, int *ret_reasons)
{
    struct lines lines = { .fd = mountinfo };
    char line[LINE_SIZE];
    struct mount mount;
    int r;

    while ((r = next_line(&lines, line)) > 0) {
        if (parse_mount(line, &mount) < 0)
            continue;
        for (int i = 0; i < OX_CONTROLLERS; i++)
            if (places[i].version != 0 && places[i].mount < 0) {
                int reason = try_mount(&mount, i, &places[i]);

                if (reason < 0 && reason != -ENOENT)
                    ret_reasons[i] = reason;
            }
    }
    return r;
}

/* In /run: below /sys nothing can be made where no tmpfs is mounted, and directories may be missing. */
static void explain_mounting(struct ox_cgroup_problem *problem,
                             const struct ox_cgroup_place *places, int first, int end)
{
    char *text = problem->remedy;
    size_t used = 0;

    for (int i = first; i < end; i++) {
        const struct ox_cgroup_place *place = &places[i];
        const char *name = place->version == 1 ? place->controllers : "unified";
        int known = place->version == 0 || place->mount >= 0;

        for (int k = first; k < i; k++)
            known |=
                places[k].version == place->version &&
                (place->version == 2 || strcmp(places[k].controllers, place->controllers) == 0);
        if (known || used >= sizeof(problem->remedy))
            continue;
        used += (size_t)snprintf(
            text + used, sizeof(problem->remedy) - used,
            "%smkdir -p /run/cgroup/%s && mount -t %s%s%s none /run/cgroup/%s",
            used == 0 ? "as root: " : " && ", name, place->version == 1 ? "cgroup" : "cgroup2",
            place->version == 1 ? " -o " : "", place->version == 1 ? name : "", name);
    }
}

static void explain(struct ox_cgroup_problem *problem, int controller,
                    const struct ox_cgroup_place *places, int reason)
{
    const struct ox_cgroup_place *place = &places[controller];
    const char *name = ox_controller_name(controller, place->version);

    if (place->version == 0) {
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "the kernel offers no cgroup controller \"%s\" (/proc/self/cgroup)", name);
        (void)snprintf(problem->remedy, sizeof(problem->remedy),
                       "boot with cgroup_enable=%s, or use a kernel built with it", name);
        return;
    }
    if (reason == -EXDEV) {
        (void)snprintf(problem->cause, sizeof(problem->cause),
                       "our own cgroup is outside of what is mounted for \"%s\": %.120s", name,
                       place->path);
        (void)snprintf(problem->remedy, sizeof(problem->remedy),
                       "mount the cgroup file system again inside this cgroup namespace");
        return;
    }
    (void)snprintf(problem->cause, sizeof(problem->cause),
                   "no mount of cgroup version %d shows our own cgroup for \"%s\": %s",
                   place->version, name, strerror(-reason));
    if (controller == OX_CONTROLLER_RATE)
        explain_mounting(problem, places, controller, controller + 1);
    else
        explain_mounting(problem, places, 0, OX_CONTROLLERS_NEEDED);
}

int ox_cgroup_find(int cgroup, int mountinfo, struct ox_cgroup_place ret[OX_CONTROLLERS],
                   struct ox_cgroup_problem *ret_problem)
{
    struct ox_cgroup_place places[OX_CONTROLLERS];
    int reasons[OX_CONTROLLERS];
    int r;

    for (int i = 0; i < OX_CONTROLLERS; i++) {
        memset(&places[i], 0, sizeof(places[i]));
        places[i].mount = -1;
        reasons[i] = -ENOENT;
    }
    r = find_paths(cgroup, places);
    if (r == 0)
        r = find_mounts(mountinfo, places, reasons);
    if (r < 0) {
        (void)snprintf(ret_problem->cause, sizeof(ret_problem->cause),
                       "/proc/self/cgroup and /proc/self/mountinfo cannot be read: %s",
                       strerror(-r));
        (void)snprintf(ret_problem->remedy, sizeof(ret_problem->remedy), "mount /proc");
        goto out;
    }
    for (int i = 0; i < OX_CONTROLLERS_NEEDED; i++)
        if (places[i].mount < 0) {
            r = reasons[i];
            explain(ret_problem, i, places, r);
            goto out;
        }
    if (places[OX_CONTROLLER_RATE].mount < 0)
        explain(ret_problem, OX_CONTROLLER_RATE, places, reasons[OX_CONTROLLER_RATE]);
    memcpy(ret, places, sizeof(places));
    return 0;
out:
    for (int i = 0; i < OX_CONTROLLERS; i++)
        ox_close(&places[i].mount);
    return r;
}
