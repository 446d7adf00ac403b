"""Owns tying a process's life to its supervisor's: `python tether.py SUPERVISOR-PID PROGRAM ARGUMENT...` (Linux only).

It becomes PROGRAM (exec), after asking the kernel to kill it when the supervisor dies, however that happens. A program
of its own and no `preexec_fn`: that runs Python between fork and exec in a process that has threads (grpc's), which may
deadlock and which Python 3.12 warns of. Imports nothing of paymesh: it runs before every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_COMMAND_NOT_FOUND = 127


def main(supervisor: str, *command: str) -> int:
    """Never returns if PROGRAM can be started."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(supervisor):  # it died before we had asked
        return 1
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)
    return _COMMAND_NOT_FOUND


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
