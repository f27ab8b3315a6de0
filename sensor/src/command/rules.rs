//! `sensor rules`: what is looked for, each finding's manual page, and whether a folder of rules can be used.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use sensor_scan::rule::{self, Manual};
use serde_json::{Value, json};

use super::Format;
use crate::escape;
use crate::policy::Policy;
use crate::policy::destination::Network;
use crate::policy::rule::Rule;

/// Findings of the scanner and detections at run time: list, explain, check
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sensor rules list                       every finding and detection, one a line
  sensor rules show SNS-101               what a finding means, how it is abused, what to do
  sensor rules show severity              the table that decides how loud an alert is
  sensor rules show policy                every key of a file for `sensor scan --policy`
  sensor rules check /etc/sensor/rules    can these files be used?

Exit status: 0; 1 if `check` finds a fault; 2 if there is no such rule.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Every finding and detection, one a line
    List {
        /// How to say it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// The manual page of a finding or detection; `severity` is the table, `policy` a policy file with every key
    Show {
        /// `SNS-…`, or the id of a detection
        id: String,
    },
    /// Reads folders of rule files as `sensor run` would
    Check {
        /// Folders of `*.yaml` files; none: the rules that the program carries
        folders: Vec<PathBuf>,
    },
}

pub fn run(args: Args) -> ExitCode {
    let folders: &[PathBuf] = match &args.what {
        What::Check { folders } => folders,
        _ => &[],
    };
    let policy = match Policy::load(folders, Network::default()) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("{}", escape::terminal(error.to_string().as_bytes()));
            return ExitCode::from(1);
        }
    };
    let mut out = anstream::stdout().lock();
    let (result, status) = match args.what {
        What::List { format } => (list(&mut out, format, &policy), 0),
        What::Check { .. } => (check(&mut out, &policy), 0),
        What::Show { id } => match page(&id, &policy) {
            Some(text) => (out.write_all(text.as_bytes()), 0),
            None => {
                eprintln!(
                    "sensor: there is no rule {}; `sensor rules list` shows all",
                    escape::terminal(id.as_bytes())
                );
                (Ok(()), 2)
            }
        },
    };
    // A closed pipe ends the output, not the job.
    let _ = result.and_then(|()| out.flush());
    ExitCode::from(status)
}

fn list(out: &mut dyn Write, format: Format, policy: &Policy) -> io::Result<()> {
    if format == Format::Json {
        let findings: Vec<Value> = rule::all()
            .map(|manual| {
                let Manual { id, title, what, executes, abuse, fix, benign, attack, atlas } = manual;
                json!({ "id": id, "title": title, "what": what, "executes": executes, "abuse": abuse, "fix": fix,
                    "benign": benign, "attack": attack, "atlas": atlas })
            })
            .collect();
        let detections: Vec<Value> = policy
            .rules()
            .iter()
            .map(|rule| {
                json!({ "id": rule.id, "name": rule.name, "severity": rule.nominal.name(), "attack": rule.attack,
                    "atlas": rule.atlas })
            })
            .collect();
        let all = json!({ "schema": "sensor.rules/1", "findings": findings, "detections": detections });
        out.write_all(&escape::json(&all)?)?;
        return writeln!(out);
    }
    writeln!(out, "Findings (sensor scan)")?;
    for manual in rule::all() {
        writeln!(out, "  {}  {}", manual.id, manual.title)?;
    }
    writeln!(out, "\nDetections (sensor run)")?;
    let width = policy.rules().iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    for rule in policy.rules() {
        writeln!(out, "  {:width$}  {:8}  {}", rule.id, rule.nominal.name(), rule.name)?;
    }
    Ok(())
}

fn check(out: &mut dyn Write, policy: &Policy) -> io::Result<()> {
    let now = Timestamp::now().as_nanosecond();
    for notice in policy.notices(now) {
        writeln!(out, "{}: {}", notice.rule, escape::terminal(notice.message.as_bytes()))?;
    }
    writeln!(out, "{} rules, {} exceptions: no fault", policy.rules().len(), policy.exceptions_len())
}

fn page(id: &str, policy: &Policy) -> Option<String> {
    match id {
        "severity" => return Some(include_str!("../../../rules/severity.toml").to_owned()),
        "policy" => return Some(include_str!("../../../rules/example-policy.toml").to_owned()),
        _ => {}
    }
    let wanted = id.to_ascii_uppercase();
    if let Some(manual) = rule::manual(&wanted) {
        return Some(finding(manual));
    }
    policy.rules().iter().find(|rule| rule.id.eq_ignore_ascii_case(id)).map(|rule| detection(rule))
}

fn finding(manual: &Manual) -> String {
    let Manual { id, title, what, executes, abuse, fix, benign, attack, atlas } = manual;
    let mut text = format!("{id}  {title}\n");
    let parts = [
        ("What it is", *what),
        ("Who executes it", *executes),
        ("How it is abused", *abuse),
        ("What to do", *fix),
        ("When it is harmless", *benign),
    ];
    for (head, body) in parts {
        text.push_str(&format!("\n{head}\n  {body}\n"));
    }
    techniques(&mut text, attack, atlas);
    text
}

fn detection(rule: &Rule) -> String {
    let mut text = format!("{}  {}\n", rule.id, rule.name);
    text.push_str(&format!(
        "\nNominal severity\n  {} (an alert's own follows `sensor rules show severity`)\n",
        rule.nominal.name()
    ));
    let kinds: Vec<String> = rule.what.iter().map(|kind| json!(kind).as_str().unwrap_or_default().to_owned()).collect();
    text.push_str(&format!("\nAbout\n  {}\n", kinds.join(", ")));
    techniques(&mut text, &rule.attack, &rule.atlas);
    text
}

fn techniques<T: AsRef<str>>(text: &mut String, attack: &[T], atlas: &[T]) {
    let join = |ids: &[T]| ids.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    for (head, ids) in [("MITRE ATT&CK", attack), ("MITRE ATLAS", atlas)] {
        if !ids.is_empty() {
            text.push_str(&format!("\n{head}\n  {}\n", join(ids)));
        }
    }
}
