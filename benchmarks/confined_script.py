"""What benchmarks/c/confined.c is, for cells that hold a Python: it runs inside one, alone."""

import json
import os
import resource
import socket
import sys

with open("/proc/self/status", encoding="ascii") as lines:
    status = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}


def interfaces() -> list[str]:
    """By number, as a list of them would need a netlink socket, which cells refuse."""
    found = []
    for index in range(1, 256):
        try:
            found.append(socket.if_indextoname(index))
        except OSError:
            continue
    return found


print(
    json.dumps(
        {
            "seccomp": int(status["Seccomp"][0]),
            "no_new_privs": int(status["NoNewPrivs"][0]),
            "uids": [int(word) for word in status["Uid"][:3]],
            "pid": os.getpid(),
            "groups": len(os.getgroups()),
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "effective": int(status["CapEff"][0], 16),
            "permitted": int(status["CapPrm"][0], 16),
            "interfaces": interfaces(),
        }
    ),
    flush=True,
)
if "hold" in sys.argv:
    sys.stdin.buffer.read()
