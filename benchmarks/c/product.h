/* What oxgen.Launcher() and oxgen.run() hand to the C core unless they are told otherwise. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "core.h"

#define MIB (INT64_C(1) << 20)
#define SECOND INT64_C(1000000000)
#define WAIT_MS 15000

/* The documented default; launchers share it, a pair of ids is taken by a lock. */
#define UID_BASE 1880096768u
#define UID_COUNT 65536u

static const char strings[] = "/bin/program\0/workspace\0/bin/program\0PATH=/bin\0"
                              "HOME=/home/plugin\0TMPDIR=/tmp\0TMP=/tmp\0TEMP=/tmp\0"
                              "LANG=C.UTF-8\0OXGEN_WORKSPACE=/workspace";

/* The limits that oxgen.Limits() has. */
static const struct ox_run_spec run_spec = { .strings = strings,
                                             .strings_size = sizeof(strings),
                                             .argc = 1,
                                             .envc = 7,
                                             .broker = -1,
                                             .files = -1,
                                             .streams = { { .mode = OX_STREAM_NULL },
                                                          { .mode = OX_STREAM_CAPTURE },
                                                          { .mode = OX_STREAM_CAPTURE } },
                                             .wall_ns = 300 * SECOND,
                                             .cpu_ns = 60 * SECOND,
                                             .output_bytes = 16 * MIB,
                                             .open_files = 256,
                                             .file_bytes = 64 * MIB,
                                             .processes = 64,
                                             .wake = -1 };

#endif
