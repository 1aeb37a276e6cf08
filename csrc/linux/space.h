/* Mount namespaces of the launcher's own, each with one mount and no process in it: being there for
 * a moment, to clone a mount or a child. */
#ifndef OX_SPACE_H
#define OX_SPACE_H

#include "../core.h"

struct ox_spaces {
    int home;   /* the launcher's mount namespace */
    int root;   /* its root there, which need not be that of the namespace */
    int astray; /* it could not return: it must end */
};

int ox_spaces_open(struct ox_spaces *ret_spaces);
void ox_spaces_close(struct ox_spaces *spaces);

/* A namespace in which a detached mount is everything there is; flags (MS_*) restrict it there. */
int ox_space_make(int mounted, unsigned long flags, int *ret_space);

/* Root and working directory are the mount's then. */
int ox_space_enter(int space);
int ox_space_leave(struct ox_spaces *spaces);

#endif
