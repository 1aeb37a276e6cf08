/* Cells whose calls somebody watches: the filter that all cells have, with calls that wait for an
 * answer in place of some of its own answers. */
#ifndef OX_WATCH_H
#define OX_WATCH_H

#include "../core.h"

struct ox_watch {
    int notes;     /* enum ox_notes */
    int listener;  /* -1: none */
    uint64_t pass; /* with OX_NOTES_ALL: what the message that hands it over is known by */
};

/* Load the filter. A cell that is to be watched and cannot be is an error. */
int ox_watch_load(struct ox_watch *watch);

/* The last word of a cell that is ready: send the listener, if there is one, to the launcher. With
 * OX_NOTES_ALL every other call would wait for whoever gets it. */
int ox_watch_hand_over(int socket, const struct ox_watch *watch);

#endif
