/* The launcher's loop: requests from the host, reports from cells under construction, ends. */
#ifndef OX_SERVE_H
#define OX_SERVE_H

#include "../core.h"
#include "cell.h"

struct pollfd;
struct ox_waiting;

struct ox_service {
    int socket; /* to the host, non-blocking */
    int host;   /* pidfd of the host */
    struct ox_works works;
    struct ox_kept_cell *cells;
    uint32_t slots;
    uint32_t cells_max; /* of the host: under construction, ready, and requests that wait */
    uint32_t live;
    /* Slots that are taken, oldest first; each has a descriptor that is polled. */
    uint32_t *watched;
    uint32_t watched_count;
    struct pollfd *events;
    /* Requests that wait for the uid pair or the slot of a cell that is dying, oldest first. */
    struct ox_waiting *waiting;
    struct ox_waiting **waiting_end;
};

/* Room for cells_max cells of the host, and as many more that are dying. */
int ox_service_prepare(struct ox_service *service, uint32_t cells_max);

/* Serve until the host goes or speaks another language. */
void ox_serve(struct ox_service *service);

/* Kill every cell, wait for their ends, at most wait_ms. */
void ox_service_end(struct ox_service *service, int wait_ms);

/* Free the tables. */
void ox_service_free(struct ox_service *service);

#endif
