//! A payload that tries to make the sensor forget, or misjudge, what its process loaded.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::ways_in::Loud;
use crate::alert::{Alert, Alerts};
use crate::harness::Case;
use crate::model::Content;
use crate::namespace::PUBLIC4;

/// The connection of this case has to be at least high, whatever became of the file.
fn still_loud(alerts: &Alerts, port: u16) -> Result<()> {
    let alert: &Alert = alerts
        .0
        .iter()
        .rfind(|alert| alert.text("/event/kind") == "connect" && alert.at("/event/port") == &Value::from(port))
        .context("the connection made no alert")?;
    ensure!(matches!(alert.text("/severity"), "high" | "critical"), "too quiet:\n{}", alert.line);
    Ok(())
}

pub fn cases() -> Vec<Case> {
    // What the payload does to its own file before it connects: nothing of it may end the mark.
    let tricks = [
        ("emptied", "os.truncate(MODEL, 0)"),
        ("overwritten_with_text", "open(MODEL, 'w').write('x' * 64); open(MODEL).read()"),
        (
            "overwritten_with_data",
            "open(MODEL, 'wb').write((2).to_bytes(8, 'little') + b'{}'); open(MODEL, 'rb').read()",
        ),
        ("unlinked", "os.unlink(MODEL)"),
        (
            "hidden_behind_others",
            "[(open(f'{MODEL}.{i}.pkl', 'wb').write(b'K\\x01.'), open(f'{MODEL}.{i}.pkl', 'rb').close()) for i in range(12)]",
        ),
        ("touched", "[(os.chmod(MODEL, 0o600 + i % 2), open(MODEL, 'rb').close()) for i in range(50)]"),
    ];
    let mut cases = Vec::new();
    for (name, trick) in tricks {
        cases.push(Case::shared(format!("evasion::{name}"), move |room| {
            let listener = room.tcp(PUBLIC4)?;
            let port = listener.port();
            let code = format!("import os\n{trick}\ntcp({PUBLIC4:?}, {port})");
            let model = room.model("model.pkl", Content::Payload(&code))?;
            room.run_python("load()", &model)?;
            listener.was_reached()?;
            Ok(move |alerts: &Alerts| still_loud(alerts, port))
        }));
    }
    // Shards, one of which is bad: it is remembered, wherever it stands, also when none of them is open any more.
    cases.push(Case::shared("evasion::one_shard_of_many", |room| {
        let listener = room.tcp(PUBLIC4)?;
        let port = listener.port();
        let model = room.model("model-00012.pkl", Content::Payload("pass"))?;
        for i in (0..30).filter(|i| *i != 12) {
            room.model(&format!("model-{i:05}.pkl"), Content::CleanPickle)?;
        }
        let code = format!(
            "[load(MODEL.replace('00012', f'{{i:05}}')) for i in range(30)]\nchild(lambda: tcp({PUBLIC4:?}, {port}))"
        );
        room.run_python(&code, &model)?;
        listener.was_reached()?;
        let loud = Loud { port, model: Some(model), in_load: Some(false) };
        Ok(loud.judge())
    }));
    // Threads that end together free what the process names once, not once each: the daemon keeps its mark.
    cases.push(Case::shared("evasion::many_threads_end_at_once", move |room| {
        let listener = room.tcp(PUBLIC4)?;
        let port = listener.port();
        let code = format!(
            "
import os, threading, time
for i in range(64):
  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
reader, writer = os.pipe()
if os.fork() == 0:
  os.close(writer)
  os.read(reader, 1)
  time.sleep(0.2)
  tcp({PUBLIC4:?}, {port})
  os._exit(0)
os._exit(0)
"
        );
        let model = room.model("model.pkl", Content::Payload(&code))?;
        room.run(&mut room.python("load()", &[&model]))?;
        listener.was_reached()?;
        Ok(move |alerts: &Alerts| still_loud(alerts, port))
    }));
    cases
}
