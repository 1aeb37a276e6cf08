/* The parts of the probe: a JSON writer, and tables of sub-commands.
 *
 * The probe is the confined program of the test-suite. Without a sub-command it says what it sees
 * (probe.c); with one it tries something hostile and says what came of it. Everything it says is one
 * JSON object on descriptor 1. */
#ifndef OXGEN_TESTS_HOSTILE_H
#define OXGEN_TESTS_HOSTILE_H

/* Before any header of the system, so this one comes first everywhere. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* json.c: commas are put by the writer; a key comes before each value inside an object. */
void json_open(char bracket);
void json_close(void);
void json_key(const char *key);
void json_int(long long value);
void json_bool(bool value);
void json_null(void);
void json_text(const char *text);
void json_bytes(const char *bytes, size_t length);
void json_errno(int error); /* "EPERM", or "ok" for 0 */
void json_flush(void);

void say_int(const char *key, long long value);
void say_bool(const char *key, bool value);
void say_text(const char *key, const char *text);
void say_errno(const char *key, int error);

/* A sub-command gets the words after its own name and returns the exit status of the probe. */
struct command {
    const char *name;
    const char *arguments;
    int (*run)(int count, char **words);
};

/* Each table ends with a row of NULLs. */
extern const struct command end_commands[];
extern const struct command file_commands[];
extern const struct command net_commands[];
extern const struct command tree_commands[];
extern const struct command trace_commands[];
extern const struct command attack_commands[];

/* An attack returns 0 when it got what it wanted (the bad outcome), else a negative errno. */
struct attack {
    const char *name;
    int (*run)(void);
};

extern const struct attack cage_attacks[];     /* out of the file tree and the namespaces */
extern const struct attack identity_attacks[]; /* other ids, other processes */
extern const struct attack kernel_attacks[];   /* parts of the kernel that no plugin needs */

const char *own_path(void); /* what was executed, as the kernel says */
double now_seconds(void);
void sleep_seconds(double seconds);
void burn_seconds(double cpu_seconds); /* of the calling process */

#endif
