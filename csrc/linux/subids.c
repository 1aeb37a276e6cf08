/* Ids that the administrator has given to a user. */
#include "subids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_SIZE 64
#define RANGES_MAX 16

struct range {
    uint32_t base, count;
};

/* The name that passwd(5) has for a uid; "" where it is another service's (LDAP), whose users newuidmap
 * knows and we do not: they get one uid. */
static void find_name(uint32_t uid, char ret_name[NAME_MAX_SIZE])
{
    FILE *file = fopen("/etc/passwd", "re");
    char line[1024];

    ret_name[0] = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char name[NAME_MAX_SIZE];
        unsigned number;

        if (sscanf(line, "%63[^:]:%*[^:]:%u:", name, &number) == 2 && number == uid) {
            memcpy(ret_name, name, sizeof(name));
            break;
        }
    }
    if (file != NULL)
        (void)fclose(file);
}

static int read_ranges(const char *path, uint32_t uid, const char *name, struct range *ret_ranges)
{
    FILE *file = fopen(path, "re");
    char line[256], number[16];
    int count = 0;

    (void)snprintf(number, sizeof(number), "%u", uid);
    while (file != NULL && count < RANGES_MAX && fgets(line, sizeof(line), file) != NULL) {
        char owner[NAME_MAX_SIZE];
        unsigned base, size;

        if (sscanf(line, "%63[^:]:%u:%u", owner, &base, &size) != 3 ||
            (strcmp(owner, number) != 0 && (name[0] == '\0' || strcmp(owner, name) != 0)))
            continue;
        /* Ids below are the system's own, and a range must not wrap around. */
        if (base >= 1000 && size >= 2 && size < UINT32_MAX - base)
            ret_ranges[count++] = (struct range){ base, size };
    }
    if (file != NULL)
        (void)fclose(file);
    return count;
}

uint32_t ox_subids_find(uint32_t uid, uint32_t *ret_base)
{
    struct range uids[RANGES_MAX], gids[RANGES_MAX];
    char name[NAME_MAX_SIZE];
    uint32_t widest = 0;
    int uids_count, gids_count;

    if (access(OX_NEWUIDMAP, X_OK) < 0 || access(OX_NEWGIDMAP, X_OK) < 0)
        return 0;
    find_name(uid, name);
    uids_count = read_ranges("/etc/subuid", uid, name, uids);
    gids_count = read_ranges("/etc/subgid", uid, name, gids);
    for (int u = 0; u < uids_count; u++) {
        for (int g = 0; g < gids_count; g++) {
            uint32_t base = uids[u].base > gids[g].base ? uids[u].base : gids[g].base;
            uint32_t uids_end = uids[u].base + uids[u].count;
            uint32_t gids_end = gids[g].base + gids[g].count;
            uint32_t end = uids_end < gids_end ? uids_end : gids_end;

            if (end > base && end - base > widest) {
                widest = end - base;
                *ret_base = base;
            }
        }
    }
    return widest >= 2 ? widest : 0;
}
