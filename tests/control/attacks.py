"""What each attack of the probe needs to succeed where nobody refuses it.

The names are those of tests/hostile/{cage,identity,kernel}.c. An attack without an entry fails a
test, and so does an entry without an attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ATTACKS", "IDS", "Control"]


@dataclass(frozen=True)
class Control:
    """How to see the bad outcome, or why it is not tried on a machine that others use.

    ``elsewhere`` lists errnos of kernels that were built without the thing.
    """

    rights: Literal["none", "root"] | tuple[str, ...] = "none"
    terminal: bool = False
    prefix: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    not_tried: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``Unconfined.run``."""
        return {"rights": self.rights, "terminal": self.terminal, "prefix": self.prefix}


USER = Control()
ROOT = Control(rights="root")
NICE = Control(rights=("sys_nice",))
GROUPS = Control(rights=("setgid",))
TERMINAL = Control(terminal=True)
#: A directory of the outside is left open on purpose.
OPEN_DIRECTORY = Control(prefix=("sh", "-c", 'exec 7</usr; exec "$@"', "sh"))

ATTACKS: dict[str, Control] = {
    # cage.c
    "chroot_walk": ROOT,
    "walk_up": USER,
    "walk_up_descriptors": OPEN_DIRECTORY,
    "mount_tmpfs": ROOT,
    "mount_proc": ROOT,
    "mount_bind": ROOT,
    "remount_executable": ROOT,
    "unmount": ROOT,
    "change_mount_attributes": ROOT,
    "open_tree_clone": ROOT,
    "open_file_system": ROOT,
    "pivot": ROOT,
    "unshare_user": USER,
    "unshare_mount": ROOT,
    "unshare_network": ROOT,
    "clone_user": USER,
    "clone3_user": USER,
    "enter_namespace": ROOT,
    "change_host_name": ROOT,
    "make_device": Control(rights=("mknod",)),
    "read_host_file": USER,
    "root_of_process_1": ROOT,
    "environment_of_process_1": ROOT,
    "kernel_settings": USER,
    "kernel_addresses": USER,
    "control_groups": USER,
    "open_by_handle": Control(rights=("dac_read_search",)),
    "change_own_program": USER,
    "remove_own_program": USER,
    "overwrite_own_program": USER,
    "add_program": USER,
    "link_own_program": USER,
    # identity.c
    "become_root": ROOT,
    "become_root_by_saved_id": ROOT,
    "become_root_for_files": ROOT,
    "become_root_group": ROOT,
    "join_group": GROUPS,
    "leave_groups": GROUPS,
    "take_capability": ROOT,
    "take_ambient_capability": ROOT,
    "trace_process_1": ROOT,
    "trace_parent": USER,
    "read_memory_of_process_1": ROOT,
    "take_descriptor_of_process_1": ROOT,
    "signal_process_1": ROOT,
    "stop_process_1": ROOT,
    "kill_process_1": ROOT,
    "kill_process_1_by_pidfd": ROOT,
    "limit_process_1": ROOT,
    "pin_process_1": ROOT,
    "slow_process_1": ROOT,
    "idle_process_1": ROOT,
    "io_priority_of_process_1": ROOT,
    "run_faster": NICE,
    "run_in_real_time": Control(not_tried="a real-time process can starve the whole machine"),
    "put_words_into_terminal": TERMINAL,
    "put_words_into_terminal_by_high_bit": TERMINAL,
    # kernel.c
    "call_of_i386": USER,
    "unshare_of_i386": USER,
    "call_of_x32": Control(elsewhere=("ENOSYS",)),
    "ring": USER,
    "session_key": USER,
    "add_key": USER,
    "bpf_map": Control(rights=("bpf",)),
    "performance_counter": Control(rights=("perfmon",)),
    "user_faults": USER,
    "socket_to_hypervisor": USER,
    "packet_socket": ROOT,
    "old_packet_socket": ROOT,
    "raw_socket": ROOT,
    "device_event_socket": USER,
    "shared_memory": USER,
    "message_queue": USER,
    "semaphores": USER,
    "named_queue": USER,
    "kernel_log": Control(rights=("syslog",)),
    "no_random_addresses": USER,
    "restart_machine": ROOT,
    "spread_over_nodes": USER,
    "segment_of_16_bits": USER,
    "pipe_of_pages": USER,
}

IDS = sorted(ATTACKS)
