/* Names of stages and levels, in the words that error objects and documents use. */
#include "core.h"

static const char *const names[OX_STAGE_COUNT] = {
    [OX_STAGE_NONE] = "none",
    [OX_STAGE_LAUNCHER] = "launcher",
    [OX_STAGE_HANDSHAKE] = "handshake",
    [OX_STAGE_SCHEDULING] = "scheduling",
    [OX_STAGE_USER_NAMESPACE] = "user_namespace",
    [OX_STAGE_UID_RANGE] = "uid_range",
    [OX_STAGE_STORE] = "store",
    [OX_STAGE_CGROUP_BASE] = "cgroup_base",
    [OX_STAGE_REQUEST] = "request",
    [OX_STAGE_QUEUE] = "queue",
    [OX_STAGE_UID_PAIR] = "uid_pair",
    [OX_STAGE_PROGRAM] = "program",
    [OX_STAGE_TREE] = "tree",
    [OX_STAGE_CGROUP] = "cgroup",
    [OX_STAGE_CGROUP_RATE] = "cgroup_rate",
    [OX_STAGE_CLONE] = "clone",
    [OX_STAGE_CGROUP_JOIN] = "cgroup_join",
    [OX_STAGE_ID_MAP] = "id_map",
    [OX_STAGE_CELL_IDS] = "cell_ids",
    [OX_STAGE_CGROUP_NAMESPACE] = "cgroup_namespace",
    [OX_STAGE_HOSTNAME] = "hostname",
    [OX_STAGE_PROPAGATION] = "propagation",
    [OX_STAGE_ROOT] = "root",
    [OX_STAGE_WRITABLE] = "writable",
    [OX_STAGE_MOUNT] = "mount",
    [OX_STAGE_DEV] = "dev",
    [OX_STAGE_PROC] = "proc",
    [OX_STAGE_ETC] = "etc",
    [OX_STAGE_SEAL] = "seal",
    [OX_STAGE_PIVOT] = "pivot",
    [OX_STAGE_LANDLOCK] = "landlock",
    [OX_STAGE_WARDEN_DESCRIPTORS] = "warden_descriptors",
    [OX_STAGE_WARDEN_RLIMITS] = "warden_rlimits",
    [OX_STAGE_CAPABILITIES] = "capabilities",
    [OX_STAGE_PARENT_DEATH] = "parent_death",
    [OX_STAGE_NO_NEW_PRIVS] = "no_new_privs",
    [OX_STAGE_SECCOMP] = "seccomp",
    [OX_STAGE_WARDEN] = "warden",
    [OX_STAGE_FILES] = "files",
    [OX_STAGE_OOM_SCORE] = "oom_score",
    [OX_STAGE_FORK] = "fork",
    [OX_STAGE_SESSION] = "session",
    [OX_STAGE_STREAMS] = "streams",
    [OX_STAGE_RLIMITS] = "rlimits",
    [OX_STAGE_CHROOT] = "chroot",
    [OX_STAGE_GID] = "gid",
    [OX_STAGE_UID] = "uid",
    [OX_STAGE_WORKDIR] = "workdir",
    [OX_STAGE_DESCRIPTORS] = "descriptors",
    [OX_STAGE_SIGNALS] = "signals",
    [OX_STAGE_POLICY] = "policy",
    [OX_STAGE_FILTER] = "filter",
    [OX_STAGE_EXEC] = "exec",
};

static const char *const levels[OX_LEVEL_COUNT] = {
    [OX_LEVEL_NAMESPACES] = "namespaces",
    [OX_LEVEL_CHROOT] = "chroot",
    [OX_LEVEL_LANDLOCK] = "landlock",
};

const char *ox_level_name(int level)
{
    return level < 0 || level >= OX_LEVEL_COUNT ? "unknown" : levels[level];
}

const char *ox_stage_name(int stage)
{
    if (stage < 0 || stage >= OX_STAGE_COUNT || names[stage] == NULL)
        return "unknown";
    return names[stage];
}
