/* A tmpfs that is attached nowhere yet. */
#ifndef OX_TMPFS_H
#define OX_TMPFS_H

/* Make one of the given size ("64k", "1g"), mode 0755; ret_mount is a descriptor of its root that
 * move_mount takes. Needs CAP_SYS_ADMIN in the host's user namespace: device nodes work on it. */
int ox_tmpfs_make(const char *size, int *ret_mount);

#endif
