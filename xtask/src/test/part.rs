//! The parts of `cargo xtask test`, in the order in which they run: cheap ones first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Context, Outcome};
use crate::build_ebpf::{self, Rebuilt};
use crate::tool::{as_root, cargo, found, is_root, output, root, run, target};
use crate::vm::arch::Arch;
use crate::{bench, image, setup, vm};

pub struct Part {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&mut Context) -> Result<Outcome>,
}

pub const ALL: [Part; 13] = [
    Part { name: "format", what: "every file as rustfmt writes it", run: format },
    Part { name: "object", what: "the committed kernel object, rebuilt and compared", run: object },
    Part { name: "lint", what: "clippy, without a warning", run: lint },
    Part { name: "unit", what: "unit tests of every crate, and the smaller integration tests", run: unit },
    Part { name: "tidy", what: "who imports whom, and other rules of the house", run: |c| named("tidy", c) },
    Part { name: "cli", what: "the command line, its exit codes and its schemas", run: cli },
    Part { name: "corpus", what: "the scanner over generated and given samples", run: |c| named("corpus", c) },
    Part { name: "runtime", what: "real loads on this host's kernel, as root", run: runtime },
    Part { name: "rights", what: "the capabilities of the manifest and the unit are enough", run: rights },
    Part { name: "deploy", what: "the Kubernetes manifest and the systemd unit", run: deploy },
    Part { name: "image", what: "the container image, twice the same", run: image },
    Part { name: "overhead", what: "what the sensor costs, held against the committed figures", run: overhead },
    Part { name: "vm", what: "real loads on Debian's 6.12 kernel with BPF LSM, in two machines", run: machine },
];

/// Tests that are a part of their own; every other test target runs in `unit`.
const NAMED: [&str; 5] = ["tidy", "cli", "corpus", "runtime", "worker"];
/// Of these, the ones that need root.
const AS_ROOT: [&str; 2] = ["worker", "runtime"];
const MACHINE_LIMIT_S: u64 = 1_800;
/// Machines that share the tests, side by side.
const MACHINES: usize = 2;
/// The emulator has a thread for each processor, and kernels were seen to die where one ran code that another had just
/// patched. Tests start one sensor after the other, so a second processor would have little to do; the host has several.
const MACHINE_PROCESSORS: u32 = 1;
const MACHINE_MEMORY_MIB: u32 = 3072;
/// Tests that the host's kernel answers as well, and that take long on an emulated processor. Every way in and out is gone
/// on the best rung there, the host has its own, and `vm --kernel all` has them all; exceptions and what a terminal is
/// shown are decided where no kernel is asked; and whether a look comes before a short process's end, beside a crowd, is a
/// race that says nothing where two emulated machines share the processors.
const HOST_ONLY: [&str; 6] = [
    "crowd::",
    "paths::kprobe",
    "paths::tracepoint",
    "settings::an_exception_by_path",
    "settings::an_exception_by_content",
    "hostile::a_terminal_shows_an_ugly_path_safely",
];
/// What the manifest and the unit grant. `rights` runs the sensor with exactly these, `deploy` looks for them there.
const CAPABILITIES: [&str; 6] = ["BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"];
/// Versions of Kubernetes that the manifest has to fit: the oldest with a field for the AppArmor profile, and the
/// newest that the checker knows.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

fn format(_: &mut Context) -> Result<Outcome> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Passed)
}

fn object(context: &mut Context) -> Result<Outcome> {
    if !found("bpf-linker") {
        return Ok(Outcome::Skipped("bpf-linker is missing: run `cargo xtask setup --for build`".to_owned()));
    }
    if let Rebuilt::OtherTools(object) = build_ebpf::check()? {
        println!("The stamp is old; what follows tests the object that was built just now.");
        context.object = Some(object.into_os_string());
    }
    Ok(Outcome::Passed)
}

fn lint(context: &mut Context) -> Result<Outcome> {
    run(context.cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Outcome::Passed)
}

fn unit(context: &mut Context) -> Result<Outcome> {
    let mut command = context.cargo();
    command.args(["test", "--workspace", "--locked", "--quiet", "--lib", "--bins"]);
    for name in test_targets()?.iter().filter(|name| !NAMED.contains(&name.as_str())) {
        command.args(["--test", name]);
    }
    run(&mut command)?;
    Ok(Outcome::Passed)
}

/// One test target. The whole workspace is selected, so that dependencies are built with the same features every time.
fn named(name: &str, context: &mut Context) -> Result<Outcome> {
    if !test_targets()?.iter().any(|target| target == name) {
        bail!("no crate has a test named {name}");
    }
    run(context.cargo().args(["test", "--workspace", "--locked", "--quiet", "--test", name]))?;
    Ok(Outcome::Passed)
}

fn cli(context: &mut Context) -> Result<Outcome> {
    let schemas = setup::report_schemas_path();
    if schemas.join("complete").is_file() {
        context.report_schemas = Some(schemas.into_os_string());
    }
    let consumers = setup::consumers_path();
    if consumers.with_file_name("complete").is_file() {
        context.consumers = Some(consumers.into_os_string());
    }
    named("cli", context)
}

fn runtime(context: &mut Context) -> Result<Outcome> {
    if !is_root() && !found("sudo") {
        return Ok(Outcome::Skipped("needs root, and there is no sudo".to_owned()));
    }
    let targets = test_targets()?;
    if !targets.iter().any(|target| target == "runtime") {
        bail!("no crate has a test named runtime");
    }
    for name in AS_ROOT.iter().filter(|name| targets.iter().any(|target| target == *name)) {
        let binary = vm::test_binary(name, context.cargo())?;
        // By `env`, because sudo keeps no variables.
        let mut command = as_root("env");
        for name in vm::VARIABLES {
            if let Ok(value) = std::env::var(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        run(command.arg(binary).current_dir(root().join("sensor")))?;
    }
    Ok(Outcome::Passed)
}

fn machine(context: &mut Context) -> Result<Outcome> {
    if let Some(missing) = Arch::Amd64.missing() {
        return Ok(Outcome::Skipped(missing));
    }
    // Built together with the test, and at the same path in there.
    let runtime = vm::test_binary("runtime", context.cargo())?;
    let sensor = sensor(context)?;
    // Once, before each machine asks for it.
    vm::kernel::Kernel::get_for(setup::KERNEL, Arch::Amd64)?;
    let job = |shard: usize| {
        // The machines are alike, and to ask one how it attaches is as much work as to run a test.
        let check = match shard {
            1 => "\"$1\" doctor --format json >/tmp/doctor; python3 tests/vm/rung.py </tmp/doctor;",
            _ => "",
        };
        let skipped: String = HOST_ONLY.iter().map(|name| format!(" --skip={name}")).collect();
        let checked = format!("set -e; {check} cd sensor; exec \"$0\" --shard={shard}/{MACHINES}{skipped}");
        let words = ["sh".to_owned(), "-c".to_owned(), checked, runtime.clone(), sensor.display().to_string()];
        let status = vm::machine::run(&vm::machine::Job {
            series: setup::KERNEL,
            arch: Arch::Amd64,
            words: &words,
            time_limit_s: MACHINE_LIMIT_S,
            processors: MACHINE_PROCESSORS,
            memory_mib: MACHINE_MEMORY_MIB,
            bpf_lsm: true,
            output: None,
            kvm: false,
        });
        match status {
            Ok(0) => Ok(()),
            Ok(status) => bail!("status {status}: look at one test with `cargo xtask vm -- NAME`"),
            Err(error) => Err(error),
        }
    };
    let ended: Vec<Result<()>> = std::thread::scope(|scope| {
        let machines: Vec<_> = (1..=MACHINES).map(|shard| scope.spawn(move || job(shard))).collect();
        machines.into_iter().map(|machine| machine.join().unwrap_or_else(|_| bail!("a panic"))).collect()
    });
    ended.into_iter().collect::<Result<()>>()?;
    Ok(Outcome::Passed)
}

fn overhead(_: &mut Context) -> Result<Outcome> {
    if let Some(missing) = Arch::Amd64.missing() {
        return Ok(Outcome::Skipped(missing));
    }
    bench::overhead::check()?;
    Ok(Outcome::Passed)
}

/// The plan that the capabilities allow, held against the one that root gets.
fn rights(context: &mut Context) -> Result<Outcome> {
    if !is_root() && !found("sudo") {
        return Ok(Outcome::Skipped("needs root, and there is no sudo".to_owned()));
    }
    let sensor = sensor(context)?;
    let doctor = ["doctor", "--format", "json"];
    let all = output(as_root(&sensor).args(doctor))?;
    let names: Vec<String> = CAPABILITIES.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let few = output(
        as_root("setpriv")
            .args(["--no-new-privs", "--inh-caps=-all"])
            .arg(format!("--bounding-set=-all,{}", names.join(",")))
            .arg(&sensor)
            .args(doctor),
    )?;
    let plan = |text: &str| -> Result<Vec<(String, String)>> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let hooks = value["hooks"].as_array().cloned().unwrap_or_default();
        Ok(hooks.iter().map(|hook| (hook["event"].to_string(), hook["rung"].to_string())).collect())
    };
    let (all, few) = (plan(&all)?, plan(&few)?);
    if all.is_empty() || all != few {
        bail!("with {} the plan is\n{few:?}\nand as root it is\n{all:?}", CAPABILITIES.join(", "));
    }
    Ok(Outcome::Passed)
}

fn deploy(_: &mut Context) -> Result<Outcome> {
    let folder = root().join("deploy");
    let (manifest, unit) = (folder.join("kubernetes/daemonset.yaml"), folder.join("systemd/sensor.service"));
    let text = std::fs::read_to_string(&manifest)?;
    let granted: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    let unit_text = std::fs::read_to_string(&unit)?;
    let bounding = unit_text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap_or_default();
    for name in CAPABILITIES {
        if !granted.contains(&name) || !bounding.split(' ').any(|granted| granted == format!("CAP_{name}")) {
            bail!("CAP_{name} is not granted by the manifest and the unit alike");
        }
    }
    if bounding.split(' ').count() != CAPABILITIES.len() {
        bail!("the unit grants more than it needs: {bounding}");
    }

    let checker = setup::manifest_checker_path();
    if !checker.is_file() {
        return Ok(Outcome::Skipped("kubernetes-validate is missing: run `cargo xtask setup --for test`".to_owned()));
    }
    for version in KUBERNETES {
        run(Command::new(&checker).args(["--quiet", "--strict", "-k", version]).arg(&manifest))?;
    }
    if !found("systemd-analyze") {
        return Ok(Outcome::Skipped("systemd-analyze is missing: run `cargo xtask setup --for test`".to_owned()));
    }
    // It looks for the program that the unit starts: here it is any that exists.
    let copy = target().join("sensor.service");
    std::fs::write(&copy, unit_text.replace("/usr/bin/sensor", "/bin/true"))?;
    run(Command::new("systemd-analyze").arg("verify").arg(&copy))?;
    // In tenths of its exposure level: 49 is what watching a whole host costs, 96 is a service that is not confined.
    let judged =
        output(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=50"]).arg(&copy))?;
    println!("{}", judged.lines().last().unwrap_or_default());
    Ok(Outcome::Passed)
}

fn image(_: &mut Context) -> Result<Outcome> {
    image::check()?;
    Ok(Outcome::Passed)
}

/// The debug build of the sensor. With all targets, so that dependencies have the features that the tests gave them and
/// nothing is built twice.
fn sensor(context: &Context) -> Result<PathBuf> {
    run(context.cargo().args(["build", "--workspace", "--locked", "--quiet", "--all-targets"]))?;
    Ok(target().join("debug/sensor"))
}

/// The names of all integration tests of the workspace.
fn test_targets() -> Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    let targets = value["packages"].as_array().into_iter().flatten();
    let targets = targets.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    Ok(tests.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}

impl Context {
    /// Cargo, with the kernel object that is to be embedded.
    fn cargo(&self) -> Command {
        let mut command = cargo();
        if let Some(object) = &self.object {
            command.env("SENSOR_EBPF_OBJECT", object);
        }
        if let Some(schemas) = &self.report_schemas {
            command.env("SENSOR_REPORT_SCHEMAS", schemas);
        }
        if let Some(consumers) = &self.consumers {
            command.env("SENSOR_CONSUMERS", consumers);
        }
        command
    }
}
