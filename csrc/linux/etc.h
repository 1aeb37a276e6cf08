/* The /etc of a cell: nobody of the machine is in it. */
#ifndef OX_ETC_H
#define OX_ETC_H

#include "../core.h"

/* Make the directory etc, if it is not there, and its files. owner is the number that "nobody" has
 * inside; with the host's network its own hosts file and its resolver's are there already. */
int ox_etc_fill(int directory, uint32_t owner, int host_network);

#endif
