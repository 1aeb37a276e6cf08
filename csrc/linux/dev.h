/* /dev of a cell. */
#ifndef OX_DEV_H
#define OX_DEV_H

/* A detached tmpfs with null, zero, full, random, urandom, the links of the standard streams and an
 * empty directory shm. Each cell has nodes of its own: locks, times and watches belong to an inode,
 * and those of the host's nodes are everybody's. */
int ox_dev_tree(int only_places, int *ret_tree);

/* Device nodes cannot be made in a user namespace. There the tree has empty files (only_places), and
 * onto each of them goes a detached mount of the host's own node. */
#define OX_DEV_NODES 5u

const char *ox_dev_name(unsigned node);

/* Make that device in a directory. */
int ox_dev_make_node(int directory, unsigned node);

/* -ENODEV: what the host has there is not that device. */
int ox_dev_node_tree(unsigned node, int *ret_tree);

#endif
