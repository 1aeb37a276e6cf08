/* Files in and out of a cell, between its runs. */
#ifndef OX_FILES_H
#define OX_FILES_H

#include "../core.h"
#include "../wire.h"

/* What a child of the warden does in the workspace, as the plugin. It shares the warden's memory. */
struct ox_files_task {
    const char *root;   /* entered by chroot; NULL: the warden's own */
    const char *prefix; /* where what a program knows as / lies, without a root of its own; NULL */
    int own_ids;        /* the plugin has the ids of the warden */
    uint32_t uid;
    uint32_t gid;
    /* Put the files of this archive in; -1: open names. */
    int archive;
    uint32_t file; /* the one of the archive that is under way */
    /* count names, each ended by NUL; rows say what became of them, and fds of those without an error
     * hold descriptors. */
    const char *names;
    uint32_t count;
    struct ox_wire_collected_row *rows;
    int *fds;
    /* Of all of it: 0 or an errno. ECHILD until the child has said so. */
    int errnum;
};

/* Do it, in the child; returns when it is done. */
void ox_files_work(struct ox_files_task *task);

/* 1 when the bytes are exactly count names of files below a directory, each ended by NUL. */
int ox_files_are_names(const char *names, size_t size, uint32_t count);

#endif
