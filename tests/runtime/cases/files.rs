//! A process that loaded a model reads credentials and writes what runs again without it. The truth: what it read is what
//! the file holds, and what it wrote is there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::payload::Trace;
use super::ways_in::under;
use crate::alert::{Alert, Alerts};
use crate::harness::Case;
use crate::lab::Room;
use crate::model::Content;

/// A folder of the room is somebody's home: anything can be one.
struct Secret {
    name: &'static str,
    path: &'static str,
    /// `event.file`
    file: &'static str,
    technique: &'static str,
}

const SECRETS: [Secret; 9] = [
    secret("ssh", ".ssh/id_ed25519", "ssh-key", "T1552.004"),
    secret("ssh_by_another_name", ".ssh/deploy", "ssh-key", "T1552.004"),
    secret("aws", ".aws/credentials", "cloud-credential", "T1552.001"),
    secret("gcloud", ".config/gcloud/application_default_credentials.json", "cloud-credential", "T1552.001"),
    secret("azure", ".azure/msal_token_cache.json", "cloud-credential", "T1552.001"),
    secret("hub", ".cache/huggingface/token", "hub-token", "T1552.001"),
    secret("kube", ".kube/config", "kubernetes-credential", "T1552.007"),
    secret("git", ".git-credentials", "git-credential", "T1552.001"),
    secret("docker", ".docker/config.json", "tool-credential", "T1552.001"),
];

const fn secret(name: &'static str, path: &'static str, file: &'static str, technique: &'static str) -> Secret {
    Secret { name, path, file, technique }
}

/// Places to stay in.
const PLACES: [Secret; 8] = [
    secret("authorized_keys", ".ssh/authorized_keys", "ssh-access", "T1098.004"),
    secret("bashrc", ".bashrc", "shell-startup", "T1546.004"),
    secret("profile", ".profile", "shell-startup", "T1546.004"),
    secret("user_unit", ".config/systemd/user/x.service", "systemd-unit", "T1543.002"),
    secret("enabled_unit", ".config/systemd/user/default.target.wants/x.service", "systemd-unit", "T1543.002"),
    secret("pth", "venv/lib/python3.11/site-packages/x.pth", "python-startup", "T1546.018"),
    secret("sitecustomize", "venv/lib/python3.11/site-packages/sitecustomize.py", "python-startup", "T1546.018"),
    secret("autostart", ".config/autostart/x.desktop", "desktop-autostart", "T1547.013"),
];

/// The same, of the host as a whole: below an `/etc` that is the loader's alone.
const HOST_PLACES: [Secret; 2] = [
    secret("cron", "/etc/cron.d/x", "cron", "T1053.003"),
    secret("library_preload", "/etc/ld.so.preload", "library-preload", "T1574.006"),
];
const OWN_ETC: [&str; 6] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /etc && mkdir /etc/cron.d && exec \"$@\"", "sh"];

/// A file gets its name by other ways than an open.
const PUTS: [(&str, &str); 8] = [
    ("by_rename", "os.rename(NEW, AT)"),
    ("over_another", "open(AT, 'w').close()\nos.replace(NEW, AT)"),
    ("from_a_folder", "os.rename(NEW, '.bashrc', dst_dir_fd=os.open(FOLDER, os.O_RDONLY))"),
    ("from_where_it_is", "new = os.path.abspath(NEW)\nos.chdir(FOLDER)\nos.rename(new, '../home/.bashrc')"),
    (
        "by_exchange",
        "open(AT, 'w').close()\nassert ctypes.CDLL(None).renameat2(-100, AT.encode(), -100, NEW.encode(), 2) == 0",
    ),
    ("by_link", "os.link(NEW, AT)"),
    ("by_symlink", "os.symlink(os.path.abspath(NEW), AT)"),
    ("by_creat", "fd = ctypes.CDLL(None).creat(AT.encode(), 0o600)\nos.write(fd, b'x')"),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for secret in SECRETS {
        cases.push(Case::shared(format!("files::read_{}", secret.name), move |room| {
            let path = put(room, secret.path, "hunter2")?;
            let model = room.model("model.pkl", Content::Payload(&format!("say(read=open({path:?}).read())")))?;
            let truth = room.run_python("load()", &model)?;
            ensure!(truth.what("read")?["read"] == "hunter2", "it read something else");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| loud(of_file(alerts, &room, &path, "read")?, &secret)?.names(&model).map(|_| ()))
        }));
    }
    for place in PLACES {
        cases.push(Case::shared(format!("files::write_{}", place.name), move |room| {
            let path = folder_for(room, place.path)?;
            let model = room.model("model.pkl", Content::Payload(&format!("open({path:?}, 'a').write('x')")))?;
            room.run_python("load()", &model)?;
            ensure!(std::fs::metadata(&path)?.len() == 1, "it was not written");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| loud(of_file(alerts, &room, &path, "write")?, &place)?.names(&model).map(|_| ()))
        }));
    }
    for place in HOST_PLACES {
        cases.push(Case::shared(format!("files::write_{}", place.name), move |room| {
            let path = Path::new(place.path);
            let code =
                format!("with open({path:?}, 'a') as file:\n  file.write('\\n')\nsay(wrote=os.path.getsize({path:?}))");
            let model = room.model("model.pkl", Content::Payload(&code))?;
            let truth = room.run(&mut under(&OWN_ETC, &room.python("load()", &[&model])))?;
            ensure!(truth.what("wrote")?["wrote"] == 1, "it was not written");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| loud(of_file(alerts, &room, path, "write")?, &place)?.names(&model).map(|_| ()))
        }));
    }
    for (name, code) in PUTS {
        cases.push(Case::shared(format!("files::put_{name}"), move |room| {
            let path = folder_for(room, ".bashrc")?;
            std::fs::write(room.dir.join("new"), "x")?;
            let folder = path.parent().context("a folder")?;
            let code = format!("import ctypes, os\nNEW, AT, FOLDER = 'new', {path:?}, {folder:?}\n{code}");
            let model = room.model("model.pkl", Content::Payload(&code))?;
            room.run_python("load()", &model)?;
            ensure!(std::fs::read(&path)? == b"x", "it is not there");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let rc = secret("", "", "shell-startup", "T1546.004");
                loud(of_file(alerts, &room, &path, "write")?, &rc)?.names(&model).map(|_| ())
            })
        }));
    }
    for (name, code) in [("rename", "os.rename('new', AT)"), ("symlink", "os.symlink(os.path.abspath('new'), AT)")] {
        // With all that is in it.
        cases.push(Case::shared(format!("files::put_a_folder_by_{name}"), move |room| {
            let path = folder_for(room, ".ssh")?;
            std::fs::create_dir(room.dir.join("new"))?;
            std::fs::write(room.dir.join("new/authorized_keys"), "x")?;
            let model = room.model("model.pkl", Content::Payload(&format!("import os\nAT = {path:?}\n{code}")))?;
            room.run_python("load()", &model)?;
            ensure!(std::fs::read(path.join("authorized_keys"))? == b"x", "it is not there");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let keys = secret("", "", "ssh-access", "T1098.004");
                loud(of_file(alerts, &room, &path, "write")?, &keys)?.names(&model).map(|_| ())
            })
        }));
    }
    for (name, at, read, code) in [
        ("a_link", ".ssh/id_rsa", "x", "os.link(AT, 'x')"),
        ("a_rename", ".aws/credentials", "x", "os.rename(AT, 'x')"),
        ("a_renamed_folder", ".ssh", "x/id_rsa", "os.rename(AT, 'x')"),
        (
            "an_exchange",
            ".aws/credentials",
            "x",
            "open('x', 'w').close()\nassert ctypes.CDLL(None).renameat2(-100, b'x', -100, AT.encode(), 2) == 0",
        ),
    ] {
        // A secret is as good under another name.
        cases.push(Case::shared(format!("files::read_by_{name}"), move |room| {
            put(room, ".ssh/id_rsa", "hunter2")?;
            put(room, ".aws/credentials", "hunter2")?;
            let at = room.dir.join("home").join(at);
            let code = format!("import ctypes, os\nAT = {at:?}\n{code}\nsay(read=open({read:?}).read())");
            let model = room.model("model.pkl", Content::Payload(&code))?;
            let truth = room.run_python("load()", &model)?;
            ensure!(truth.what("read")?["read"] == "hunter2", "it read something else");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                let alert = of_file(alerts, &room, &at, "read")?;
                alert.is("/severity", "critical")?.is("/event/in_load", true)?.names(&model).map(|_| ())
            })
        }));
    }
    cases.push(Case::shared("files::write_by_another_name", |room| {
        let path = put(room, ".ssh/authorized_keys", "a")?;
        let code = format!("import os\nos.link({path:?}, 'alias')\nopen('alias', 'a').write('k')");
        let model = room.model("model.pkl", Content::Payload(&code))?;
        room.run_python("load()", &model)?;
        ensure!(std::fs::read(&path)? == b"ak", "it was not written");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let keys = secret("", "", "ssh-access", "T1098.004");
            loud(of_file(alerts, &room, &path, "write")?, &keys)?.names(&model).map(|_| ())
        })
    }));
    cases.push(Case::shared("files::renames_and_links_that_are_nobodys_secret", |room| {
        let hosts = put(room, ".ssh/known_hosts", "x")?;
        let shard = put(room, "cache/shard", "x")?;
        let code = format!(
            "load()\nos.rename({hosts:?}, {hosts:?} + '.old')\nos.link({hosts:?} + '.old', {hosts:?})\n\
             os.rename({shard:?}, {shard:?} + '.bin')\nos.link({shard:?} + '.bin', {shard:?})"
        );
        let model = room.model("model.pkl", Content::CleanPickle)?;
        room.run_python(&code, &model)?;
        ensure!(shard.exists() && hosts.exists(), "it renamed nothing");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| alerts.filter(|alert| room.own(alert)).kind("file").none("that is ordinary"))
    }));
    cases.push(Case::shared("files::read_shadow", |room| {
        let model = room.model("model.pkl", Content::Payload("say(read=len(open('/etc/shadow', 'rb').read()))"))?;
        let truth = room.run_python("load()", &model)?;
        ensure!(truth.what("read")?["read"].as_u64() > Some(0), "it read nothing");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let shadow = secret("shadow", "", "password-hashes", "T1003.008");
            loud(of_file(alerts, &room, Path::new("/etc/shadow"), "read")?, &shadow).map(|_| ())
        })
    }));
    cases.push(Case::shared("files::read_the_environment_of_another", |room| {
        // Its own is nobody's secret.
        let code =
            "say(read=[len(open(f'/proc/{pid}/environ', 'rb').read()) for pid in (os.getppid(), 'self', os.getpid())])";
        let model = room.model("model.pkl", Content::Payload(&format!("import os\n{code}")))?;
        let truth = room.run_python("load()", &model)?;
        ensure!(truth.what("read")?["read"][0].as_u64() > Some(0), "it read nothing");
        let parent = format!("/proc/{}/environ", std::process::id());
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| {
            let environment = secret("environ", "", "process-environment", "T1552");
            loud(of_file(alerts, &room, Path::new(&parent), "read")?, &environment)?;
            let others = |alert: &Alert| room.own(alert) && alert.text("/event/file") == "process-environment";
            let count = alerts.filter(|alert| others(alert) && alert.text("/event/path") != parent).0.len();
            ensure!(count == 0, "its own environment is no secret");
            Ok(())
        })
    }));
    cases.push(Case::shared("files::of_one_who_loaded_nothing", |room| {
        let secret = put(room, ".ssh/id_rsa", "hunter2")?;
        let rc = folder_for(room, ".bashrc")?;
        let pth = folder_for(room, "venv/lib/python3.11/site-packages/x.pth")?;
        let code = format!("open({secret:?}).read(); open({rc:?}, 'w').write('x'); open({pth:?}, 'w').write('x')");
        room.run_python(&code, Path::new("/nothing"))?;
        ensure!(std::fs::metadata(&pth)?.len() == 1, "it was not written");
        let home = format!("{}/", room.dir.display());
        Ok(move |alerts: &Alerts| {
            alerts.filter(|alert| alert.text("/event/path").starts_with(&home)).none("it carries no load")
        })
    }));
    for (name, when) in [("hub_token_after_a_clean_load", "after"), ("hub_token_under_an_open_array", "open")] {
        // What huggingface_hub does before each HEAD request, and requests before each request at all.
        cases.push(Case::shared(format!("files::{name}"), move |room| {
            let token = put(room, ".cache/huggingface/token", "hf_x")?;
            let netrc = put(room, ".netrc", "machine x")?;
            let keys = put(room, ".aws/credentials", "[default]")?;
            let reads = format!("[say(read=open(path).read()) for path in ({token:?}, {netrc:?}, {keys:?})]");
            let (model, code) = match when {
                "after" => (room.model("model.pkl", Content::CleanPickle)?, format!("load()\n{reads}")),
                _ => {
                    let code = format!("with open(MODEL, 'rb') as file:\n  file.read()\n  {reads}");
                    (room.model("model.npy", Content::Array)?, code)
                }
            };
            let truth = room.run_python(&code, &model)?;
            ensure!(truth.what("read")?["read"] == "hf_x", "it read something else");
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| {
                alerts.filter(|alert| room.own(alert)).kind("file").none_above("low", "client libraries do that")
            })
        }));
    }
    for (name, path, severity) in
        [("ssh_key_after_a_clean_load", ".ssh/id_rsa", "high"), ("bashrc_after_a_clean_load", ".bashrc", "high")]
    {
        cases.push(Case::shared(format!("files::{name}"), move |room| {
            let path = put(room, path, "x")?;
            let model = room.model("model.pkl", Content::CleanPickle)?;
            let access = if path.ends_with(".bashrc") { "write" } else { "read" };
            let mode = if access == "write" { "a" } else { "r" };
            room.run_python(&format!("load()\nopen({path:?}, {mode:?}).close()"), &model)?;
            let room = Trace::of(room);
            Ok(move |alerts: &Alerts| of_file(alerts, &room, &path, access)?.is("/severity", severity).map(|_| ()))
        }));
    }
    cases
}

/// Makes the folders of a file in the room's home.
fn folder_for(room: &Room<'_>, path: &str) -> Result<PathBuf> {
    let path = room.dir.join("home").join(path);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(path)
}

fn put(room: &Room<'_>, path: &str, text: &str) -> Result<PathBuf> {
    let path = folder_for(room, path)?;
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The last word on what was done to the file at `path`, by a loader of this room.
fn of_file<'a>(alerts: &'a Alerts, room: &Trace, path: &Path, access: &str) -> Result<&'a Alert> {
    let path = path.to_str().context("a path that is text")?;
    let wanted = |alert: &&Alert| {
        room.own(alert)
            && alert.text("/event/kind") == "file"
            && alert.text("/event/path") == path
            && alert.text("/event/access") == access
    };
    alerts.0.iter().rfind(wanted).with_context(|| format!("no alert of the {access} of {path}"))
}

fn loud<'a>(alert: &'a Alert, secret: &Secret) -> Result<&'a Alert> {
    let attack = alert.at("/rule/attack").as_array().cloned().unwrap_or_default();
    ensure!(attack.iter().any(|id| id == secret.technique), "{} is not said in\n{}", secret.technique, alert.line);
    alert.is("/severity", "critical")?.is("/event/in_load", true)?.is("/event/file", secret.file)
}
