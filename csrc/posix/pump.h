/* One output stream of a run: read from its pipe, counted, limited, kept or copied on. */
#ifndef OX_PUMP_H
#define OX_PUMP_H

#include "../core.h"
#include "escape.h"

struct ox_pump {
    int source; /* our end of the program's pipe, non-blocking; -1 once closed */
    int mode;   /* enum ox_stream_mode */
    int sink;
    int escape;
    int exclusive;
    int own_sink; /* the sink is ours to close */
    int socket;   /* the sink is a socket */
    int broken;   /* nobody reads the sink any more */
    char *bytes;  /* captured, or waiting for the sink */
    size_t size;
    size_t capacity;
    size_t written;            /* how much of bytes the sink has */
    uint64_t total;            /* bytes that came out of the pipe */
    struct ox_partial partial; /* escape: a character of which the rest is to come */
};

/* The budget that stdout and stderr share. */
struct ox_budget {
    int64_t left; /* -1: no bound */
    int truncated;
    int undelivered; /* a sink failed, and not because its reader had gone */
};

/* Make writing to the sink of a COPY pump unable to block: POLLOUT promises room for PIPE_BUF bytes
 * of a pipe, and of nothing else. A terminal is opened anew, without blocking, for us alone. */
void ox_pump_open_sink(struct ox_pump *pump);

/* Read what is there, at most `most` bytes. 1: more may come, 0: end of file, or a negative
 * errno. */
int ox_pump_read(struct ox_pump *pump, struct ox_budget *budget, size_t most);

/* Read until the pipe is empty or at its end. */
int ox_pump_drain(struct ox_pump *pump, struct ox_budget *budget);

/* Write to the sink what it takes now without blocking. The caller has seen POLLOUT. */
void ox_pump_write(struct ox_pump *pump, struct ox_budget *budget);

/* Bytes wait for the sink. */
int ox_pump_pending(const struct ox_pump *pump);

void ox_pump_free(struct ox_pump *pump);

#endif
