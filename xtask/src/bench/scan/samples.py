"""Writes the large samples: samples.py FOLDER PICKLE_BYTES ZIP_BYTES.

big.pkl     a pickle of many small objects, memo and all; prints its opcodes
small.pkl   a hundredth of it, for readers that take minutes for the whole
model.pt    a torch zip of 300 stored members (as torch.save writes it; needs no torch)
"""
import collections
import io
import pickle
import pickletools
import sys
import types
import zipfile

folder, pickle_bytes, zip_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def rows(count):
    return [{"id": i, "name": "token%d" % (i % 50_000), "at": (i, i * 0.5, None), "more": [True, i % 7]} for i in range(count)]


each = len(pickle.dumps(rows(10_000), 2)) / 10_000
for name, part in [("big.pkl", 1), ("small.pkl", 100)]:
    data = pickle.dumps(rows(int(pickle_bytes / each / part)), 2)
    with open(f"{folder}/{name}", "wb") as out:
        out.write(data)
    print(name, len(data), sum(1 for _ in pickletools.genops(data)))

torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")


class FloatStorage:
    __module__, __qualname__ = "torch", "FloatStorage"


def _rebuild_tensor_v2(*args):
    pass


_rebuild_tensor_v2.__module__ = "torch._utils"
torch.FloatStorage, torch._utils, utils._rebuild_tensor_v2 = FloatStorage, utils, _rebuild_tensor_v2
sys.modules.update({"torch": torch, "torch._utils": utils})


class Tensor:
    def __init__(self, key, numel):
        self.key, self.numel = key, numel

    def __reduce__(self):
        return _rebuild_tensor_v2, (Storage(self.key, self.numel), 0, (self.numel,), (1,), False, collections.OrderedDict())


class Storage:
    def __init__(self, key, numel):
        self.key, self.numel = key, numel


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", FloatStorage, value.key, "cpu", value.numel)
        return None


members = 300
numel = zip_bytes // members // 4
text = io.BytesIO()
state = collections.OrderedDict((f"layer.{i}.weight", Tensor(str(i), numel)) for i in range(members))
Pickler(text, 2).dump(state)
with zipfile.ZipFile(f"{folder}/model.pt", "w", zipfile.ZIP_STORED) as out:
    out.writestr("model/data.pkl", text.getvalue())
    out.writestr("model/byteorder", "little")
    chunk = bytes(range(256)) * (numel * 4 // 256 + 1)
    for i in range(members):
        out.writestr(f"model/data/{i}", chunk[: numel * 4])
    out.writestr("model/version", "3\n")
