"""Whose process is at the other end of a loopback connection.

Asks the Linux kernel about one socket through netlink, `sock_diag(7)`: 20 microseconds, where reading
`/proc/net/tcp` takes milliseconds on a machine with much memory.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from typing import NamedTuple

from starlette.types import Scope

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = 1  # NLM_F_REQUEST
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_QUERY = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states
_ANSWER = struct.Struct("=4x48x12xII")  # inet_diag_msg: states, id, counters, uid, inode
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, whichever cookie

Address = tuple[str, int]


class _Owner(NamedTuple):
    uid: int
    inode: int
    """0 = no process has the socket open any more."""


def same_user(scope: Scope) -> bool:
    """Whether the client runs as our user, or as root. True where the system does not tell."""
    client, server = scope.get("client"), scope.get("server")
    if sys.platform != "linux" or not client or not server or not client[1] or not server[1]:
        return True
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(1)
            if _owner(kernel, server, client) is None:
                return True  # not even our own end is known there, so the other one would not be either
            owner = _owner(kernel, client, server)
    except (OSError, ValueError, struct.error):
        return True
    if owner is None:
        return False
    # A socket that its process has closed is listed as root's: send, close, and anybody would be root.
    return owner.inode != 0 and owner.uid in (0, os.geteuid())


def _owner(kernel: socket.socket, local: Address, remote: Address) -> _Owner | None:
    """Who owns the TCP socket between these two; None if there is none. Raises ValueError for a name."""
    here, there = ipaddress.ip_address(local[0]), ipaddress.ip_address(remote[0])
    family = socket.AF_INET if here.version == 4 else socket.AF_INET6
    query = _QUERY.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
    query += struct.pack(">HH16s16s", local[1], remote[1], here.packed, there.packed) + _NO_COOKIE
    kernel.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST, 0, 0) + query)
    reply = kernel.recv(4096)
    if _HEADER.unpack_from(reply)[1] != _BY_FAMILY:
        return None
    return _Owner(*_ANSWER.unpack_from(reply, _HEADER.size))
