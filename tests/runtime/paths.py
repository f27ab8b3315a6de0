"""What the payloads of the ways in and out are written with."""

import ctypes
import errno
import os
import socket

from acts import say

libc = ctypes.CDLL(None, use_errno=True)

# What a kernel says that has no such thing, or has it switched off.
ABSENT = {errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP}


def attempt(act, absent=ABSENT):
    """Does it, and gives what it gave; says so where this kernel can't. Any other error is the caller's."""
    try:
        return act()
    except OSError as why:
        if why.errno not in absent:
            raise
        say(skipped=str(why))
        return None


def call(number, *arguments):
    """A system call by its number, or its number on each machine. Whether it is granted is another matter."""
    if isinstance(number, dict):
        number = number[os.uname().machine]
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0 and ctypes.get_errno() == errno.ENOSYS:
        raise OSError(errno.ENOSYS, f"no system call {number}")
    return result


def listening(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def folder(name):
    os.mkdir(name)
    return os.fsencode(os.path.abspath(name))


def mount():
    """mount(2), and away again."""
    at = folder("mounted")
    assert libc.mount(b"none", at, b"tmpfs", 0, None) == 0
    assert libc.umount2(at, 0) == 0


def move_mount():
    """open_tree(2) makes a mount that is nowhere, move_mount(2) puts it somewhere."""
    at = folder("moved")
    tree = call(428, -100, folder("tree"), 1)
    assert call(429, tree, b"", -100, at, 4) == 0
    os.close(tree)
    assert libc.umount2(at, 0) == 0


def read_memory(pid):
    """process_vm_readv(2) of a byte that isn't there: what counts is that it may."""
    byte = (ctypes.c_ulong * 2)(0, 1)
    libc.process_vm_readv(pid, byte, 1, byte, 1, 0)
