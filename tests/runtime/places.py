"""Who acts after a load: processes made in ways that should not shake off what they descend from."""

import ctypes
import fcntl
import os
import socket
import struct
import threading

from acts import HELPER, child, say, tcp

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_VM, CLONE_VFORK, CLONE_NEWNS = 0x100, 0x4000, 0x20000
CLONE_NEWPID, CLONE_NEWNET, SIGCHLD = 0x20000000, 0x40000000, 17


def act(host, port):
    say(acted=os.getpid())
    tcp(host, port)


def helper(host, port):
    return [HELPER, "helper-act", "tcp", f"{host}:{port}"]


def session(host, port):
    def work():
        os.setsid()
        act(host, port)

    child(work)


def shared_memory(host, port):
    """clone(CLONE_VM) and no thread: another process in the same memory."""
    stack = ctypes.create_string_buffer(1 << 20)
    top = (ctypes.addressof(stack) + len(stack)) & ~15
    descriptor = socket.socket()
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    def work(_):
        failed = LIBC.connect(descriptor.fileno(), address, len(address))
        LIBC.send(descriptor.fileno(), b"seen", 4, 0)
        LIBC._exit(1 if failed else 0)

    pid = LIBC.clone(work, ctypes.c_void_p(top), CLONE_VM | CLONE_VFORK | SIGCHLD, None)
    assert os.waitpid(pid, 0)[1] == 0
    say(acted=pid)


def exec_from_a_thread(host, port):
    say(acted=os.getpid())
    threading.Thread(target=lambda: os.execv(HELPER, helper(host, port))).start()
    threading.Event().wait()


def through_a_shell(host, port):
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", 'exec "$@"', "sh", *helper(host, port)])
    say(acted=pid)
    os.waitpid(pid, 0)


def static_program(host, port):
    """busybox, which has no dynamic linker and no Python in it."""
    host = "203.0.113.8"  # Nobody else listens there.
    listener = socket.create_server((host, port))
    pid = os.fork()
    if pid == 0:
        read, write = os.pipe()
        os.write(write, b"seen")
        os.close(write)
        os.dup2(read, 0)
        os.execvp("busybox", ["busybox", "nc", host, str(port)])
    say(acted=pid)
    with listener.accept()[0] as connection:
        if connection.recv(4) == b"seen":
            say(heard=True)
    os.waitpid(pid, 0)


def unshare(flags):
    if LIBC.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def network_namespace(host, port):
    """The loopback device of a new network namespace, and a listener there."""

    def work():
        unshare(CLONE_NEWNET)
        with socket.socket() as control:
            fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
        listener = socket.create_server(("127.0.0.1", port))
        act("127.0.0.1", port)
        if listener.accept()[0].recv(4) == b"seen":
            say(heard=True)

    child(work)


def pid_namespace(host, port):
    unshare(CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        assert os.getpid() == 1
        with socket.create_connection((host, port)) as connection:
            connection.sendall(b"seen")
        os._exit(0)
    say(acted=pid)
    os.waitpid(pid, 0)


def mount_namespace(host, port):
    def work():
        unshare(CLONE_NEWNS)
        act(host, port)

    child(work)
