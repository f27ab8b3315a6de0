"""Ways out of a process that acts.py has no word for: each takes (host, port), sends `acts.SENT`, and first says who does
it.
"""

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
import threading

from acts import SENT, say, who

libc = ctypes.CDLL(None, use_errno=True)

IPPROTO_MPTCP = 262
MSG_FASTOPEN = 0x20000000
ETHERTYPE = 0x88B5  # IEEE 802: for local experiments


def sockaddr(host, port):
    """struct sockaddr_in."""
    return bytearray(struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8))


def pointer(buffer):
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


# TCP


def tcp_nonblocking(host, port):
    """Asks by the same call how far the connection is, as many programs do."""
    say(did="tcp_nonblocking", **who())
    with socket.socket() as connection:
        connection.setblocking(False)
        assert connection.connect_ex((host, port)) in (0, errno.EINPROGRESS)
        assert connection.connect_ex((host, port)) in (0, errno.EALREADY, errno.EISCONN)
        select.select([], [connection], [], 60)
        assert connection.connect_ex((host, port)) in (0, errno.EISCONN)
        connection.send(SENT)


def mptcp(host, port):
    say(did="mptcp", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as connection:
        connection.connect((host, port))
        connection.sendall(SENT)


def smc(host, port):
    """Shared memory communications (RFC 7609), which begins as TCP and stays with it where the other end can't."""
    say(did="smc", **who())
    with socket.socket(43, socket.SOCK_STREAM) as connection:
        address = sockaddr(host, port)
        if libc.connect(connection.fileno(), ctypes.c_void_p(pointer(address)), len(address)) != 0:
            raise OSError(ctypes.get_errno(), "connect")
        os.write(connection.fileno(), SENT)


def fast_open(host, port):
    say(did="fast_open", **who())
    with socket.socket() as connection:
        connection.sendto(SENT, MSG_FASTOPEN, (host, port))


def tcp_bytes(host, port, count):
    """So many bytes, and the end."""
    say(did="tcp_bytes", **who())
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"x" * count)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # The peer has read all and closes.


def changing(hosts, port, times):
    """Connects again and again while another thread changes the address in memory; says whom the kernel connected to."""
    say(did="changing", **who())
    address = sockaddr(hosts[0], port)
    others = [socket.inet_aton(host) for host in hosts]
    over = threading.Event()

    def change():
        while not over.is_set():
            for other in others:
                address[4:8] = other

    thread = threading.Thread(target=change)
    thread.start()
    reached = dict.fromkeys(hosts, 0)
    for _ in range(times):
        with socket.socket() as connection:
            if libc.connect(connection.fileno(), ctypes.c_void_p(pointer(address)), len(address)) != 0:
                raise OSError(ctypes.get_errno(), "connect")
            reached[connection.getpeername()[0]] += 1
            connection.sendall(SENT)
    over.set()
    thread.join()
    say(reached=reached)


# Datagrams


def udp_connected(host, port):
    say(did="udp_connected", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect((host, port))
        datagram.send(SENT)


def udp_written(host, port):
    """A datagram by write(2)."""
    say(did="udp_written", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect((host, port))
        os.write(datagram.fileno(), SENT)


def udp_connect_only(host, port, never):
    """An IPv6 socket is connected to an IPv4 address, and taken off it: a call that says neither family names nobody,
    whatever stands where an address would."""
    say(did="udp_connect_only", **who())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagram:
        nobody = sockaddr(host, never)
        nobody[:2] = struct.pack("=H", socket.AF_UNSPEC)
        for address in sockaddr(host, port), nobody:
            if libc.connect(datagram.fileno(), ctypes.c_void_p(pointer(address)), len(address)) != 0:
                raise OSError(ctypes.get_errno(), "connect")


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class MsgHdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(IoVec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class MMsgHdr(ctypes.Structure):
    _fields_ = [("header", MsgHdr), ("len", ctypes.c_uint)]


def message(address, text):
    """A message, and what it points to."""
    vector = IoVec(pointer(text), len(text))
    header = MsgHdr(pointer(address), len(address), ctypes.pointer(vector), 1, None, 0, 0)
    return header, (address, text, vector)


def sendmmsg(targets):
    """One call, one datagram for each (host, port)."""
    say(did="sendmmsg", **who())
    messages = (MMsgHdr * len(targets))()
    kept = []
    for slot, (host, port) in zip(messages, targets):
        slot.header, keep = message(sockaddr(host, port), bytearray(SENT))
        kept.append(keep)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert libc.sendmmsg(datagram.fileno(), messages, len(targets), 0) == len(targets)


# io_uring


IORING_OFF_SQES = 0x10000000
IORING_OP_SENDMSG = 9
IORING_OP_CONNECT = 16
IORING_ENTER_GETEVENTS = 1
SYS_IO_URING_SETUP, SYS_IO_URING_ENTER = 425, 426


def uring(opcode, fd, address, length, offset=0):
    """One request in a ring of its own; gives its result."""
    params = (ctypes.c_uint32 * 30)()
    ring = libc.syscall(SYS_IO_URING_SETUP, 4, params)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    sq, cq = params[10:20], params[20:30]
    size = max(sq[6] + params[0] * 4, cq[5] + params[1] * 16)
    rings = mmap.mmap(ring, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
    entries = mmap.mmap(ring, params[0] * 64, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=IORING_OFF_SQES)
    struct.pack_into("=BBHiQQIIQ", entries, 0, opcode, 0, 0, fd, offset, address, length, 0, 7)
    struct.pack_into("=I", rings, sq[6], 0)
    tail = struct.unpack_from("=I", rings, sq[1])[0]
    struct.pack_into("=I", rings, sq[1], tail + 1)
    if libc.syscall(SYS_IO_URING_ENTER, ring, 1, 1, IORING_ENTER_GETEVENTS, None, 0) != 1:
        raise OSError(ctypes.get_errno(), "io_uring_enter")
    tag, result = struct.unpack_from("=Qi", rings, cq[5])
    assert tag == 7
    entries.close()
    rings.close()
    os.close(ring)
    return result


def uring_connect(host, port):
    say(did="uring_connect", **who())
    address = sockaddr(host, port)
    with socket.socket() as connection:
        result = uring(IORING_OP_CONNECT, connection.fileno(), pointer(address), 0, len(address))
        assert result == 0, result
        connection.sendall(SENT)


def uring_sendmsg(host, port):
    say(did="uring_sendmsg", **who())
    header, _kept = message(sockaddr(host, port), bytearray(SENT))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        result = uring(IORING_OP_SENDMSG, datagram.fileno(), ctypes.addressof(header), 1)
        assert result == len(SENT), result


# Other sockets


def icmp(host):
    say(did="icmp", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        packet = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1) + SENT
        words = struct.unpack(f">{len(packet) // 2}H", packet)
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        total = ~(total + (total >> 16)) & 0xFFFF
        raw.sendto(packet[:2] + struct.pack(">H", total) + packet[4:], (host, 0))


def raw_ip(host, protocol):
    """A packet of a protocol that nobody speaks."""
    say(did="raw_ip", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as raw:
        raw.sendto(SENT, (host, 0))


def packet(interface):
    say(did="packet", **who())
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as link:
        link.sendto(SENT, (interface, ETHERTYPE, 0, 0, bytes(6)))


def vsock(cid, port):
    """Says what became of it: few machines have anybody at the other end."""
    say(did="vsock", **who())
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect((cid, port))
            say(connected=True)
        except OSError as error:
            say(connected=False, error=str(error))


def unix(path):
    say(did="unix", **who())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(SENT)


def unix_datagram(path):
    say(did="unix_datagram", **who())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(SENT, path)


# Doors


def door(host, port):
    """Waits for one connection, and answers what it hears."""
    say(did="door", **who())
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        say(listening=True)
        connection, peer = listener.accept()
        with connection:
            connection.sendall(connection.recv(64))
            say(peer=peer[1])


def datagram_door(host, port):
    say(did="datagram_door", **who())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.bind((host, port))
        say(listening=True)
        text, peer = datagram.recvfrom(64)
        say(peer=peer[1], heard=text.decode())


# Names


def resolve(name):
    """Asks libc, which asks the configured resolver; gives the address."""
    say(did="resolve", **who())
    return socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]


# Witnesses: loaders of nothing, who say what arrived.


def witness(family, kind, protocol, bound=None):
    with socket.socket(family, kind, protocol) as ear:
        if bound is not None:
            ear.bind(bound)
        say(ready=True)
        ear.settimeout(200)
        while True:
            text = ear.recv(2048)
            if SENT in text:
                say(heard=True)
                return


def resolver(host, table):
    """Answers questions for addresses, from a table of names, until its input ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, 53))
        say(ready=True)
        threading.Thread(target=wait_for_the_end, daemon=True).start()
        while True:
            query, peer = server.recvfrom(4096)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
            address = table.get(".".join(labels).lower()) if kind == 1 else None
            flags = 0x8180 if address else (0x8180 if ".".join(labels).lower() in table else 0x8183)
            answer = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if address else 0, 0, 0) + query[12 : at + 5]
            if address:
                answer += struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
            server.sendto(answer, peer)
            say(asked=".".join(labels))


def wait_for_the_end():
    import sys

    sys.stdin.read()
    os._exit(0)
