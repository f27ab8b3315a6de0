//! HDF5: Keras models before version 3 (and their weights since), pandas stores, and anything else scientific.
//!
//! What is looked at: every attribute and every dataset of bytes or texts (a Keras configuration, an encoded or raw
//! pickle), and every name of another file: external links, external raw storage, virtual datasets (CVE-2026-1669, keras
//! follows them before 3.13.2). Attributes lie in object headers, in their continuation blocks, in dense storage; texts in
//! global heaps: a configuration hides in none of them.
//! Reference: HDF5 File Format Specification, version 3.0.

mod attribute;
mod chunk;
mod dataset;
mod file;
mod filter;
mod fractal;
mod group;
mod object;
mod tree;

use std::collections::BTreeSet;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{self, Seen, keras, stream, text};
use crate::report::Content;
use crate::window::Window;
use attribute::TEXT_BYTES_MAX;
use file::File;
use group::Link;

/// Arrays; a pickle among them shows by itself.
const ARRAYS: Seen = Seen { format: "hdf5", content: Content::Data };
/// A Keras model's layers can run code; so can what was not read.
const MODEL: Seen = Seen { format: "hdf5", content: Content::Code };
/// Objects that are visited.
const OBJECTS_MAX: usize = 200_000;
/// Bytes that are searched for global heaps which nobody refers to in a way that is followed here.
const SWEEP_BYTES_MAX: u64 = 64 << 20;
const KERAS: &[&str] = &["keras.models.load_model", "keras.Model.load_weights"];

/// Whether a superblock stands where the library looks for one.
pub fn claims(window: &Window<'_>) -> bool {
    file::superblock_at(window).is_some()
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let Some(file) = File::open(&window) else {
        let finding = Finding::new("SNS-903", Severity::Low, "HDF5 superblock that can't be read");
        context.report(finding.member(piece.member.as_deref()));
        return MODEL;
    };
    let mut walk = Walk {
        piece,
        file: &file,
        context,
        seen: BTreeSet::new(),
        judged: BTreeSet::new(),
        configured: false,
        complete: true,
    };
    walk.objects();
    walk.heaps();
    let configured = walk.configured;
    // The library refuses a file that is shorter than it says.
    if !walk.complete || file.end > window.len() {
        let finding = Finding::new("SNS-903", Severity::Low, "parts of the HDF5 file can't be read");
        context.report(finding.member(piece.member.as_deref()));
    }
    if file.end > 0 && file.end < window.len() {
        format::tail(piece, file.end, context);
    }
    if configured || !context.complete() { MODEL } else { ARRAYS }
}

struct Walk<'p, 'f, 'w, 's, 'c, 'l> {
    piece: &'p Piece<'s>,
    file: &'f File<'w, 's>,
    context: &'c mut Context<'l>,
    seen: BTreeSet<u64>,
    /// Starts of values that were looked at.
    judged: BTreeSet<u64>,
    /// A Keras configuration was met.
    configured: bool,
    complete: bool,
}

impl Walk<'_, '_, '_, '_, '_, '_> {
    /// Every object that hard links reach, once.
    fn objects(&mut self) {
        let mut queue = vec![self.file.root];
        while let Some(header) = queue.pop() {
            if !self.seen.insert(header) {
                continue;
            }
            if self.seen.len() > OBJECTS_MAX {
                let member = self.piece.member.as_deref();
                self.context.limit_reached("objects_max", OBJECTS_MAX as u64, member, Some(header));
                return;
            }
            if self.context.expired() {
                return;
            }
            let messages = object::messages(self.file, header);
            self.complete &= messages.complete;
            self.attributes(&messages.found);
            let mut complete = true;
            for link in group::links(self.file, &messages.found, &mut complete) {
                match link {
                    Link::Hard { header } => queue.push(header),
                    Link::Soft => {}
                    Link::External { file, at } => self.other_file("an external link to", &file, at),
                }
            }
            if let Some(dataset) = dataset::read(self.file, &messages.found, &mut complete) {
                for file in &dataset.files {
                    self.other_file("values that are read from", file, header);
                }
                for (start, end) in &dataset.values {
                    self.value("dataset", *start, *end);
                }
                self.chunks(&dataset);
            }
            self.complete &= complete;
        }
    }

    /// The start of a dataset in chunks, put together: whether a pickle begins there.
    fn chunks(&mut self, dataset: &dataset::Dataset) {
        const BYTES_MAX: usize = 4 << 20;
        let Some(first) = dataset.chunks.first() else { return };
        let mut bytes = Vec::new();
        for chunk in &dataset.chunks {
            let stored = self.file.window.bytes(chunk.start, chunk.end, BYTES_MAX);
            bytes.extend(filter::undone(stored, &dataset.filters, chunk.left_out, BYTES_MAX));
            if bytes.len() >= BYTES_MAX || !matches!(bytes.first(), Some(0x80 | b'P' | b'(' | b'c' | b']' | b'}')) {
                break;
            }
        }
        let member = format::member(self.piece.member.as_deref(), b"dataset");
        if text::holds_pickle(&bytes, &member, self.context) {
            let finding = Finding::new("SNS-110", Severity::Medium, "a pickle is hidden in an HDF5 dataset");
            self.context
                .report(finding.member(Some(&member)).at(first.start).loaders(&["pandas.read_hdf", "custom loaders"]));
        }
    }

    fn other_file(&mut self, how: &str, name: &[u8], at: u64) {
        let name = String::from_utf8_lossy(name);
        let severity = if text::leaves(&name).is_some() { Severity::High } else { Severity::Medium };
        let finding = Finding::new("SNS-425", severity, format!("{how} another file"));
        let finding = finding.member(self.piece.member.as_deref()).at(at).text("file", name.as_bytes());
        self.context.report(finding.loaders(KERAS));
    }

    fn attributes(&mut self, messages: &[object::Message]) {
        for message in messages {
            match message.kind {
                object::kind::ATTRIBUTE if !message.shared => self.attribute(message.start, message.end),
                object::kind::ATTRIBUTE_INFO => {
                    let ranges = self.dense(message);
                    self.complete &= ranges.is_some();
                    for (start, end) in ranges.unwrap_or_default() {
                        self.attribute(start, end);
                    }
                }
                _ => {}
            }
        }
    }

    /// Attributes that outgrew the object header.
    fn dense(&self, message: &object::Message) -> Option<Vec<(u64, u64)>> {
        let mut body = self.file.range(message.start, message.end);
        body.skip(1)?;
        if body.uint(1)? & 1 != 0 {
            body.skip(2)?;
        }
        let (Some(heap), Some(tree)) = (body.optional_address()?, body.optional_address()?) else {
            return Some(Vec::new());
        };
        let (ranges, complete) = fractal::objects(self.file, heap, tree);
        complete.then_some(ranges)
    }

    fn attribute(&mut self, start: u64, end: u64) {
        let Some(attribute) = attribute::read(self.file, start, end) else {
            self.complete = false;
            return;
        };
        let name = String::from_utf8_lossy(&attribute.name).into_owned();
        for (start, end) in attribute.values {
            self.value(&name, start, end);
        }
    }

    /// A text or bytes: a configuration, a pickle, or nothing that matters.
    fn value(&mut self, name: &str, start: u64, end: u64) {
        if end.saturating_sub(start) < 4 || !self.judged.insert(start) {
            return;
        }
        let member = format::member(self.piece.member.as_deref(), name.as_bytes());
        let piece = Piece { source: self.piece.source, start, end, member: Some(member.clone()) };
        if stream::looks_like_strictly(&piece) {
            let (_, findings) = self.context.isolated(|context| format::storage(&piece, context));
            if !findings.is_empty() {
                findings.into_iter().for_each(|finding| self.context.report(finding));
                let finding = Finding::new("SNS-110", Severity::Medium, "a pickle is hidden in an HDF5 value");
                self.context.report(finding.member(Some(&member)).at(start).loaders(&["pandas.read_hdf"]));
                return;
            }
        }
        let head = self.file.window.bytes(start, end, 64);
        if head.first() == Some(&0x80) || head.contains(&0) && !head.iter().any(|byte| byte.is_ascii_graphic()) {
            return;
        }
        let whole = self.file.window.bytes(start, end, TEXT_BYTES_MAX);
        let whole = whole.trim_ascii_end();
        let whole = &whole[..whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count()];
        if keras::config::scan_text(whole, Some(&member), self.context) {
            self.configured = true;
        } else if let Ok(value) = std::str::from_utf8(whole) {
            text::scan(name, value, Some(&member), self.context);
        }
    }

    /// Texts in global heaps, whoever refers to them: chunks of datasets are not followed.
    fn heaps(&mut self) {
        let end = self.file.window.len().min(SWEEP_BYTES_MAX);
        let mut found = Vec::new();
        let mut at = 0;
        while at < end {
            let bytes = self.file.window.bytes(at, end, 1 << 20);
            if bytes.len() < 4 {
                break;
            }
            found.extend(
                bytes.windows(4).enumerate().filter(|(_, word)| *word == b"GCOL").map(|(index, _)| at + index as u64),
            );
            at += bytes.len() as u64 - 3;
        }
        for collection in found.into_iter().take(OBJECTS_MAX) {
            if self.context.expired() {
                return;
            }
            let Some(objects) = self.file.collection(collection) else { continue };
            let objects: Vec<_> = objects.take(OBJECTS_MAX).collect();
            for (_, start, end) in objects {
                self.value("heap", start, end);
            }
        }
    }
}

#[cfg(test)]
pub mod tests;
