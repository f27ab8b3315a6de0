"""Samples that a peer's tests make instead of shipping them: written to a folder, a name a line.

Usage: generate.py KIND FILE NAME OUT, in the folder of the peer's source.

payloads  NAME is a function of FILE that returns tuples of a name, a pickle and anything else
oracle    NAME is a list of FILE, of cases with a name and a payload; a name is prefixed with what CPython does with it
calls     FILE lists modules and names, as parameters of tests or as `Global(module, name, ….Dangerous)`; one pickle each
          that calls the name with a text
"""
import ast
import importlib
import os
import pickle
import subprocess
import sys

KIND, FILE, NAME, OUT = sys.argv[1:]


def write(name, payload):
    name = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    with open(os.path.join(OUT, name + ".pkl"), "wb") as file:
        file.write(payload)
    print(name)


def module():
    sys.path[:0] = [os.path.dirname(FILE), "src", "."]
    return importlib.import_module(os.path.basename(FILE).removesuffix(".py"))


def runs(payload):
    """Whether loading it gets to `subprocess.run`, which does nothing here."""
    reached = []
    real, subprocess.run = subprocess.run, lambda *args, **kwargs: reached.append(args)
    try:
        pickle.loads(payload)
    except Exception:
        pass
    finally:
        subprocess.run = real
    return bool(reached)


def called(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple):
            items, dangerous = node.elts, True
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Global" and len(node.args) == 3:
            items, dangerous = node.args[:2], ast.unparse(node.args[2]).endswith("Dangerous")
        else:
            continue
        texts = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if dangerous and len(texts) == len(items) == 2 and texts[0] != texts[1]:
            yield texts


def text(value):
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def main():
    if KIND == "payloads":
        for name, payload, *_ in getattr(module(), NAME)():
            write(name, payload)
    elif KIND == "oracle":
        for case in getattr(module(), NAME):
            write(("runs-" if runs(case.payload) else "other-") + case.name, case.payload)
    elif KIND == "calls":
        with open(FILE) as file:
            tree = ast.parse(file.read())
        for name, path in sorted(set(map(tuple, called(tree)))):
            # A class that stands with the module belongs to the path.
            outer, _, last = name.rpartition(".")
            if last[:1].isupper():
                name, path = outer, f"{last}.{path}"
            write(f"{name}.{path}", b"\x80\x04" + text(name) + text(path) + b"\x93" + text("x") + b"\x85R.")


main()
