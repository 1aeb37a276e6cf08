/* /dev of a cell. */
#ifndef OX_DEV_H
#define OX_DEV_H

/* A detached tmpfs with null, zero, full, random, urandom, the links of the standard streams and an
 * empty directory shm. Each cell has nodes of its own: locks, times and watches belong to an inode,
 * and those of the host's nodes are everybody's. */
int ox_dev_tree(int *ret_tree);

#endif
