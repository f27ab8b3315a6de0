//! Where a package is installed from: requirements files, and the same words on a command line.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};

/// Hosts from which packages are installed as a matter of course.
const INDEXES: &[&str] = &[
    "pypi.org",
    "files.pythonhosted.org",
    "test.pypi.org",
    "download.pytorch.org",
    "pypi.nvidia.com",
    "pypi.ngc.nvidia.com",
    "developer.download.nvidia.com",
    "data.pyg.org",
    "storage.googleapis.com",
    "wheels.vllm.ai",
    "flashinfer.ai",
    "huggingface.co",
    "huggingface.github.io",
    "github.com",
    "raw.githubusercontent.com",
    "gitlab.com",
    "bitbucket.org",
    "dl.fbaipublicfiles.com",
    "pypi.tuna.tsinghua.edu.cn",
    "mirrors.aliyun.com",
    "pypi.mirrors.ustc.edu.cn",
    "mirrors.tuna.tsinghua.edu.cn",
    "repo.radeon.com",
    "pytorch-extension.intel.com",
    "abetlen.github.io",
    "paddlepaddle.org.cn",
    "www.paddlepaddle.org.cn",
    "modelscope.oss-cn-beijing.aliyuncs.com",
    "jllllll.github.io",
    "conda.anaconda.org",
    "repo.anaconda.com",
    "pkgs.dev.azure.com",
    "codeload.github.com",
    "wheels.eos.dtn.com",
];

/// What is wrong with where a line installs from.
pub fn judge(line: &str) -> Option<(Severity, &'static str)> {
    let line = line.split(" #").next().unwrap_or(line).trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let words: Vec<&str> = line.split([' ', '\t', '=', '@', ';', '"', '\'']).filter(|word| !word.is_empty()).collect();
    let option = |names: &[&str]| names.iter().any(|name| line.starts_with(name) || line.contains(&format!(" {name}")));
    if option(&["--trusted-host"]) && !words.iter().any(|word| INDEXES.contains(word)) {
        return Some((Severity::Medium, "packages come from a host whose certificate is not checked"));
    }
    let index = option(&["--index-url", "--extra-index-url", "-i ", "--find-links", "-f ", "--pypi-url", "--index"]);
    let mut worst = None;
    for word in &words {
        let word = word
            .trim_start_matches("git+")
            .trim_start_matches("hg+")
            .trim_start_matches("svn+")
            .trim_start_matches("bzr+");
        let Some((scheme, rest)) = word.split_once("://") else { continue };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or(host).split(':').next().unwrap_or_default().to_lowercase();
        let known = INDEXES.contains(&host.as_str());
        let found = match scheme {
            "https" | "ssh" | "git" if known => (Severity::Info, "a package comes by its address"),
            "https" | "ssh" if index => {
                (Severity::Medium, "packages come from another index, which may serve any name")
            }
            "https" | "ssh" => (Severity::Medium, "a package comes from an address that is no package index"),
            "file" => (Severity::Low, "a package comes from a file"),
            _ => (Severity::Medium, "a package comes over a connection that anyone on the way can change"),
        };
        if worst.is_none_or(|(severity, _)| severity < found.0) {
            worst = Some(found);
        }
    }
    worst
}

pub fn scan(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines() {
        self::line(piece, line, "pip install -r", context);
    }
}

/// A file of conda: channels and packages are items of lists.
pub fn environment(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    for item in text.lines().filter_map(|line| line.trim_start().strip_prefix("- ")) {
        line(piece, item.trim_matches(['"', '\'', ' ']), "conda env create", context);
    }
}

/// `pyproject.toml`: a package and its address, wherever packages are named; other addresses are no packages.
pub fn project(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    for quoted in text.lines().flat_map(|line| line.split(['"', '\''])) {
        if quoted.split_once('@').is_some_and(|(_, address)| address.contains("://")) {
            line(piece, quoted, "pip install .", context);
        }
    }
}

fn line(piece: &Piece<'_>, line: &str, loader: &'static str, context: &mut Context<'_>) {
    if let Some((severity, title)) = judge(line) {
        let finding = Finding::new("SNS-531", severity, title).member(piece.member.as_deref());
        context.report(finding.text("line", line.trim()).loaders(&[loader]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        for line in [
            "--index-url http://127.0.0.1:9/",
            "--extra-index-url https://pypi.evil.example/simple",
            "x @ git+https://example.invalid/x.git",
            "-i http://pypi.org/simple",
            "http://github.com/a/b.zip",
            "x @ https://evil.example/x.whl",
            "--trusted-host evil.example",
            "-f https://evil.example/wheels",
            "git+http://github.com/a/b",
            "--extra-index-url=https://user:pw@evil.example/",
        ] {
            assert_eq!(judge(line).map(|(severity, _)| severity), Some(Severity::Medium), "{line}");
        }
        for line in [
            "torch>=2.0",
            "# --index-url http://x",
            "--extra-index-url https://download.pytorch.org/whl/cu121",
            "numpy==1.26.4  # pinned",
            "git+https://github.com/huggingface/transformers.git@main",
            "flash-attn @ https://github.com/Dao-AILab/flash-attention/releases/x.whl",
            "-r base.txt",
            "-e .",
            "",
            "pandas; python_version < '3.9'",
            "--hash=sha256:abc",
        ] {
            assert!(judge(line).is_none_or(|(severity, _)| severity == Severity::Info), "{line}");
        }
    }
}
