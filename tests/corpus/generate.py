#!/usr/bin/env python3
"""Writes model files with a known verdict into a folder: malicious/ and benign/, each with a manifest.csv.

Nothing but the standard library is used, and nothing is loaded: payloads are assembled from opcodes. They are harmless
all the same: they run `true`, or name a file below a temporary folder.

    generate.py FOLDER
"""

import bz2
import collections
import csv
import datetime
import decimal
import enum
import fractions
import gzip
import importlib.util
import io
import itertools
import json
import lzma
import marshal
import pathlib
import pickle
import pickletools
import random
import re
import struct
import sys
import tarfile
import uuid
import zipfile
import zlib

import repositories


# Opcodes -------------------------------------------------------------------------------------------------------------

def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def short(value):
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def classic(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def stacked(module, name):
    return short(module) + short(name) + b"\x93"


def call(module, name, *arguments):
    """REDUCE with constant arguments."""
    return classic(module, name) + b"(" + b"".join(map(value, arguments)) + b"tR"


def value(argument):
    if isinstance(argument, bytes):
        return argument  # opcodes already
    if isinstance(argument, str):
        return text(argument)
    if isinstance(argument, int):
        return b"J" + struct.pack("<i", argument)
    raise TypeError(argument)


def stream(body, protocol=2):
    return (b"\x80" + bytes([protocol]) if protocol >= 2 else b"") + body + b"."


# The ways of calling -------------------------------------------------------------------------------------------------

def encodings(module, name, argument):
    """The same call in the words of every protocol."""
    line = b"S'" + argument.encode() + b"'\n"
    frame_body = stacked(module, name) + short(argument) + b"\x85R."
    yield "reduce_p0", classic(module, name) + b"(" + line + b"tR."
    yield "reduce_unicode_p0", classic(module, name) + b"(V" + argument.encode() + b"\ntR."
    yield "reduce_p1", classic(module, name) + b"(U" + bytes([len(argument)]) + argument.encode() + b"tR."
    yield "reduce_p2", stream(classic(module, name) + text(argument) + b"\x85R")
    yield "reduce_p4", b"\x80\x04\x95" + struct.pack("<Q", len(frame_body)) + frame_body
    yield "stack_global_p5", stream(stacked(module, name) + short(argument) + b"\x85R", 5)
    yield "inst", b"(" + line + b"i" + module.encode() + b"\n" + name.encode() + b"\n."
    yield "obj", b"(" + classic(module, name) + line + b"o."
    yield "newobj", stream(classic(module, name) + text(argument) + b"\x85\x81")
    yield "newobj_ex", stream(stacked(module, name) + short(argument) + b"\x85}\x92", 4)
    yield "memo", stream(classic(module, name) + b"q\x070" + text(argument) + b"\x85q\x080h\x07h\x08R")
    yield "dup", stream(classic(module, name) + b"2" + text(argument) + b"\x85R")
    yield "popped", stream(classic(module, name) + text(argument) + b"\x85R0}")
    yield "in_dict", stream(b"}" + text("weights") + classic(module, name) + text(argument) + b"\x85Rs")
    yield "no_stop", stream(classic(module, name) + text(argument) + b"\x85R")[:-1]
    yield "breaks_after", stream(classic(module, name) + text(argument) + b"\x85R\xff\xff")
    yield "second_stream", pickle.dumps({"a": 1}, 2) + stream(classic(module, name) + text(argument) + b"\x85R")
    yield "names_by_binunicode", stream(text(module) + text(name) + b"\x93" + text(argument) + b"\x85R", 4)
    yield "junk_before_stop", stream(classic(module, name) + text(argument) + b"\x85R" + b"N0" * 5000)


GADGETS = [
    ("posix", "system", "true"),
    ("os", "popen", "true"),
    ("nt", "system", "cmd /c ver"),
    ("subprocess", "Popen", "true"),
    ("subprocess", "getoutput", "true"),
    ("builtins", "eval", "1 + 1"),
    ("builtins", "exec", "pass"),
    ("__builtin__", "eval", "1 + 1"),
    ("runpy", "run_path", "/tmp/nothing.py"),
    ("commands", "getoutput", "true"),
    ("shutil", "rmtree", "/tmp/nothing"),
    ("webbrowser", "open", "http://192.0.2.1/"),
    ("pty", "spawn", "true"),
    ("importlib", "import_module", "antigravity"),
    ("code", "interact", "x"),
    ("timeit", "timeit", "pass"),
]

WALKS = [
    ("attribute_of_a_module", stream(stacked("shutil", "os.system") + short("true") + b"\x85R", 4)),
    ("builtins_of_a_function", stream(
        call("builtins", "getattr", classic("copyreg", "__newobj__"), "__globals__"))),
    ("getattr_by_name", stream(
        call("builtins", "getattr", call("importlib", "import_module", "os"), "system") + text("true") + b"\x85R")),
    ("partial", stream(call("functools", "partial", classic("os", "system"), "true") + b")R")),
    ("map_and_list", stream(call("builtins", "list", call(
        "builtins", "map", classic("os", "system"), b"]" + text("true") + b"a")))),
    ("nested_loads", stream(classic("pickle", "loads") + b"B" + struct.pack(
        "<I", len(stream(call("os", "system", "true")))) + stream(call("os", "system", "true")) + b"\x85R", 3)),
    ("registry", stream(call("copyreg", "add_extension", "os", "system", 7) + b"0\x82\x07" + text("true") + b"\x85R")),
    ("metaclass", stream(call(
        "builtins", "type", "X", b")", b"}" + text("append") + classic("os", "system") + b"s") + b")R" + text("true") + b"a")),
    ("state_of_a_module", stream(call("importlib", "import_module", "os") + b"}" + text("getcwd") + classic(
        "os", "abort") + b"sb")),
]


# Containers ----------------------------------------------------------------------------------------------------------

def archive(members, method=zipfile.ZIP_STORED, comment=b""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as written:
        for name, data in members:
            written.writestr(zipfile.ZipInfo(name), data, method)
        written.comment = comment
    return out.getvalue()


def torch(data, method=zipfile.ZIP_STORED, storage=b"\0" * 64):
    return archive(
        [("m/data.pkl", data), ("m/byteorder", b"little"), ("m/data/0", storage), ("m/version", b"3\n")], method)


def legacy(data, system=None, keys=None):
    parts = [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x80\x02M\xe9\x03.",
        system or pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2),
        data,
        keys or pickle.dumps(["0"], 2),
        struct.pack("<q", 16) + b"\0\0\x80\x3f" * 16,
    ]
    return b"".join(parts)


def npy(descr, data, shape="(1,)", version=1):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 1 + (10 if version == 1 else 12)) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def tar(members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as written:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))
    return out.getvalue()


def linked(members):
    """A tar file in which a target may stand for the data."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as written:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                written.addfile(info)
            else:
                info.size = len(data)
                written.addfile(info, io.BytesIO(data))
    return out.getvalue()


def safetensors(header, data):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def containers(data):
    """Everything that ends up unpickling `data`."""
    yield "torch", "torch.pt", torch(data)
    yield "torch", "torch_deflated.pt", torch(data, zipfile.ZIP_DEFLATED)
    yield "torch", "torch_any_name.model", torch(data)
    yield "torch", "torch_upper_case.pt", archive([("m/DATA.PKL", data), ("m/version", b"3\n")])
    yield "torch", "torch_commented.pt", archive([("m/data.pkl", data)], comment=b"x" * 3000)
    yield "torch", "torch_legacy.pt", legacy(data)
    yield "torch", "torch_legacy_system.pt", legacy(pickle.dumps({}, 2), system=data)
    yield "torch", "torch_legacy_keys.pt", legacy(pickle.dumps({}, 2), keys=data)
    yield "torch", "torch_tar.pt", tar([("storages", pickle.dumps(0, 2)), ("tensors", pickle.dumps(0, 2)), ("pickle", data)])
    yield "torch", "torch_storage.pt", torch(pickle.dumps({}, 2), storage=data)
    yield "numpy", "object.npy", npy("'|O'", data)
    yield "numpy", "object_version_2.npy", npy("'|O'", data, version=2)
    yield "numpy", "object_in_a_structure.npy", npy("[('a', '<f8'), ('b', [('c', '|O')])]", data)
    yield "numpy", "object_named_otherwise.bin", npy("'O8'", data)
    yield "numpy", "object.npz", archive([("a.npy", npy("'|O'", data))], zipfile.ZIP_DEFLATED)
    yield "joblib", "zlib.joblib", zlib.compress(data)
    yield "joblib", "gzip.joblib", gzip.compress(data)
    yield "joblib", "bz2.pkl", bz2.compress(data)
    yield "joblib", "xz.pkl.xz", lzma.compress(data)
    yield "joblib", "lzma.pkl.lzma", lzma.compress(data, lzma.FORMAT_ALONE)
    yield "archive", "model.tar", tar([("model/x.pkl", data)])
    yield "archive", "model.tar.gz", tar([("model/x.pkl", data)], "w:gz")
    yield "archive", "lzma.zip", archive([("x", data)], zipfile.ZIP_LZMA)
    yield "archive", "bzip2.zip", archive([("x", data)], zipfile.ZIP_BZIP2)
    yield "archive", "nested.zip", archive([("a/b.tar", tar([("c.pt", torch(data))]))], zipfile.ZIP_DEFLATED)
    yield "polyglot", "before_a_zip.pkl", data + archive([("readme.txt", b"hello")])
    yield "polyglot", "behind_a_picture.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + torch(data)
    for suffix in ("safetensors", "json", "md", "gguf", "npy", "zip", "txt"):
        yield "name", f"named.{suffix}", data


def program(target="torch.ops.aten.linear.default", expression="Symbol('s77', positive=True, integer=True)", more=()):
    """What torch.export.save writes."""
    graph = {"nodes": [{"target": target, "sizes": [{"as_expr": {"expr_str": expression}}]}]}
    return archive([("m/data/weights/weight_0", bytes(64)), ("m/models/model.json", json.dumps(graph)),
                    ("m/archive_format", b"pt2"), ("m/version", b"3\n"), *more])


def compiled(source):
    """The file that importing a module of this source leaves."""
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, "m.py", "exec"))


def malicious():
    for module, name, argument in GADGETS:
        for technique, data in encodings(module, name, argument):
            yield "pickle", f"{module}.{name}__{technique}.pkl", data, "malicious"
    for technique, data in WALKS:
        yield "pickle", f"{technique}.pkl", data, "malicious"
    for label, data in (("p2", stream(call("os", "system", "true"))), ("p0", b"cos\nsystem\n(S'true'\ntR.")):
        for kind, name, contained in containers(data):
            yield kind, f"{label}_{name}", contained, "malicious"
    attack = stream(call("os", "system", "true"))
    yield "joblib", "before_0.9.pkl.z", b"ZF" + hex(len(attack)).encode().ljust(19) + zlib.compress(attack), "malicious"
    yield "joblib", "behind_gzip.pkl.gz", gzip.compress(pickle.dumps({}, 2)) + attack, "malicious"
    yield "torch", "behind_storages.pt", legacy(pickle.dumps({}, 2)) + attack, "malicious"
    yield "archive", "behind_padding.tar", tar([("a", b"x")]) + attack, "malicious"
    yield "name", "behind_a_mark.pkl", b"\xef\xbb\xbf" + attack, "malicious"
    yield "torch", "operator.pt2", program(target="torch.os.system"), "malicious"
    yield "torch", "expression.pt2", program(expression="__import__('os').system('true')"), "malicious"
    yield "torch", "example.pt2", program(more=[("m/data/sample_inputs/model.pt", torch(attack))]), "malicious"
    yield "torch", "native.pt2", program(
        more=[("m/data/aotinductor/model/x.so", b"\x7fELF\x02\x01\x01" + bytes(99))]), "suspicious"
    yield "torch", "__0_0.distcp", torch(pickle.dumps({}, 2)) + torch(attack), "malicious"
    yield "torch", "short_record.pt", archive([("m/data.pkl", state_dict(1)), ("m/data/0", bytes(60))]), "suspicious"
    yield "settings", "any_name.json", json.dumps({"chat_template": "{{ cycler.__init__.__globals__.os.popen('true') }}"}).encode(), "malicious"
    yield "archive", "link.tar", linked([("a/x", "../../etc/passwd")]), "suspicious"
    yield "archive", "behind_a_link.tar", linked([("a", "b"), ("a/x", b"y")]), "suspicious"
    yield "native", "loose.pyc", compiled("import os\nos.system('true')\n"), "suspicious"
    plain = torch(pickle.dumps({}, 2))
    yield "zip", "traversal.zip", archive([("../../x", b"x")]), "suspicious"
    yield "zip", "absolute.zip", archive([("/tmp/x", b"x")]), "suspicious"
    yield "zip", "prefix.pt", b"junk" + plain, "suspicious"
    yield "zip", "suffix.pt", plain + b"junk", "suspicious"
    flagged = bytearray(plain)
    flagged[flagged.rindex(b"PK\x01\x02") + 8] |= 0x20
    yield "zip", "flag.pt", bytes(flagged), "suspicious"
    sized = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    yield "safetensors", "overlap.safetensors", safetensors(
        {"a": sized, "b": {**sized, "data_offsets": [2, 6]}}, bytes(6)), "suspicious"
    yield "safetensors", "tail.safetensors", safetensors({"a": sized}, bytes(4) + b"tail"), "suspicious"
    yield "safetensors", "twice.safetensors", safetensors(
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        bytes(4)), "suspicious"
    numbers = {"dtype": "U8", "shape": [len(attack)], "data_offsets": [0, len(attack)]}
    yield "safetensors", "tensor_is_a_pickle.safetensors", safetensors({"a": numbers}, attack), "suspicious"
    yield "safetensors", "blanks.safetensors", safetensors(b"  " + json.dumps({"a": sized}).encode(), bytes(4)), "suspicious"
    yield "safetensors", "key.safetensors", safetensors({"a": {**sized, "x": 1}}, bytes(4)), "suspicious"
    for name, value in (("hex", attack.hex()), ("yaml", "model:\n  _target_: os.system\n")):
        yield "safetensors", f"metadata_{name}.safetensors", safetensors(
            {"__metadata__": {"x": value}, "a": sized}, bytes(4)), "suspicious"
    yield "safetensors", "length.safetensors", struct.pack("<Q", 1 << 60) + b"{}", "suspicious"


# What people really keep ---------------------------------------------------------------------------------------------

class Colour(enum.Enum):
    RED = 1


def values():
    yield "numbers", {"a": [1, -2, 3 << 70, 1.5, True, None], "b": (1, (2, (3,)))}
    yield "text", ["plain", "naïve ☃", "line\nline", "x" * 70_000, b"bytes", bytearray(b"more")]
    yield "containers", {"set": {1, 2}, "frozen": frozenset("ab"), "empty": [(), [], {}]}
    yield "collections", [
        collections.OrderedDict(a=1), collections.Counter("hello"), collections.deque([1, 2]),
        collections.defaultdict(list, a=[1])]
    yield "dates", [datetime.datetime(2024, 1, 2), datetime.timedelta(3), datetime.date(2020, 1, 1), datetime.timezone.utc]
    yield "exact", [decimal.Decimal("1.5"), fractions.Fraction(1, 3), complex(1, 2), range(5), slice(1, 2)]
    yield "paths", [pathlib.PurePosixPath("/a/b"), pathlib.PurePosixPath("c")]
    yield "patterns", re.compile("a+b", re.I)
    yield "errors", ValueError("no such thing")
    yield "random", random.Random(1).getstate()
    yield "identifiers", uuid.UUID(int=5)
    yield "deep", [[[[[[{"a": [{}]}]]]]]]
    yield "many", {f"layer.{index}": [index] * 20 for index in range(2000)}
    shared = [1, 2, 3]
    yield "shared", [shared, shared, {"again": shared}]


def state_dict(count):
    """What torch.save writes of a state_dict: `_rebuild_tensor_v2` over persistent ids."""
    body = classic("collections", "OrderedDict") + b")R("
    for index in range(count):
        storage = b"(" + text("storage") + classic("torch", "FloatStorage") + text(str(index)) + text("cpu") + b"K\x10tQ"
        tensor = classic("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"K\x00K\x04K\x04\x86K\x04K\x01\x86\x89"
        body += text(f"layer.{index}.weight") + tensor + classic("collections", "OrderedDict") + b")RtR"
    return stream(body + b"u")


def checkpoint(count, method=zipfile.ZIP_STORED):
    generator = random.Random(7)
    members = [("m/data.pkl", state_dict(count)), ("m/byteorder", b"little")]
    members += [(f"m/data/{index}", generator.randbytes(64)) for index in range(count)]
    return archive(members + [("m/version", b"3\n")], method)


def joblib(array):
    """What joblib writes of a dict with one float array: its wrapper, padding, raw bytes, more opcodes."""
    dtype = classic("numpy", "dtype") + text("f8") + b"\x89\x88\x87R(K\x03" + text("<") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    state = b"}(" + text("subclass") + classic("numpy", "ndarray")
    state += text("shape") + b"K" + bytes([len(array) // 8]) + b"\x85" + text("order") + text("C") + text("dtype") + dtype
    state += text("allow_mmap") + b"\x88" + text("numpy_array_alignment_bytes") + b"K\x10u"
    start = b"\x80\x03}" + text("coef_") + classic("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81" + state + b"b"
    padding = 16 - (len(start) + 1) % 16
    return start + bytes([padding]) + b"\xff" * padding + array + b"s."


def benign():
    for name, content in values():
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            yield "pickle", f"{name}_p{protocol}.pkl", pickle.dumps(content, protocol)
        yield "pickle", f"{name}_optimized.pkl", pickletools.optimize(pickle.dumps(content, 4))
    yield "pickle", "two.pkl", pickle.dumps([1], 4) + pickle.dumps([2], 4)
    generator = random.Random(3)
    for count in (1, 5, 60):
        yield "torch", f"state_{count}.pt", checkpoint(count)
    yield "torch", "state_deflated.pt", checkpoint(5, zipfile.ZIP_DEFLATED)
    yield "torch", "state_legacy.pt", legacy(state_dict(1))
    for index in range(40):
        # Weights are random bytes: none of them may look like an attack.
        yield "torch", f"noise_{index}.pt", archive(
            [("m/data.pkl", state_dict(1)), ("m/data/0", generator.randbytes(4096)), ("m/version", b"3\n")])
    for index in range(6):
        array = generator.randbytes(8 * (index + 1))
        yield "joblib", f"array_{index}.joblib", joblib(array)
        yield "joblib", f"array_{index}_zlib.joblib", zlib.compress(joblib(array))
        yield "joblib", f"array_{index}_xz.joblib", lzma.compress(joblib(array))
    for descr, size in (("'<f8'", 8), ("'|b1'", 1), ("'<U3'", 12), ("'<M8[ns]'", 8), ("[('a', '<f4'), ('b', '<i4', (2,))]", 12)):
        name = re.sub(r"\W+", "_", descr).strip("_")
        yield "numpy", f"array_{name}.npy", npy(descr, generator.randbytes(size * 6), "(2, 3)")
        yield "numpy", f"array_{name}_2.npy", npy(descr, generator.randbytes(size * 6), "(6,)", 2)
        yield "numpy", f"array_{name}.npz", archive(
            [("a.npy", npy(descr, generator.randbytes(size), "()")), ("b.npy", npy(descr, b"", "(0,)"))], zipfile.ZIP_DEFLATED)
    yield "numpy", "zeros.npz", archive([("a.npy", npy("'<f8'", bytes(1 << 20), "(131072,)"))], zipfile.ZIP_DEFLATED)
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    yield "safetensors", "plain.safetensors", safetensors(header, generator.randbytes(16))
    yield "safetensors", "padded.safetensors", safetensors(json.dumps(header).encode() + b"   ", generator.randbytes(16))
    yield "safetensors", "empty.safetensors", safetensors({}, b"")
    yield "archive", "model.tar.gz", tar([("model/state.pt", checkpoint(2)), ("model/config.json", b"{}")], "w:gz")
    yield "archive", "models.zip", archive([("a/state.pt", checkpoint(2)), ("README.md", b"# hello")], zipfile.ZIP_DEFLATED)
    yield "archive", "hub.tar", linked([("m/blobs/1", checkpoint(1)), ("m/snapshots/2/m.pt", "../../blobs/1")])
    yield "torch", "program.pt2", program()
    yield "torch", "__0_0.distcp", checkpoint(1) + checkpoint(2) + checkpoint(1)
    yield "other", "loose.pyc", compiled("class A:\n    def f(self):\n        return open('x').read()\n")
    yield "other", "cached.cpython-311.pyc", compiled("import os\nos.system('true')\n")
    yield "other", "notes.txt", b"Notes on the weights.\nThey are large.\n"
    yield "other", "site.pth", b"/usr/lib/python3/dist-packages\nimport site\n"
    yield "other", "table.csv", b"a,b\n1,2\n"


def write(folder, samples):
    folder.mkdir(parents=True)
    with open(folder / "manifest.csv", "w", newline="") as file:
        manifest = csv.writer(file)
        manifest.writerow(["file", "class", "expected"])
        for kind, name, data, expected in samples:
            files = data if isinstance(data, dict) else {"": data}
            for path, content in files.items():
                at = folder / name / path
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_bytes(content)
            manifest.writerow([name, kind, expected])


def main():
    folder = pathlib.Path(sys.argv[1])
    write(folder / "malicious", itertools.chain(malicious(), repositories.malicious()))
    write(folder / "benign", ((*sample, "benign") for sample in itertools.chain(benign(), repositories.benign())))


if __name__ == "__main__":
    main()
