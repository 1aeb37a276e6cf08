/* The part of the confined program that deals with sockets. */
#ifndef OX_LAUNCH_SOCKETS_H
#define OX_LAUNCH_SOCKETS_H

/* Do what word says and print "error=" with its errno. Everything stays open, so that the end of the
 * program has to clear it away. */
int probe_socket(const char *word);

#endif
