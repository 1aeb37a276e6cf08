/* What the portable part asks of the system. Each system answers in a file of its own. */
#ifndef OX_SYSTEM_H
#define OX_SYSTEM_H

/* SIGKILL to the process of a handle (Linux: a pidfd). 0 also when it has ended already. */
int ox_kill(int handle);

/* Close every descriptor from first on. Async-signal-safe. */
int ox_close_from(unsigned first);

/* Give up, for good, what a handle does not allow (Linux: a Landlock ruleset). Async-signal-safe. */
int ox_give_up(int handle);

/* Be scheduled as any process is, which a launcher and its wardens are not. 0 or a negative errno. */
int ox_schedule_as_usual(void);

/* The processor that the caller runs on at this moment; -1: not known. */
int ox_processor_now(void);

/* How often the calling thread had its processor taken away; -1: not known. */
long ox_preemptions(void);

struct ox_filter;

/* Put a filter of system calls on the calling thread. Async-signal-safe; 0 or a negative errno. */
int ox_filter_install(const struct ox_filter *filter);

/* execve() as the filter that was installed lets it through. Returns a negative errno. */
int ox_filter_exec(const struct ox_filter *filter, const char *path, char *const *argv,
                   char *const *envp);

#endif
