/* The whole C interface of oxgen. cffi reads this very text, so it holds no preprocessor lines;
 * C files include "core.h", which includes it once.
 *
 * Functions return 0, or a number that their comment names, or a negative errno. Outputs come
 * last: ret_* is written on success, ret_error and ret_problem on failure. Times are nanoseconds
 * of CLOCK_BOOTTIME or waits in milliseconds; -1 in a limit means "no bound". */

/* Where a launch failed. The order is the order in which things happen. */
enum ox_stage {
    OX_STAGE_NONE = 0,
    /* starting the launcher */
    OX_STAGE_LAUNCHER,
    OX_STAGE_HANDSHAKE,
    OX_STAGE_SCHEDULING,
    OX_STAGE_USER_NAMESPACE,
    OX_STAGE_UID_RANGE,
    OX_STAGE_STORE,
    OX_STAGE_CGROUP_BASE,
    /* a request as such */
    OX_STAGE_REQUEST,
    /* making a cell: the launcher's side */
    OX_STAGE_QUEUE,
    OX_STAGE_UID_PAIR,
    OX_STAGE_PROGRAM,
    OX_STAGE_TREE,
    OX_STAGE_CGROUP,
    OX_STAGE_CGROUP_RATE,
    OX_STAGE_CLONE,
    OX_STAGE_CGROUP_JOIN,
    OX_STAGE_ID_MAP,
    /* making a cell: inside it */
    OX_STAGE_CELL_IDS,
    OX_STAGE_CGROUP_NAMESPACE,
    OX_STAGE_HOSTNAME,
    OX_STAGE_PROPAGATION,
    OX_STAGE_ROOT,
    OX_STAGE_WRITABLE,
    OX_STAGE_MOUNT,
    OX_STAGE_DEV,
    OX_STAGE_PROC,
    OX_STAGE_ETC,
    OX_STAGE_SEAL,
    OX_STAGE_PIVOT,
    OX_STAGE_LANDLOCK,
    OX_STAGE_WARDEN_DESCRIPTORS,
    OX_STAGE_WARDEN_RLIMITS,
    OX_STAGE_CAPABILITIES,
    OX_STAGE_PARENT_DEATH,
    OX_STAGE_NO_NEW_PRIVS,
    OX_STAGE_SECCOMP,
    OX_STAGE_WARDEN,
    /* one launch: what is put into the workspace before it */
    OX_STAGE_FILES,
    /* one launch: between clone and exec */
    OX_STAGE_OOM_SCORE,
    OX_STAGE_FORK,
    OX_STAGE_SESSION,
    OX_STAGE_STREAMS,
    OX_STAGE_RLIMITS,
    OX_STAGE_CHROOT,
    OX_STAGE_GID,
    OX_STAGE_UID,
    OX_STAGE_WORKDIR,
    OX_STAGE_DESCRIPTORS,
    OX_STAGE_SIGNALS,
    OX_STAGE_POLICY,
    OX_STAGE_FILTER,
    OX_STAGE_EXEC,
    OX_STAGE_COUNT
};

/* The name of a stage as error objects show it, "unknown" for a number that is none. */
const char *ox_stage_name(int stage);

struct ox_error {
    int stage;
    int errnum;
};

/* Text for people: what stands in the way, and the narrowest change that helps. */
struct ox_problem {
    struct ox_error error;
    char cause[256];
    char remedy[512];
};

/* --- descriptors ------------------------------------------------------------------------------ */

/* Outputs are written before the call returns, so that a descriptor has its owner at once. */

/* Open a file for reading: no terminal becomes ours, and no FIFO makes us wait for its writer. */
int ox_open_to_read(const char *path, int *ret_fd);

/* What tells one state of one file from any other. */
struct ox_file_state {
    uint64_t device;
    uint64_t inode;
    int64_t size;
    int64_t mtime_ns;
    int64_t ctime_ns;
};

/* 1 when the path names that file in that state, 0 when not. */
int ox_file_is(const char *path, const struct ox_file_state *state);

/* An empty file in memory, to be written and then sealed. */
int ox_memory_file(const char *name, int *ret_fd);

/* 1: a system call filter is on this process, a container's or a service's. */
int ox_is_filtered(void);

/* What a container's filter has to allow, for people. */
const char *ox_filter_remedy(void);

/* A second descriptor of the same open file. */
int ox_duplicate(int fd, int *ret_fd);

/* Accepts -1, and leaves -1. close() is not retried on EINTR: Linux has released the descriptor by
 * then. */
void ox_close(int *fd);

/* The pipes of a program that its host talks to: what the program's side of oxgen holds, what the
 * caller holds, and an eventfd for a run's wake. -1: closed, or handed over. */
struct ox_pipes {
    int wake;
    int inner[3]; /* source of stdin, sinks of stdout and stderr, which do not block */
    int outer[3];
};

/* ret_pipes is written in any case: on failure all of it is -1. */
int ox_pipes_open(struct ox_pipes *ret_pipes);
void ox_pipes_close(struct ox_pipes *pipes);

/* Hand a descriptor over: returns it, and it is -1 here from then on. name and flags are what an
 * opener of io.FileIO is called with, and mean nothing. */
int ox_take(int *fd, const char *name, int flags);

/* --- launcher --------------------------------------------------------------------------------- */

/* How cells are kept apart from the host and from each other; strongest first. */
enum ox_level {
    OX_LEVEL_NAMESPACES = 0,
    OX_LEVEL_CHROOT,
    OX_LEVEL_LANDLOCK,
    OX_LEVEL_COUNT
};

/* The name of a level as policies show it, "unknown" for a number that is none. */
const char *ox_level_name(int level);

/* What a cell may hold a program to: bits of ox_launcher.holds, in the order in which they are
 * listed. */
enum ox_property {
    OX_FILESYSTEM = 1,
    OX_NETWORK = 2,
    OX_MEMORY_TREE = 4,
    OX_CPU_TREE = 8,
    OX_PROCESSES = 16,
    OX_DISK = 32,
    OX_WHOLE_TREE_KILL = 64,
    OX_SYSCALLS = 128,
    OX_NEIGHBOURS = 256,
    OX_PROPERTIES = 511,
    /* No property of its own: OX_CPU_TREE for cells with a quota. */
    OX_CPU_RATE = 512
};

/* What is weaker than it could be although every property holds: bits of ox_launcher.weaker. */
enum ox_weakness {
    OX_WEAKER_GROUPS = 1, /* programs keep the caller's supplementary groups */
    OX_WEAKER_UID = 2, /* all cells have the caller's uid: they share its budgets in the kernel */
    OX_WEAKER_DEVICES = 4, /* /dev has the host's own nodes */
    OX_WEAKER_WALL = 8     /* there is no Landlock as a second wall */
};

/* Fixed when a launcher starts; no later request widens it. */
struct ox_config {
    uint32_t level; /* enum ox_level: of every cell of this launcher */
    uint32_t uid_base;
    uint32_t uid_count;
    uint32_t cells_max;
    /* Where cells without a mount namespace have their directories; "": in /run/oxgen, which is root's. */
    char directory[256];
};

struct ox_launcher {
    int socket;
    int pidfd;
    int pid;
    int memory_version; /* 1 or 2: the cgroup version that holds the memory limit; 0: nothing does */
    char build[64];     /* the launcher's own version, "oxgen-launcher/<wire version>" */
    uint32_t level;     /* enum ox_level */
    uint32_t holds;     /* enum ox_property: what its cells hold a program to, if it is asked for */
    uint32_t weaker;    /* enum ox_weakness */
    /* Why there are no cgroups; stage OX_STAGE_NONE: there are. What else a level does not hold, it
     * never does, or not with this kernel's Landlock. */
    struct ox_problem lacking;
    struct ox_problem lacking_rate; /* the same for OX_CPU_RATE alone */
};

const char *ox_build(void);

/* Start the launcher executable at path and wait until it can make cells of config->level. One that
 * cannot hold every property starts all the same, and says so: whoever asks for a cell compares. */
int ox_launcher_start(const char *path, const struct ox_config *config, int wait_ms,
                      struct ox_launcher *ret_launcher, struct ox_problem *ret_problem);

/* Ask it to end, kill it if it has not by wait_ms, reap it, close the descriptors. */
int ox_launcher_stop(struct ox_launcher *launcher, int wait_ms);

/* --- cells ------------------------------------------------------------------------------------ */

enum ox_feature {
    OX_FEATURE_PROC = 1,
    OX_FEATURE_DEV = 2,
    OX_FEATURE_ETC = 4,
    /* The two that take something away. */
    OX_FEATURE_EXEC = 8,         /* the writable places are mounted without noexec */
    OX_FEATURE_HOST_NETWORK = 16 /* the cell is in the launcher's own network namespace */
};

enum ox_mount_flag {
    OX_MOUNT_NOEXEC = 1
};

/* What a descriptor opened by the caller becomes inside a cell: a read-only mount. */
struct ox_mount {
    const char *destination; /* absolute, normalised, inside the cell */
    int fd;
    int flags; /* enum ox_mount_flag */
};

/* One instruction of a classic BPF program: struct sock_filter. */
struct ox_instruction {
    uint16_t code;
    uint8_t jt;
    uint8_t jf;
    uint32_t k;
};

/* Which system calls wait until the holder of the cell's listener answers them. */
enum ox_notes {
    OX_NOTES_NONE = 0,
    OX_NOTES_REFUSED, /* those that the filter would refuse */
    OX_NOTES_ALL,     /* every call, the warden's own too */
};

struct ox_cell_spec {
    const char *entry; /* the program becomes /bin/<entry> */
    int program;       /* descriptor of the program */
    /* 64 hex digits: keep a copy in the launcher's store; NULL: mount the file itself */
    const char *digest;
    int features;
    int64_t memory_bytes;
    int64_t processes;
    int64_t disk_bytes;
    int64_t cpu_quota_us; /* CPU time of the tree in each 100 ms; -1: no bound */
    const struct ox_mount *mounts;
    uint32_t mounts_count;
    /* A filter of its own for each program, on top of the one that all cells have; copied. */
    const struct ox_instruction *filter;
    uint32_t filter_count; /* 0: none */
    int notes;             /* enum ox_notes */
};

/* What the writable directories of an empty cell look like. */
struct ox_baseline {
    uint64_t memory_bytes; /* charged to the cgroup */
    uint64_t blocks_free;
    uint64_t files_free;
    /* of each directory: mode, owner, links, size, ctime seconds, ctime nanoseconds */
    int64_t stamp[4][6];
};

/* A cell as its host holds it. */
struct ox_cell {
    uint32_t id;
    int warden; /* SOCK_SEQPACKET to the warden */
    int pidfd;  /* of the warden */
    /* Counters, read-only; -1 where there is none. */
    int cpu; /* of a cgroup, else /proc/<pid>/stat of the warden, which counts what has ended */
    int oom;
    int usage;
    int peak;
    int gone; /* a pidfd that ends when no process of the cell is left; -1: that of the warden does */
    int writable; /* the directory that holds the writable directories, O_PATH */
    int listener; /* with notes: see ox_notice_receive(); else -1 */
    uint32_t runs;
    struct ox_baseline baseline;
};

/* Ask for a cell; the answer comes later, under the caller's own number. At most config.cells_max
 * cells are there at a time, those that were asked for and not yet destroyed; one more is refused
 * (stage request, EBUSY). Any thread; one sendmsg. */
int ox_cell_request(const struct ox_launcher *launcher, const struct ox_cell_spec *spec,
                    uint32_t sequence, struct ox_error *ret_error);

/* The next answer, in the order in which cells become ready. 1: *ret_sequence was answered, and
 * ret_error->stage says whether ret_cell holds the cell (OX_STAGE_NONE) or where its making failed;
 * 0: none by wait_ms; a negative errno: the launcher cannot be talked to any more, as it is dead or
 * speaks another language. One thread at a time. */
int ox_cell_answer(const struct ox_launcher *launcher, int wait_ms, uint32_t *ret_sequence,
                   struct ox_cell *ret_cell, struct ox_error *ret_error);

/* Request and answer, for callers of one thread that have no other request under way. */
int ox_cell_create(const struct ox_launcher *launcher, const struct ox_cell_spec *spec, int wait_ms,
                   struct ox_cell *ret_cell, struct ox_error *ret_error);

/* Have the launcher kill whatever is in the cell and take it apart: one-way, nothing is waited for
 * but room in the socket, some seconds at most. The cell's descriptors are closed but pidfd, for
 * ox_cell_wait_gone(). Any thread. */
int ox_cell_destroy(const struct ox_launcher *launcher, struct ox_cell *cell);

/* Wait until every process of a destroyed cell is gone: its first process is the init of a pid
 * namespace, and ends last. Closes pidfd. -ETIMEDOUT: not by wait_ms. Needs no launcher. */
int ox_cell_wait_gone(struct ox_cell *cell, int wait_ms);

/* Close the descriptors of a cell without a word to the launcher (after fork, or when it is
 * dead). */
void ox_cell_forget(struct ox_cell *cell);

/* 1 when its warden lives, 0 when not: then a run cannot start in it. */
int ox_cell_is_alive(const struct ox_cell *cell);

/* 1 when the writable directories are as they were in the empty cell and its memory has been given
 * back, 0 when not. memory_slack is how much more may be charged than in the empty cell: files that
 * a run read from disk stay charged to the first who did. */
int ox_cell_is_empty(const struct ox_cell *cell, int64_t memory_slack);

/* --- runs ------------------------------------------------------------------------------------- */

enum ox_stream_mode {
    OX_STREAM_NULL = 0, /* stdin: empty; stdout, stderr: read, counted, dropped */
    OX_STREAM_CAPTURE,  /* stdout, stderr: kept in memory up to the limit; stdin: from input */
    OX_STREAM_COPY,     /* stdout, stderr: copied on to a descriptor up to the output limit */
    OX_STREAM_DIRECT    /* stdin: this very descriptor, a pipe of ours */
};

struct ox_stream {
    int mode;
    int fd;        /* COPY: the sink, which stays the caller's; DIRECT: the source */
    int escape;    /* COPY: make control characters visible (the sink is a terminal) */
    int exclusive; /* COPY: the sink is a non-blocking pipe of ours: write whole buffers */
};

/* Who ended a run, set before the kill is sent. */
enum ox_cause {
    OX_CAUSE_NONE = 0,
    OX_CAUSE_TIMEOUT,
    OX_CAUSE_CPU,
    OX_CAUSE_CANCELLED
};

struct ox_run_spec {
    const char *strings; /* path, cwd, argc arguments, envc NAME=value, each ended by NUL */
    uint32_t strings_size;
    uint32_t argc;
    uint32_t envc;
    int broker; /* becomes descriptor 3; -1: none */
    struct ox_stream streams[3];
    const char *input; /* for streams[0] CAPTURE; must live as long as the run */
    uint64_t input_size;
    int64_t wall_ns;
    int64_t cpu_ns;
    int64_t output_bytes;
    int64_t open_files;
    int64_t file_bytes;
    int64_t processes;
    int named;   /* the cell shows descriptors as files (/proc): pipes can be opened by name */
    int confirm; /* ox_run_step also returns when the program has started */
    int wake;    /* readable: somebody called ox_run_cancel; -1: none */
    /* For so long after the request, at most a millisecond, a step looks for the end without sleeping:
     * to be roused costs more than a short program takes. Not while others want the processor. */
    int64_t spin_ns;
    /* What is put into the workspace before the program starts: descriptor of an archive, see struct
     * ox_file_head; -1: nothing. */
    int files;
};

struct ox_outcome {
    struct ox_error error; /* stage other than NONE: the program never ran */
    int lost;              /* the warden vanished before it answered */
    int cause;             /* enum ox_cause */
    int status;            /* wait status of the first process */
    int strays;            /* processes that outlived it and were killed */
    int64_t wall_ns;
    int64_t cpu_ns;
    int64_t oom_kills;
    int64_t peak_memory_bytes;  /* -1: not known */
    int64_t process_peak_bytes; /* most that one process had, where nothing counts the tree */
    uint64_t written[2];        /* bytes of stdout and stderr, dropped ones included */
    int truncated;
    int undelivered; /* a COPY sink failed, and not because its reader had gone */
    int apart;       /* the warden took the request on another processor than the caller's */
    int emptied;     /* the warden saw the last process of the run go */
    uint32_t file;   /* of stage files: the one of the archive that could not be put in, from 0 */
};

enum ox_progress {
    OX_RUNNING = 0, /* time slice over, or a signal arrived: call again */
    OX_STARTED = 1, /* only with confirm */
    OX_ENDED = 2
};

struct ox_run;

/* Send the launch request. On success the run owns nothing of the cell but its attention. */
int ox_run_start(const struct ox_cell *cell, const struct ox_run_spec *spec,
                 struct ox_run **ret_run, struct ox_error *ret_error);

/* Pump, watch limits and wait at most slice_ms (-1: until something ends it). Returns enum
 * ox_progress. */
int ox_run_step(struct ox_run *run, int slice_ms);

/* From any thread, in any state: the next step kills the run with this cause. A step that waits
 * meanwhile is ended by making the wake descriptor readable. */
void ox_run_cancel(struct ox_run *run);

/* After OX_ENDED: write what is left for COPY sinks, at most slice_ms. 1: all written or nobody
 * reads. */
int ox_run_flush(struct ox_run *run, int slice_ms);

/* Give up what ox_run_flush has not written; it counts as truncated. */
void ox_run_abandon(struct ox_run *run);

/* After a fork, in the child: close its copies of the run's descriptors. The run goes on in the
 * parent; a copy of the input pipe would keep its program from ever seeing the end of the input.
 * NULL is no run. */
void ox_run_forget(struct ox_run *run);

void ox_run_outcome(const struct ox_run *run, struct ox_outcome *ret_outcome);
const char *ox_run_captured(const struct ox_run *run, int stream, uint64_t *ret_size);
void ox_run_free(struct ox_run *run);

/* The same for a run that *run holds, which is NULL then. */
void ox_run_release(struct ox_run **run);

/* --- files ------------------------------------------------------------------------------------ */

/* An archive is files one after another: this head, the name (relative, no NUL), the content. */
struct ox_file_head {
    uint64_t size;
    uint32_t mode;
    uint32_t name_size;
};

struct ox_collected {
    int fd;        /* of a regular file, for reading; -1: none */
    int errnum;    /* why there is none */
    uint32_t mode; /* st_mode of what has that name; 0: nothing has, or it cannot be looked at */
};

struct ox_collection {
    uint32_t count;
    struct ox_collected files[64];
};

/* After the end of a run, when the warden has seen its last process go, and before the cell is given
 * back: open count files of the workspace, at most 64. names are relative to it, each ended by NUL.
 * Each is opened with the rights of a plugin, and only where no part of the name is a link and the
 * last is a regular file. On failure the cell is of no use any more. */
int ox_cell_collect(const struct ox_cell *cell, const char *names, uint32_t names_size,
                    uint32_t count, int wait_ms, struct ox_collection *ret_collection);

/* Close what it holds; an empty one holds nothing. */
void ox_collection_close(struct ox_collection *collection);

/* --- many runs -------------------------------------------------------------------------------- */

/* Many runs, watched by one thread at a time; only ox_loop_wake may come from elsewhere. */
struct ox_loop;

struct ox_news {
    uint64_t token;
    int progress; /* OX_STARTED or OX_ENDED */
};

int ox_loop_open(struct ox_loop **ret_loop);

/* An epoll descriptor, readable when ox_loop_step has something to do, clocks included. It stays the
 * loop's. */
int ox_loop_fd(struct ox_loop *loop);

/* Watch a run that has been started, until it is news. A COPY sink that epoll cannot watch, such as
 * a regular file, is served every few milliseconds only. */
int ox_loop_add(struct ox_loop *loop, struct ox_run *run, uint64_t token);

/* Pump, watch limits and wait at most slice_ms (-1: no bound) for news: a run that has ended or,
 * with confirm, started. It has left the loop then; one that has started may be added again.
 * Returns how many there are, at most capacity; the next call has the rest. 0: time slice over, a
 * signal arrived, or ox_loop_wake was called. */
int ox_loop_step(struct ox_loop *loop, int slice_ms, struct ox_news *ret_news, int capacity);

/* Kill that run: it is news soon, with cause "cancelled". -ENOENT: it is not in the loop. */
int ox_loop_cancel(struct ox_loop *loop, uint64_t token);

/* From any thread: end the wait of ox_loop_step, now or the next time, and have it look for runs for
 * which ox_run_cancel was called. */
int ox_loop_wake(struct ox_loop *loop);

/* The runs in it are not freed. Serves in the child after a fork as well. */
void ox_loop_free(struct ox_loop *loop);

/* The same for a loop that *loop holds, which is NULL then. */
void ox_loop_release(struct ox_loop **loop);
/* --- system calls ----------------------------------------------------------------------------- */

/* A line of the table of system calls. -1: the architecture has no such call. */
struct ox_syscall {
    const char *name;
    int x86_64;
    int aarch64;
};

/* NULL from the end of the table on. */
const struct ox_syscall *ox_syscall_at(uint32_t index);

/* The AUDIT_ARCH_* of this build. */
uint32_t ox_filter_native(void);

/* The filter that all cells have, for an architecture. Returns the number of instructions, 0 when
 * there is no table for it or it has more than capacity. */
uint32_t ox_filter_floor(uint32_t arch, struct ox_instruction *ret_code, uint32_t capacity);

/* The check that a launcher makes of a cell's own filter: 0, or -EINVAL for a program that is too
 * long, does more than load, compare and return, or returns what is neither "allow", nor an errno,
 * nor "kill the process". */
int ox_filter_check(const struct ox_instruction *code, uint32_t count);

/* A call that waits for an answer. */
struct ox_notice {
    uint64_t id;
    uint32_t pid; /* as the caller sees it; of the thread */
    int32_t number;
    uint32_t arch;
    uint64_t args[6];
};

/* 1: *ret_notice waits for an answer; 0: none by wait_ms; -EPIPE: nobody is left who could call. */
int ox_notice_receive(int listener, int wait_ms, struct ox_notice *ret_notice);

/* errnum 0: the call takes place; else it fails with that. -ENOENT: the caller was killed. */
int ox_notice_answer(int listener, uint64_t id, int errnum);

/* 1 while that call still waits, so that pid is whose it was; else 0. */
int ox_notice_is_valid(int listener, uint64_t id);
