"""Ways by which a file gets into a process: each gives a descriptor of the file at `path`, or the file.

None of them goes through Python's own open(), and most not through open(2).
"""

import ctypes
import errno
import mmap
import os
import socket
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
# x86-64 and the numbers that every architecture shares (asm-generic).
OPENAT2, PIDFD_OPEN, PIDFD_GETFD, IO_URING_SETUP, IO_URING_ENTER = 437, 434, 438, 425, 426


def syscall(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), number)
    return result


def old_open(path):
    """open(2) itself; where there is none, openat."""
    if os.uname().machine != "x86_64":
        return os.open(path, os.O_RDONLY)
    return syscall(2, os.fsencode(path), ctypes.c_long(0), ctypes.c_long(0))


def openat2(path):
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
    return syscall(OPENAT2, ctypes.c_long(AT_FDCWD), os.fsencode(path), how, ctypes.c_long(len(how)))


def io_uring(path):
    """IORING_OP_OPENAT (include/uapi/linux/io_uring.h)."""
    parameters = ctypes.create_string_buffer(120)
    ring = syscall(IO_URING_SETUP, ctypes.c_long(4), parameters)
    sq_tail, sq_array = struct.unpack_from("I", parameters, 44)[0], struct.unpack_from("I", parameters, 64)[0]
    cqes = struct.unpack_from("I", parameters, 100)[0]
    queue = mmap.mmap(ring, 4096, flags=mmap.MAP_SHARED)
    completions = mmap.mmap(ring, 4096, flags=mmap.MAP_SHARED, offset=0x8000000)
    entries = mmap.mmap(ring, 4096, flags=mmap.MAP_SHARED, offset=0x10000000)
    name = ctypes.create_string_buffer(os.fsencode(path))
    # opcode 18, flags, ioprio, fd, off, addr, len, open_flags
    struct.pack_into("BBHiQQII", entries, 0, 18, 0, 0, AT_FDCWD, 0, ctypes.addressof(name), 0, os.O_RDONLY)
    struct.pack_into("I", queue, sq_array, 0)
    struct.pack_into("I", queue, sq_tail, 1)
    syscall(IO_URING_ENTER, ctypes.c_long(ring), ctypes.c_long(1), ctypes.c_long(1), ctypes.c_long(1), None, None)
    result = struct.unpack_from("i", completions, cqes + 8)[0]
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def open_by_handle_at(path):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    descriptor = LIBC.open_by_handle_at(folder, handle, os.O_RDONLY)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return descriptor


def ia32(path):
    """open(2) as 32-bit programs call it, where there are such calls: else the instruction is a fault."""
    if os.uname().machine == "x86_64":
        pid = os.fork()
        if pid == 0:
            try:
                int80_open("/")
            finally:
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return int80_open(path)
    raise OSError(errno.ENOSYS, "no 32-bit calls")


def int80_open(path):
    """int 0x80, with the path below 4 GiB."""
    LIBC.mmap.restype = ctypes.c_void_p
    low = LIBC.mmap(None, ctypes.c_size_t(8192), 7, 0x40 | 0x20 | 0x02, -1, ctypes.c_long(0))  # MAP_32BIT
    # push rbx; mov ebx, edi; xor ecx, ecx; xor edx, edx; mov eax, 5; int 0x80; movsxd rax, eax; pop rbx; ret
    code = bytes.fromhex("53 89fb 31c9 31d2 b805000000 cd80 4863c0 5b c3")
    name = os.fsencode(path) + b"\0"
    ctypes.memmove(low, code, len(code))
    ctypes.memmove(low + 4096, name, len(name))
    result = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_ulong)(low)(low + 4096)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def o_path(path):
    handle = os.open(path, os.O_PATH)
    return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY)


def read_write(path):
    return os.open(path, os.O_RDWR)


def elsewhere(path, give):
    """Another process opens the file, and only it: what it gives away is all that comes here."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        descriptor = os.open(path, os.O_RDONLY)
        give(there, descriptor)
        there.recv(1)
        os._exit(0)
    there.close()
    return pid, here


def scm_rights(path):
    _, here = elsewhere(path, lambda there, descriptor: socket.send_fds(there, [b"x"], [descriptor]))
    descriptor = socket.recv_fds(here, 1, 1)[1][0]
    here.close()  # The other one ends.
    return descriptor


def pidfd_getfd(path):
    pid, here = elsewhere(path, lambda there, descriptor: there.send(bytes([descriptor])))
    number = here.recv(1)[0]
    pidfd = syscall(PIDFD_OPEN, ctypes.c_long(pid), ctypes.c_long(0))
    descriptor = syscall(PIDFD_GETFD, ctypes.c_long(pidfd), ctypes.c_long(number), ctypes.c_long(0))
    here.close()
    return descriptor


def memfd(path):
    """A copy in memory, opened by its link in /proc."""
    with open(path, "rb") as file:
        content = file.read()
    copy = os.memfd_create("copy")
    os.write(copy, content)
    return os.open(f"/proc/self/fd/{copy}", os.O_RDONLY)
