"""Writes model files as the libraries do whose loaders the tests run. As payload.py otherwise; without code they are clean."""

import builtins
import io

import joblib
import numpy
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
import torch
from payload import Call, serve


def state(code):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    extra = {"extra": Call(builtins.exec, code)} if code else {}
    return {"epoch": 3, "model": model.state_dict(), **extra}


def torch_save(code, **how):
    content = io.BytesIO()
    torch.save(state(code), content, **how)
    return content.getvalue()


def pipeline(code):
    steps = [sklearn.preprocessing.StandardScaler(), sklearn.linear_model.LogisticRegression()]
    made = sklearn.pipeline.make_pipeline(*steps).fit(numpy.arange(40.0).reshape(20, 2), [0, 1] * 10)
    if code:
        made.extra = Call(builtins.exec, code)
    return made


def joblib_dump(code, **how):
    content = io.BytesIO()
    joblib.dump(pipeline(code), content, **how)
    return content.getvalue()


def objects(code):
    array = numpy.empty(2, dtype=object)
    array[:] = [Call(builtins.exec, code), "text"] if code else [{"a": 1}, "text"]
    return array


def numpy_save(save, what):
    content = io.BytesIO()
    save(content, what)
    return content.getvalue()


serve(
    {
        "torch.save": torch_save,
        "torch.save, legacy": lambda code: torch_save(code, _use_new_zipfile_serialization=False),
        "joblib.dump": joblib_dump,
        "joblib.dump, compressed": lambda code: joblib_dump(code, compress=("lzma", 3)),
        "np.save": lambda code: numpy_save(numpy.save, objects(code)),
        "np.savez": lambda code: numpy_save(numpy.savez, objects(code)),
        "np.savez, plain": lambda code: numpy_save(numpy.savez, numpy.arange(1000.0)),
    }
)
