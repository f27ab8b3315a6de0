"""What actors of the runtime tests do: acts, and the places (child, daemon, thread …) to do them from.

Every act first says on standard output who does it: the truth that the alerts are held to.
"""

import ctypes
import json
import mmap
import os
import pickle
import socket
import sys
import threading
import zipfile

MODEL = sys.argv[1] if len(sys.argv) > 1 else None
HELPER = os.environ.get("SENSOR_TEST_HELPER")
SENT = b"seen"

# What the socket module imports at its first use; an actor that becomes another user could not read it then.
"".encode("idna")


def say(**words):
    os.write(1, json.dumps(words).encode() + b"\n")


def go():
    """Waits until the test says so."""
    say(waiting=True)
    sys.stdin.readline()


def process(folder):
    with open(f"/proc/{folder}/status", "rb") as file:
        status = dict(line.split(b":", 1) for line in file if b":" in line)
    with open(f"/proc/{folder}/cmdline", "rb") as file:
        argv = file.read().split(b"\0")[:-1]
    return int(status[b"PPid"]), {
        "pid": int(status[b"Tgid"]),
        "exe": os.readlink(f"/proc/{folder}/exe"),
        "argv": [word.decode("utf-8", "replace") for word in argv],
    }


def who():
    """This process and its ancestors below pid 1, nearest first, as far as it may look."""
    parent, me = process("thread-self")  # The leader may be gone.
    me["uid"] = os.getuid()
    me["ancestors"] = []
    while parent > 1:
        try:
            parent, ancestor = process(str(parent))
        except PermissionError:
            break
        except (FileNotFoundError, ProcessLookupError):
            return who()  # An ancestor ends just now; the next look finds who adopts its children.
        me["ancestors"].append(ancestor)
    return me


def load(path=None):
    with open(path or MODEL, "rb") as file:
        return pickle.load(file)


def load_torch():
    """What torch.load does with a checkpoint, as far as the file goes."""
    with open(MODEL, "rb") as file, zipfile.ZipFile(file) as archive:
        return pickle.loads(archive.read("archive/data.pkl"))


def prepare():
    """What a pickle may call, and no list of known functions names."""


# Acts


def tcp(host, port):
    say(did="tcp", **who())
    with socket.create_connection((host, port)) as connection:
        connection.sendall(SENT)


def udp(host, port):
    say(did="udp", **who())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(SENT, (host, port))


def shell():
    """os.system: the shell says its pid and its parent's."""
    say(did="shell", **who())
    os.system("""echo '{"shell":'$$', "parent":'$PPID'}'""")


# Places


def here(act):
    act()


def child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def grandchild(act):
    child(lambda: child(act))


def daemon(act):
    """Twice forked, its own session, and its parents are gone before it acts."""
    say(loader=os.getpid())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)  # The end of the pipe: the one in between is gone, and so is the loader.
            act()
        os._exit(0)
    os.waitpid(pid, 0)
    os._exit(0)


def thread(act):
    worker = threading.Thread(target=act)
    worker.start()
    worker.join()


def orphan_thread(act):
    """A thread that acts when the leader of its group is gone."""
    leader = os.getpid()

    def work():
        while True:
            with open(f"/proc/self/task/{leader}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] == b"Z":
                    break
        act()
        os._exit(0)

    threading.Thread(target=work).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2), not exit_group(2)


def replaced(kind, address):
    """This process becomes another program, which acts."""
    say(before=True, **who())
    os.execv(HELPER, [HELPER, "helper-act", kind, address])


def spawned(kind, address):
    """posix_spawn(3): vfork and exec."""
    say(before=True, **who())
    os.waitpid(os.posix_spawn(HELPER, [HELPER, "helper-act", kind, address], os.environ), 0)
