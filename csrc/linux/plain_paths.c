/* Paths of a cell as the host has them. */
#include "plain_paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char room[16 * 1024];

struct writing {
    const char *prefix;
    size_t used;
};

/* name (with its '=', or empty), prefix, path. NULL: no room. */
static char *put(struct writing *writing, const char *name, size_t name_size, const char *path)
{
    char *at = room + writing->used;
    size_t left = sizeof(room) - writing->used;
    int size = snprintf(at, left, "%.*s%s%s", (int)name_size, name, writing->prefix, path);

    if (size < 0 || (size_t)size >= left)
        return NULL;
    writing->used += (size_t)size + 1;
    return at;
}

static const char *const variables[] = {
    "HOME=", "PATH=", "TMPDIR=", "TMP=", "TEMP=", "OXGEN_WORKSPACE=",
};

static int put_variable(struct writing *writing, char **text)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        size_t size = strlen(variables[i]);

        if (strncmp(*text, variables[i], size) != 0 || (*text)[size] != '/')
            continue;
        *text = put(writing, *text, size, *text + size);
        return *text == NULL ? -ENAMETOOLONG : 0;
    }
    return 0;
}

/* A script is the argument of its interpreter, after options of ours. */
static int put_script(struct writing *writing, const char *program, char **arguments)
{
    for (char **text = arguments; *text != NULL; text++) {
        if (strcmp(*text, program) != 0)
            continue;
        *text = put(writing, "", 0, program);
        return *text == NULL ? -ENAMETOOLONG : 0;
    }
    return 0;
}

int ox_paths_prefix(const char *prefix, const char *program, struct ox_step_plan *plan,
                    char **strings)
{
    struct writing writing = { .prefix = prefix };
    int r = 0;

    plan->cwd = put(&writing, "", 0, plan->cwd);
    if (strcmp(plan->path, program) == 0)
        plan->path = put(&writing, "", 0, program);
    else
        r = put_script(&writing, program, strings);
    if (r < 0 || plan->cwd == NULL || plan->path == NULL)
        return -ENAMETOOLONG;
    while (*strings != NULL)
        strings++;
    for (strings++; *strings != NULL && r == 0; strings++)
        r = put_variable(&writing, strings);
    return r;
}
