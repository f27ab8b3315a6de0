//! How loud: by what the scanner said of the file, by when, and by where to (the table of severities).

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::alert::{Alert, Alerts};
use crate::harness::Case;
use crate::lab::Room;
use crate::model::Content;
use crate::namespace::{LOOPBACK4, METADATA4, PRIVATE4, PUBLIC4};

/// When the act comes.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// While the file is open.
    InWindow,
    /// When it has been closed.
    After,
    /// More than 30 s later.
    Later,
}

/// What is done: a shell is started, or a connection made.
#[derive(Clone, Copy)]
enum What {
    Shell,
    Connect(&'static str),
}

struct Cell {
    name: &'static str,
    content: Content<'static>,
    verdict: &'static str,
    class: &'static str,
    when: When,
    what: What,
    severity: &'static str,
}

use What::{Connect, Shell};
use When::{After, InWindow, Later};

const MALICIOUS: Content<'_> = Content::Payload("pass");
const SUSPICIOUS: Content<'_> = Content::Unknown;

#[rustfmt::skip]
const CELLS: [Cell; 31] = [
    cell("malicious_shell_after", MALICIOUS, After, Shell, "critical"),
    cell("malicious_private_after", MALICIOUS, After, Connect(PRIVATE4), "critical"),
    cell("malicious_public_later", MALICIOUS, Later, Connect(PUBLIC4), "high"),
    cell("suspicious_public_in_window", SUSPICIOUS, InWindow, Connect(PUBLIC4), "critical"),
    cell("suspicious_loopback_in_window", SUSPICIOUS, InWindow, Connect(LOOPBACK4), "critical"),
    cell("suspicious_public_after", SUSPICIOUS, After, Connect(PUBLIC4), "high"),
    cell("suspicious_public_later", SUSPICIOUS, Later, Connect(PUBLIC4), "medium"),
    cell("gadget_shell_in_window", Content::Gadget, InWindow, Shell, "high"),
    cell("gadget_public_in_window", Content::Gadget, InWindow, Connect(PUBLIC4), "high"),
    cell("gadget_shell_after", Content::Gadget, After, Shell, "medium"),
    // The shell's process is born in the window, of a file with nothing in it that could start one: the second column.
    cell("clean_pickle_shell_in_window", Content::CleanPickle, InWindow, Shell, "medium"),
    cell("clean_pickle_public_in_window", Content::CleanPickle, InWindow, Connect(PUBLIC4), "high"),
    cell("clean_pickle_private_in_window", Content::CleanPickle, InWindow, Connect(PRIVATE4), "medium"),
    cell("clean_pickle_loopback_in_window", Content::CleanPickle, InWindow, Connect(LOOPBACK4), "low"),
    cell("clean_pickle_metadata_in_window", Content::CleanPickle, InWindow, Connect(METADATA4), "critical"),
    cell("clean_pickle_shell_after", Content::CleanPickle, After, Shell, "medium"),
    cell("clean_pickle_public_after", Content::CleanPickle, After, Connect(PUBLIC4), "medium"),
    cell("clean_pickle_private_after", Content::CleanPickle, After, Connect(PRIVATE4), "low"),
    cell("clean_pickle_loopback_after", Content::CleanPickle, After, Connect(LOOPBACK4), "info"),
    cell("clean_pickle_metadata_after", Content::CleanPickle, After, Connect(METADATA4), "high"),
    cell("clean_pickle_public_later", Content::CleanPickle, Later, Connect(PUBLIC4), "info"),
    cell("safetensors_shell_in_window", Content::Safetensors, InWindow, Shell, "medium"),
    cell("safetensors_public_in_window", Content::Safetensors, InWindow, Connect(PUBLIC4), "low"),
    cell("safetensors_private_in_window", Content::Safetensors, InWindow, Connect(PRIVATE4), "info"),
    cell("safetensors_loopback_in_window", Content::Safetensors, InWindow, Connect(LOOPBACK4), "info"),
    cell("safetensors_metadata_in_window", Content::Safetensors, InWindow, Connect(METADATA4), "medium"),
    cell("safetensors_shell_after", Content::Safetensors, After, Shell, "low"),
    cell("safetensors_public_after", Content::Safetensors, After, Connect(PUBLIC4), "info"),
    cell("safetensors_metadata_after", Content::Safetensors, After, Connect(METADATA4), "low"),
    cell("array_public_in_window", Content::Array, InWindow, Connect(PUBLIC4), "low"),
    cell("array_public_after", Content::Array, After, Connect(PUBLIC4), "info"),
];

const fn cell(name: &'static str, content: Content<'static>, when: When, what: What, severity: &'static str) -> Cell {
    let (verdict, class) = match content {
        Content::Payload(_) | Content::Shell(_) | Content::Torch(_) => ("malicious", "code"),
        Content::Unknown => ("suspicious", "code"),
        Content::CleanPickle | Content::Gadget | Content::By(..) => ("clean", "code"),
        Content::Array | Content::Safetensors => ("clean", "data"),
    };
    Cell { name, content, verdict, class, when, what, severity }
}

pub fn cases() -> Vec<Case> {
    CELLS
        .into_iter()
        .map(|cell| Case::shared(format!("severity::{}", cell.name), move |room| run(room, cell)))
        .collect()
}

fn run(room: &Room<'_>, cell: Cell) -> Result<impl FnOnce(&Alerts) -> Result<()> + use<>> {
    let name = match cell.content {
        Content::Safetensors => "model.safetensors",
        Content::Array => "model.npy",
        _ => "model.pkl",
    };
    let model = room.model(name, cell.content)?;
    let listener = match cell.what {
        Connect(host) => Some(room.tcp(host)?),
        Shell => None,
    };
    let act = listener.as_ref().map_or("shell()".to_owned(), |listener| format!("tcp({})", listener.python()));
    let read = match cell.class {
        "code" => "pickle.load(file)",
        _ => "file.read()",
    };
    let code = match cell.when {
        InWindow => format!("with open(MODEL, 'rb') as file:\n  {read}\n  {act}"),
        After => format!("with open(MODEL, 'rb') as file:\n  {read}\n{act}"),
        // The passage of time is the subject here, not a wait for something to happen.
        Later => format!("import time\nwith open(MODEL, 'rb') as file:\n  {read}\ntime.sleep(31)\n{act}"),
    };
    let truth = room.run_python(&code, &model)?;
    if let Some(listener) = &listener {
        listener.was_reached()?;
    }
    let own = format!("{}/", room.dir.display());
    Ok(move |alerts: &Alerts| {
        let is_act: Box<dyn Fn(&Alert) -> bool> = match &listener {
            Some(listener) => {
                let port = Value::from(listener.port());
                Box::new(move |alert| alert.text("/event/kind") == "connect" && alert.at("/event/port") == &port)
            }
            None => {
                let pid = truth.what("shell")?["shell"].clone();
                Box::new(move |alert| alert.text("/event/kind") == "exec" && alert.at("/process/pid") == &pid)
            }
        };
        let acts = alerts.filter(|alert| alert.line.contains(&own) && is_act(alert));
        if cell.severity == "info" && acts.0.is_empty() {
            return Ok(());
        }
        let alert = acts.last(cell.name)?;
        alert.is("/severity", cell.severity)?.is("/event/in_load", cell.when == InWindow)?;
        alert.names(&model)?.is("/model/verdict", cell.verdict)?.is("/model/class", cell.class)?;
        let findings = alert.at("/model/findings").as_array().context("findings")?;
        ensure!(cell.verdict == "clean" || !findings.is_empty(), "no finding says why:\n{}", alert.line);
        Ok(())
    })
}
