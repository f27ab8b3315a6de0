"""Loads a checkpoint the way most code does: open it, unpickle it."""

import pickle
import sys

with open(sys.argv[1], "rb") as checkpoint:
    model = pickle.load(checkpoint)
print("loader: the model is loaded:", model["name"])
