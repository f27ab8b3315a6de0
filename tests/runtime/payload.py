"""Writes the model files of the runtime tests. Harmless: what they run connects to addresses that are local in a network
namespace of the tests, or starts a shell that writes one file.

Reads one JSON object a line ({"path": base64, "kind": …, "code": …}), answers "written".
"""

import base64
import builtins
import io
import json
import os
import pickle
import struct
import sys
import zipfile


class Call:
    """Pickles as a call of `function` with `argument`."""

    def __init__(self, function, argument):
        self.function, self.argument = function, argument

    def __reduce__(self):
        return self.function, (self.argument,)


def payload(code):
    return pickle.dumps({"state": Call(builtins.exec, code)}, protocol=4)


def call(module):
    # By hand: the module need not exist where the pickle is written.
    return b"\x80\x04c" + module.encode() + b"\nprepare\n)R."


def torch(code):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", payload(code))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("archive/version", "3\n")
    return content.getvalue()


def array():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack("<4f", 1, 2, 3, 4)


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + struct.pack("<4f", 1, 2, 3, 4)


KINDS = {
    "payload": payload,
    "torch": torch,
    "shell": lambda code: pickle.dumps({"state": Call(os.system, code)}, protocol=2),
    "call": call,
    "clean": lambda code: pickle.dumps({"epoch": 3, "weights": [0.5, 1.5, -2.0], "names": ["a", "b"]}, protocol=4),
    "array": lambda code: array(),
    "safetensors": lambda code: safetensors(),
}


def serve(kinds):
    for line in sys.stdin:
        request = json.loads(line)
        content = kinds[request["kind"]](request["code"])
        with open(base64.b64decode(request["path"]), "wb") as file:
            file.write(content)
        print("written", flush=True)


if __name__ == "__main__":
    serve(KINDS)
