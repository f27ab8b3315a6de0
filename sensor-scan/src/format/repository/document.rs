//! What people are told to run: instructions, scripts and notebooks.

use super::requirement;
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::Json;
use crate::python::{self, Role};
use crate::shell::{self, Command};

/// Cells of a notebook.
const CELLS_MAX: usize = 20_000;

/// Commands in code blocks, behind prompts and between back-ticks.
pub fn instructions(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let (mut fence, mut block) = (None, String::new());
    for line in text.lines() {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => {
                fence = None;
                command(piece, &std::mem::take(&mut block), context);
            }
            (Some(_), _) => {
                block.push_str(trimmed.strip_prefix("$ ").unwrap_or(trimmed));
                block.push('\n');
            }
            (None, None) => {
                if let Some(prompted) = trimmed.strip_prefix("$ ").or_else(|| line.strip_prefix("    ")) {
                    command(piece, prompted, context);
                } else if ["curl ", "wget ", "bash ", "sudo ", "powershell "]
                    .iter()
                    .any(|tool| trimmed.starts_with(tool))
                {
                    command(piece, trimmed, context);
                }
                for code in line.split('`').skip(1).step_by(2) {
                    command(piece, code, context);
                }
            }
        }
    }
    command(piece, &block, context);
}

/// Every line is a command.
pub fn script(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    command(piece, text, context);
}

fn command(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let joined = text.replace("\\\n", " ");
    let judged = joined.lines().find_map(|line| match shell::judge(line) {
        Command::Payload(what) => Some((what, line)),
        _ => None,
    });
    let judged = judged.or_else(|| match shell::judge(text) {
        Command::Payload(what) => Some((what, text.trim())),
        _ => None,
    });
    if let Some((what, line)) = judged {
        let finding = Finding::new("SNS-543", Severity::Medium, format!("instructions with a command that {what}"));
        let finding = finding.member(piece.member.as_deref()).text("command", line.trim());
        context.report(finding.loaders(&["whoever follows them"]));
    }
    for line in joined.lines().filter(|line| line.contains("pip install") || line.contains("pip3 install")) {
        if let Some((severity @ Severity::Medium, title)) = requirement::judge(line) {
            let finding = Finding::new("SNS-531", severity, title).member(piece.member.as_deref());
            context.report(finding.text("line", line.trim()).loaders(&["whoever follows the instructions"]));
        }
    }
}

/// Shell magics and Python of the code cells.
pub fn notebook(piece: &Piece<'_>, json: &Json, context: &mut Context<'_>) {
    let mut cells: Vec<&Json> = json.get("cells").map(Json::items).unwrap_or_default().iter().collect();
    // Before nbformat 4 the cells stood in worksheets.
    for sheet in json.get("worksheets").map(Json::items).unwrap_or_default() {
        cells.extend(sheet.get("cells").map(Json::items).unwrap_or_default());
    }
    if cells.len() > CELLS_MAX {
        context.limit_reached("cells", CELLS_MAX as u64, piece.member.as_deref(), None);
    }
    let mut source = String::new();
    for cell in cells.iter().take(CELLS_MAX).filter(|cell| cell.text("cell_type") == Some("code")) {
        let Some(text) = cell.get("source").or_else(|| cell.get("input")) else { continue };
        let text = match text {
            Json::List(lines) => lines.iter().filter_map(Json::str).collect::<String>(),
            other => other.str().unwrap_or_default().to_owned(),
        };
        cell_source(piece, &text, &mut source, context);
    }
    let seen = python::judge(source.as_bytes(), Role::Loose);
    for found in seen.found.iter().filter(|found| found.severity >= Severity::Medium) {
        let title = format!("a notebook {}", found.what);
        let finding = Finding::new("SNS-542", Severity::Medium, title).member(piece.member.as_deref());
        context.report(finding.text("argument", &found.detail).loaders(&["whoever runs the notebook"]));
    }
}

fn cell_source(piece: &Piece<'_>, text: &str, source: &mut String, context: &mut Context<'_>) {
    let first = text.trim_start().lines().next().unwrap_or_default();
    let shell = ["%%bash", "%%sh", "%%script", "%%system", "%%sx", "%%!"].iter().any(|magic| first.starts_with(magic));
    if shell {
        let body = text.trim_start().split_once('\n').map_or("", |(_, body)| body);
        shell_command(piece, body, context);
        return;
    }
    for line in text.replace("\\\n", " ").lines() {
        let trimmed = line.trim_start();
        let magic = ["!", "%system ", "%sx ", "%sc "].iter().find_map(|magic| trimmed.strip_prefix(magic));
        // `files = !ls`
        let assigned = trimmed.split_once("= !").or_else(|| trimmed.split_once("=!")).map(|(_, command)| command);
        match magic.or(assigned) {
            Some(command) => {
                shell_command(piece, command.trim_start_matches('!'), context);
                // Something has to stand in the block.
                source.push_str(&line[..line.len() - trimmed.len()]);
                source.push_str("pass\n");
            }
            None if trimmed.starts_with('%') => {
                if let Some(packages) = trimmed.strip_prefix("%pip ").or_else(|| trimmed.strip_prefix("%conda ")) {
                    shell_command(piece, &format!("pip {packages}"), context);
                }
            }
            None => {
                source.push_str(line);
                source.push('\n');
            }
        }
    }
}

fn shell_command(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let what = match shell::judge(text) {
        Command::Payload(what) => format!("a notebook runs a command that {what}"),
        Command::Unknown if outside(text) => "a notebook runs a command on files that are not its own".to_owned(),
        Command::Installs => match requirement::judge(text) {
            Some((Severity::Medium, title)) => format!("a notebook installs: {title}"),
            _ => return,
        },
        _ => return,
    };
    let finding = Finding::new("SNS-542", Severity::Medium, what).member(piece.member.as_deref());
    context.report(finding.text("command", text.trim()).loaders(&["whoever runs the notebook"]));
}

/// Does an unknown program get a path that is neither the notebook's nor the notebook server's?
fn outside(text: &str) -> bool {
    const OWN: &[&str] = &[
        "/content",
        "/kaggle",
        "/usr/local/cuda",
        "/usr/lib",
        "/opt/conda",
        "/workspace",
        "/mnt",
        "/dev/null",
        "/root/.cache",
    ];
    const TIDY: &[&str] =
        &["rm", "bash", "sh", "chmod", "sed", "awk", "find", "ln", "cd", "python", "rsync", "kill", "touch-cache"];
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        !TIDY.contains(&first)
            && matches!(shell::judge(line), Command::Unknown)
            && words.any(|word| {
                (word.starts_with('/') || word.starts_with('~')) && !OWN.iter().any(|own| word.starts_with(own))
            })
    })
}
