/* Attacks through parts of the kernel that no plugin needs: 0 means that the kernel served the
 * call. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/reboot.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    IO_URING_SETUP_CALL = 425
};

static int answer(long result)
{
    return result >= 0 ? 0 : -errno;
}

#ifdef __x86_64__
/* The kernel then reads the number by the table of i386, where 20 is getpid. */
static int call_of_i386(void)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result == getpid() ? 0 : result < 0 && result > -4096 ? (int)result : -ENOSYS;
}

/* As above, for the call that matters: unshare is 310 there. */
static int unshare_of_i386(void)
{
    long result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(310L), "b"(0x10000000L)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

static int call_of_x32(void)
{
    return answer(syscall(0x40000000L | SYS_getpid));
}
#else
static int call_of_i386(void)
{
    return -ENOSYS;
}

static int unshare_of_i386(void)
{
    return -ENOSYS;
}

static int call_of_x32(void)
{
    return -ENOSYS;
}
#endif

static int ring(void)
{
    char parameters[120] = { 0 };

    return answer(syscall(IO_URING_SETUP_CALL, 1, parameters));
}

static int session_key(void)
{
    /* KEYCTL_JOIN_SESSION_KEYRING is 1. */
    return answer(syscall(SYS_keyctl, 1, NULL));
}

static int add_key(void)
{
    /* KEY_SPEC_PROCESS_KEYRING is -2. */
    return answer(syscall(SYS_add_key, "user", "probe", "secret", 6, -2));
}

static int bpf_map(void)
{
    union bpf_attr attributes = { 0 };

    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = 4;
    attributes.value_size = 8;
    attributes.max_entries = 1;
    return answer(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}

static int performance_counter(void)
{
    struct perf_event_attr event = { 0 };

    event.type = PERF_TYPE_SOFTWARE;
    event.size = sizeof event;
    event.config = PERF_COUNT_SW_CPU_CLOCK;
    return answer(syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
}

static int user_faults(void)
{
    /* UFFD_USER_MODE_ONLY is 1: the part that needs no right. */
    return answer(syscall(SYS_userfaultfd, 1));
}

static int socket_to_hypervisor(void)
{
    return answer(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
}

static int packet_socket(void)
{
    return answer(socket(AF_PACKET, SOCK_RAW, 0));
}

static int old_packet_socket(void)
{
    return answer(socket(AF_INET, SOCK_PACKET, 0));
}

static int raw_socket(void)
{
    return answer(socket(AF_INET, SOCK_RAW, 1));
}

static int device_event_socket(void)
{
    return answer(socket(AF_NETLINK, SOCK_RAW, 15 /* NETLINK_KOBJECT_UEVENT */));
}

static int shared_memory(void)
{
    return answer(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
}

static int message_queue(void)
{
    return answer(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
}

static int semaphores(void)
{
    return answer(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
}

static int named_queue(void)
{
    return answer(syscall(SYS_mq_open, "probe", O_CREAT | O_RDWR, 0600, NULL));
}

static int kernel_log(void)
{
    static char text[4096];

    /* SYSLOG_ACTION_READ_ALL is 3. */
    return answer(syscall(SYS_syslog, 3, text, sizeof text));
}

static int no_random_addresses(void)
{
    return answer(personality(ADDR_NO_RANDOMIZE));
}

/* With a magic number that is wrong: whoever gets EINVAL would have been served. */
static int restart_machine(void)
{
    return syscall(SYS_reboot, 0, 0, 0, NULL) == 0 || errno == EINVAL ? 0 : -errno;
}

static int spread_over_nodes(void)
{
    return answer(syscall(SYS_set_mempolicy, 0, NULL, 0));
}

static int segment_of_16_bits(void)
{
#ifdef __x86_64__
    char descriptors[64];

    return answer(syscall(SYS_modify_ldt, 0, descriptors, sizeof descriptors));
#else
    return -ENOSYS;
#endif
}

static int pipe_of_pages(void)
{
    static char page[4096];
    struct {
        void *base;
        size_t length;
    } vector = { page, sizeof page };
    int ends[2];

    if (pipe(ends) != 0)
        return -errno;
    return answer(syscall(SYS_vmsplice, ends[1], &vector, 1, 0));
}

const struct attack kernel_attacks[] = {
    { "call_of_i386", call_of_i386 },
    { "unshare_of_i386", unshare_of_i386 },
    { "call_of_x32", call_of_x32 },
    { "ring", ring },
    { "session_key", session_key },
    { "add_key", add_key },
    { "bpf_map", bpf_map },
    { "performance_counter", performance_counter },
    { "user_faults", user_faults },
    { "socket_to_hypervisor", socket_to_hypervisor },
    { "packet_socket", packet_socket },
    { "old_packet_socket", old_packet_socket },
    { "raw_socket", raw_socket },
    { "device_event_socket", device_event_socket },
    { "shared_memory", shared_memory },
    { "message_queue", message_queue },
    { "semaphores", semaphores },
    { "named_queue", named_queue },
    { "kernel_log", kernel_log },
    { "no_random_addresses", no_random_addresses },
    { "restart_machine", restart_machine },
    { "spread_over_nodes", spread_over_nodes },
    { "segment_of_16_bits", segment_of_16_bits },
    { "pipe_of_pages", pipe_of_pages },
    { NULL, NULL },
};
