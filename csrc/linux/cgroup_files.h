/* Directories and small files of a cgroup file system, always below a descriptor and never
 * through a link. */
#ifndef OX_CGROUP_FILES_H
#define OX_CGROUP_FILES_H

#include "../core.h"

/* Open the directory that the first length bytes of path name, below directory. Returns a
 * descriptor. */
int ox_cgroup_open_below(int directory, const char *path, size_t length);

/* Read a whole file as text. -EOVERFLOW when it does not fit. */
int ox_cgroup_read_file(int directory, const char *name, char *ret_text, size_t capacity);

/* Call visit with each name in a directory. A name may be removed by visit. */
int ox_cgroup_each_name(int directory, void (*visit)(int directory, const char *name));

/* 1 when word stands in text among words separated by any of the separators. */
int ox_cgroup_has_word(const char *text, const char *word, const char *separators);

#endif
