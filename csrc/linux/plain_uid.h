/* Processes of one uid that is a cell's alone: ending them, and knowing that none is left. */
#ifndef OX_PLAIN_UID_H
#define OX_PLAIN_UID_H

#include "../core.h"

/* 1: no process has it as its real uid, zombies included. A plugin has no other than its own. */
int ox_uid_is_vacant(uint32_t uid);

/* Kill everybody of victim, all at once: while kill(2) goes through the list of processes nobody is
 * added to it. For a launcher that is root: a child with the ids (killer, victim, killer) and
 * without capabilities does it, whom victim cannot signal; it kills everybody of killer as well. */
int ox_uid_kill(uint32_t killer, uint32_t victim);

/* The same for a process whose real and saved uid are its own, and which has CAP_SETUID and not CAP_KILL:
 * with that it would kill everybody there is. Its effective uid is rest before and after. A change of
 * it clears the parent-death signal (PR_SET_PDEATHSIG(2const)). */
int ox_uid_kill_from(uint32_t rest, uint32_t victim);

#endif
