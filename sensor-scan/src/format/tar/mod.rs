//! tar archives, among them torch's first format. Every member is looked at by content.
//!
//! References: POSIX.1-2017 pax/ustar, GNU tar's `L`/`K` records, CPython's `tarfile`, `legacy_load` of torch.

mod header;
mod link;

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::zip::escape;
use crate::format::{self, Seen, stream};
use crate::report::Content;
use crate::slice::{Slice, read};
use header::{BLOCK_BYTES, Header};

/// A long name or a pax record.
const RECORD_BYTES_MAX: u64 = 1 << 20;

pub fn claims(head: &[u8]) -> bool {
    head.first_chunk().and_then(header::parse).is_some_and(|header| !header.name.is_empty())
}

pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let mut walk = Walk {
        piece,
        pending: header::Extended::default(),
        links: link::Links::default(),
        torch: 0,
        nemo: false,
        code: false,
    };
    let mut at = 0;
    while let Some(next) = walk.member(at, context) {
        at = next;
    }
    let (torch, nemo, code) = (walk.torch == 3, walk.nemo, walk.code);
    end(piece, at, context);
    match (torch, code) {
        (true, _) => Seen { format: "torch-tar", content: Content::Code },
        (_, _) if nemo => Seen { format: "nemo", content: Content::Code },
        (_, true) => Seen { format: "tar", content: Content::Code },
        _ => Seen { format: "tar", content: Content::Unknown },
    }
}

struct Walk<'a, 'b> {
    piece: &'a Piece<'b>,
    /// From `L`, `K` and `x` records: for the member that follows.
    pending: header::Extended,
    links: link::Links,
    /// Bits: has the members of torch's first format.
    torch: u32,
    /// Has the configuration from which NeMo makes its model.
    nemo: bool,
    code: bool,
}

impl Walk<'_, '_> {
    /// Scans the member whose header is at `at`; returns where the next header is, `None` at the end of the archive.
    fn member(&mut self, at: u64, context: &mut Context<'_>) -> Option<u64> {
        let block = read(self.piece.source, at, BLOCK_BYTES as usize);
        let header = header::parse(block.first_chunk()?)?;
        let member = self.piece.member.as_deref();
        if context.members_left == 0 {
            context.limit_reached("members_max", context.limits.members_max, member, Some(at));
            return None;
        }
        context.members_left -= 1;
        if context.expired() {
            return None;
        }
        let data_at = at + BLOCK_BYTES;
        let size = if header.is_record() { header.size } else { self.pending.size.unwrap_or(header.size) };
        if header.is_record() {
            if size > RECORD_BYTES_MAX {
                context.limit_reached("record_bytes", RECORD_BYTES_MAX, member, Some(at));
            }
            let record = read(self.piece.source, data_at, size.min(RECORD_BYTES_MAX) as usize);
            self.pending.take(header.kind, &record);
        } else {
            let extended = std::mem::take(&mut self.pending);
            self.file(&header, extended, data_at, size, context);
        }
        let padded = size.checked_next_multiple_of(BLOCK_BYTES)?;
        data_at.checked_add(padded).filter(|next| *next <= self.piece.source.len())
    }

    fn file(
        &mut self,
        header: &Header,
        extended: header::Extended,
        data_at: u64,
        size: u64,
        context: &mut Context<'_>,
    ) {
        let raw_name = extended.name.unwrap_or_else(|| header.name.clone());
        let name = format::member(self.piece.member.as_deref(), &raw_name);
        let mut report = |severity, title: &str, text: &[u8]| {
            let finding = Finding::new("SNS-305", severity, title).member(Some(&name)).text("name", text);
            context.report(finding.loaders(&["extraction"]));
        };
        if let Some(title) = escape(&raw_name) {
            report(Severity::Medium, title, &raw_name);
        }
        if self.links.above(&raw_name) {
            report(Severity::Medium, "archive member lies behind a link of the archive", &raw_name);
        }
        match header.kind {
            b'1' | b'2' => {
                let target = extended.link.unwrap_or_else(|| header.link.clone());
                let stays = header.kind == b'2' && link::stays(&raw_name, &target);
                self.links.add(&raw_name);
                match escape(&target) {
                    Some(_) if !stays => report(Severity::Medium, "archive link leads out of the archive", &target),
                    _ => report(Severity::Info, "archive member is a link", &target),
                }
                return;
            }
            b'3' | b'4' | b'6' => {
                report(Severity::Medium, "archive member is a device or a FIFO", &raw_name);
                return;
            }
            b'5' => return,
            _ => {}
        }
        let source = Slice::new(self.piece.source, data_at, size, format::file_name(&raw_name));
        let have = crate::source::Source::len(&source);
        if have < size {
            let finding = Finding::new("SNS-903", Severity::Low, "archive ends within a member").member(Some(&name));
            context.report(finding.number("bytes_missing", size - have));
        }
        self.nemo |= format::file_name(&raw_name) == b"model_config.yaml";
        let content = Piece { source: &source, start: 0, end: have, member: Some(name) };
        // torch unpickles these three whatever they look like.
        let legacy = match format::file_name(&raw_name) {
            b"storages" => 1,
            b"pickle" | b"tensors" => 2,
            b"sys_info" => 4,
            _ => 0,
        };
        self.torch |= legacy & 3;
        if legacy != 0 && stream::looks_like(&content) {
            self.code = true;
            let member = content.member.clone();
            context.deeper(member.as_deref(), |context| stream::torch_streams(&content, context));
            return;
        }
        self.code |= format::member_content(&content, context).is_some_and(|seen| seen.content == Content::Code);
    }
}

/// Two blocks of zeros end an archive; what is behind the padding is not part of it.
fn end(piece: &Piece<'_>, at: u64, context: &mut Context<'_>) {
    if at < piece.source.len() {
        if read(piece.source, at, 1).is_empty() {
            // A source that is decoded anew for every jump back gives up at some point.
            let finding = Finding::new("SNS-903", Severity::Low, "archive that can't be read further");
            return context.report(finding.member(piece.member.as_deref()).at(at));
        }
        if !context.expired() && context.members_left > 0 {
            format::tail(piece, at, context);
        }
    } else {
        let finding = Finding::new("SNS-903", Severity::Low, "archive has no end: it may be cut");
        context.report(finding.member(piece.member.as_deref()).at(at));
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::source::Source;
    use crate::{Limits, Policy, Verdict};

    /// An archive of which nothing can be read from `until` on.
    struct Broken {
        bytes: Vec<u8>,
        until: u64,
    }

    impl Source for Broken {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            if offset >= self.until {
                return Err(io::Error::other("decoded too often"));
            }
            let rest = &self.bytes[offset as usize..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn name(&self) -> &[u8] {
            b"x.tar"
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_called_bytes_behind_the_end() {
        let mut block = vec![0_u8; 512];
        block[..1].copy_from_slice(b"a");
        block[124..135].copy_from_slice(b"00000000001");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.resize(1024, 0);
        let source = Broken { bytes: [&block[..], &block, &block, &[0; 1024]].concat(), until: 2048 };
        let report = crate::scan(&source, &Limits::default(), &Policy::standard());
        let ids: Vec<&str> = report.findings.iter().map(|finding| finding.id).collect();
        assert_eq!(
            (report.verdict, ids.contains(&"SNS-903"), ids.contains(&"SNS-307")),
            (Verdict::Unscannable, true, false),
            "{ids:?}"
        );
    }
}
