//! XML models: PMML, OpenVINO. Read as a stream of tags and texts; no entity is ever expanded.
//!
//! Who executes what: the consumer's XML parser expands entities and fetches external ones, if it is asked to; PMML's
//! `Extension` is for vendors, some of which run scripts in it; OpenVINO's layers of the version `extension` come from a
//! native library that the host registers.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::{Seen, text};
use crate::report::Content;
use crate::slice::{for_each_piece, read};
use crate::source::{Sibling, Source};

/// Bytes of one tag or text that are looked at.
const PART_BYTES_MAX: usize = 256 << 10;

/// Layers of OpenVINO's own tokenizers extension.
const TOKENIZERS: &[&str] = &[
    "StringTensorUnpack",
    "StringTensorPack",
    "CaseFold",
    "NormalizeUnicode",
    "RegexNormalization",
    "RegexSplit",
    "BPETokenizer",
    "WordpieceTokenizer",
    "SentencepieceTokenizer",
    "SentencepieceDetokenizer",
    "SentencepieceStreamDetokenizer",
    "CombineSegments",
    "RaggedToDense",
    "RaggedToSparse",
    "RaggedToRagged",
    "BytesToChars",
    "CharsToBytes",
    "VocabDecoder",
    "VocabEncoder",
    "SpecialTokensSplit",
    "FuzeRagged",
    "Truncate",
    "UTF8Validate",
    "ByteFallback",
    "CharsMapNormalization",
    "EqualStr",
    "StringToHash",
    "UnigramTokenizer",
    "TrieTokenizer",
];

/// Whether a `.bin` is what the OpenVINO model beside it describes: raw tensors.
pub fn describes(source: &dyn Source) -> bool {
    let Some(stem) = std::str::from_utf8(source.name()).ok().and_then(|name| name.strip_suffix(".bin")) else {
        return false;
    };
    let Sibling::Here(model) = source.sibling(&format!("{stem}.xml")) else { return false };
    let head = read(&*model, 0, 4 << 10);
    claims(&head) && head.windows(5).any(|word| word == b"<net ")
}

/// Whether the bytes start like XML, in any of its usual encodings.
pub fn claims(head: &[u8]) -> bool {
    let start: Vec<u8> = head
        .iter()
        .take(256)
        .copied()
        .filter(|byte| !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xff | 0xfe) && !byte.is_ascii_whitespace())
        .collect();
    [&b"<?xml"[..], b"<!--", b"<!DOCTYPE", b"<PMML", b"<net"].iter().any(|tag| start.starts_with(tag))
}

/// `None`: XML that is no model.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let mut walk = Walk { root: None, found: Vec::new(), part: Vec::new(), state: State::Text, declares: false };
    for_each_piece(piece.source, 0, piece.source.len(), |_, bytes| {
        for byte in bytes {
            // UTF-16 of ASCII, seen as ASCII.
            if *byte != 0 {
                walk.byte(*byte);
            }
        }
        !context.expired() && (walk.root.is_some() || walk.part.len() < PART_BYTES_MAX)
    });
    walk.end();
    let format = match walk.root.as_deref() {
        Some("PMML") => "pmml",
        Some("net" | "Net") => "openvino",
        // A document type with entities, whatever it is named as.
        _ if walk.declares && crate::name::is_model_name(piece.source.name()) => "xml",
        _ => return None,
    };
    for found in walk.found {
        context.report(found.member(piece.member.as_deref()));
    }
    Some(Seen { format, content: Content::Data })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Between `<` and `>`; in a quoted value, in the brackets of a document type.
    Tag {
        quote: Option<u8>,
        brackets: u32,
    },
    Comment,
    Data,
}

struct Walk {
    root: Option<String>,
    found: Vec<Finding>,
    part: Vec<u8>,
    state: State,
    /// Entities are declared.
    declares: bool,
}

impl Walk {
    fn byte(&mut self, byte: u8) {
        match &mut self.state {
            State::Text => {
                if byte == b'<' {
                    self.end();
                    self.state = State::Tag { quote: None, brackets: 0 };
                    return;
                }
            }
            State::Tag { quote, brackets } => match (*quote, byte) {
                (Some(open), _) => {
                    if byte == open {
                        *quote = None;
                    }
                }
                (None, b'"' | b'\'') => *quote = Some(byte),
                (None, b'[') => {
                    *brackets += 1;
                    if self.part.starts_with(b"![CDATA") {
                        self.part.clear();
                        self.state = State::Data;
                        return;
                    }
                }
                (None, b']') => *brackets = brackets.saturating_sub(1),
                (None, b'>') if *brackets == 0 => {
                    self.tag();
                    self.part.clear();
                    self.state = State::Text;
                    return;
                }
                (None, b'-') if self.part == b"!-" => {
                    self.part.clear();
                    self.state = State::Comment;
                    return;
                }
                (None, _) => {}
            },
            State::Comment => {
                if byte == b'>' && self.part.ends_with(b"--") {
                    self.part.clear();
                    self.state = State::Text;
                    return;
                }
                // Nothing of a comment is kept but its end.
                if self.part.len() > 64 {
                    self.part.drain(..32);
                }
            }
            State::Data => {
                if byte == b'>' && self.part.ends_with(b"]]") {
                    self.end();
                    self.state = State::Text;
                    return;
                }
            }
        }
        if self.part.len() < PART_BYTES_MAX {
            self.part.push(byte);
        }
    }

    /// A text between tags.
    fn end(&mut self) {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.part)).into_owned();
        self.judge("text", &unescaped(&text));
    }

    fn judge(&mut self, key: &str, value: &str) {
        if value.len() > 4
            && let Some(what) = text::active(value)
        {
            let finding = Finding::new("SNS-622", Severity::Medium, "a text of the model is code");
            let finding = finding.text("key", key).text("value", value).text("what", what);
            self.found.push(finding.loaders(&["consumers that run extensions"]));
        }
    }

    fn tag(&mut self) {
        let tag = String::from_utf8_lossy(&self.part).into_owned();
        if tag.starts_with("!DOCTYPE") || tag.starts_with("!ENTITY") {
            self.document_type(&tag);
            return;
        }
        if tag.starts_with(['?', '!', '/']) {
            return;
        }
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or(name);
        self.root.get_or_insert_with(|| name.to_owned());
        let attributes = attributes(&tag);
        let value = |key: &str| attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        if name == "layer" && value("version") == Some("extension") {
            let kind = value("type").unwrap_or_default();
            let known = TOKENIZERS.contains(&kind);
            let severity = if known { Severity::Info } else { Severity::Medium };
            let finding =
                Finding::new("SNS-622", severity, "a layer of an extension, which is native code of the host");
            self.found.push(finding.text("type", kind).loaders(&["OpenVINO with the extension registered"]));
        }
        for (key, value) in &attributes {
            self.judge(key, value);
            let lower = value.to_ascii_lowercase();
            if [".so", ".dll", ".dylib"].iter().any(|suffix| lower.ends_with(suffix)) {
                let finding = Finding::new("SNS-622", Severity::Medium, "the model names a native library");
                self.found.push(finding.text("key", key).text("value", value));
            }
            let opens = matches!(
                key.as_str(),
                "path" | "file" | "href" | "schemaLocation" | "bin" | "weights_path" | "filename"
            );
            // XInclude, which reads whatever it names.
            let included = name == "include" && key == "href";
            if opens && text::leaves(value).is_some_and(|why| included || why != "a URL") {
                let finding = Finding::new("SNS-622", Severity::Medium, "the model names a file outside its folder");
                self.found.push(finding.text("key", key).text("value", value));
            }
        }
    }

    fn document_type(&mut self, tag: &str) {
        let external = |rest: &str| ["SYSTEM", "PUBLIC"].iter().any(|word| rest.contains(word));
        let mut severity = None;
        for (at, _) in tag.match_indices("!ENTITY") {
            let rest = tag[at + 7..].split('>').next().unwrap_or_default();
            let found = if external(rest) { Severity::High } else { Severity::Medium };
            severity = severity.max(Some(found));
        }
        self.declares |= severity.is_some();
        let (severity, title) = match severity {
            Some(Severity::High) => (Severity::High, "an external entity, which a parser would fetch or read"),
            Some(severity) => (severity, "entities, which a parser would expand"),
            None if external(tag) && !at_home(tag) => (
                Severity::Medium,
                "a document type of an address that no standard has, whose entities a parser would fetch",
            ),
            None if external(tag) => (Severity::Info, "a document type that lies elsewhere"),
            None => return,
        };
        let finding = Finding::new("SNS-621", severity, title).text("declaration", tag);
        self.found.push(finding.loaders(&["XML parsers that resolve entities"]));
    }
}

/// Whether every address of a declaration is one of those who define formats.
fn at_home(declaration: &str) -> bool {
    const HOMES: [&str; 5] = ["dmg.org", "w3.org", "apple.com", "oasis-open.org", "openvino.ai"];
    declaration.match_indices("://").all(|(at, _)| {
        let host = declaration[at + 3..].split(|char: char| !(char.is_ascii_alphanumeric() || ".-".contains(char)));
        let host = host.into_iter().next().unwrap_or_default().to_ascii_lowercase();
        HOMES.iter().any(|home| host.strip_suffix(home).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    })
}

fn attributes(tag: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut rest = tag;
    while let Some(equals) = rest.find('=') {
        let key = rest[..equals].trim_end().rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default();
        let behind = rest[equals + 1..].trim_start();
        let Some(quote) = behind.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
            rest = &rest[equals + 1..];
            continue;
        };
        let Some(end) = behind[1..].find(quote) else { break };
        attributes.push((key.rsplit(':').next().unwrap_or(key).to_owned(), unescaped(&behind[1..1 + end])));
        rest = &behind[end + 2..];
    }
    attributes
}

/// The five entities that every parser knows, and characters by number.
fn unescaped(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let end = tail.find(';').filter(|end| *end < 12);
        let named = end.and_then(|end| match &tail[..end] {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            number => {
                let hexadecimal = number.strip_prefix("#x").map(|digits| u32::from_str_radix(digits, 16));
                let decimal = || number.strip_prefix('#').map(str::parse);
                hexadecimal.or_else(decimal)?.ok().and_then(char::from_u32)
            }
        });
        match (named, end) {
            (Some(char), Some(end)) => {
                plain.push(char);
                rest = &tail[end + 1..];
            }
            _ => {
                plain.push('&');
                rest = tail;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
pub mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Policy, Verdict, scan as scan_file};

    fn judged(xml: &str) -> (&'static str, Verdict) {
        let plain = scan_file(&MemorySource::new(xml.as_bytes(), b"m.pmml"), &Limits::default(), &Policy::standard());
        // The same in UTF-16, both ways.
        for big in [false, true] {
            let units = "\u{feff}".encode_utf16().chain(xml.encode_utf16());
            let bytes: Vec<u8> =
                units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect();
            let wide = scan_file(&MemorySource::new(&bytes, b"m.pmml"), &Limits::default(), &Policy::standard());
            assert_eq!((wide.format, wide.verdict), (plain.format, plain.verdict), "{xml}");
        }
        (plain.format, plain.verdict)
    }

    #[test]
    fn entities() {
        for (xml, verdict) in [
            (r#"<?xml version="1.0"?><PMML version="4.4"><Header description="d"/></PMML>"#, Verdict::Clean),
            (r#"<!DOCTYPE PMML PUBLIC "PMML 2.0" "http://www.dmg.org/pmml20.dtd"><PMML/>"#, Verdict::Clean),
            (r#"<!DOCTYPE PMML SYSTEM "pmml-3-0.dtd"><PMML/>"#, Verdict::Clean),
            (r#"<!DOCTYPE PMML SYSTEM "http://evil.example/dmg.org/x.dtd"><PMML/>"#, Verdict::Suspicious),
            (r#"<!DOCTYPE PMML SYSTEM "file:///etc/passwd"><PMML/>"#, Verdict::Suspicious),
            (
                r#"<PMML xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="file:///etc/passwd"/></PMML>"#,
                Verdict::Suspicious,
            ),
            (r#"<!DOCTYPE l [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><PMML>&b;</PMML>"#, Verdict::Suspicious),
            (r#"<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><PMML>&x;</PMML>"#, Verdict::Malicious),
            (r#"<!DOCTYPE l [<!ENTITY % x SYSTEM 'http://127.0.0.1/'> %x;]><PMML/>"#, Verdict::Malicious),
            (r#"<!-- <!ENTITY --><p:PMML xmlns:p="http://www.dmg.org/PMML-4_4"/>"#, Verdict::Clean),
        ] {
            assert_eq!(judged(xml), ("pmml", verdict), "{xml}");
        }
    }

    #[test]
    fn extensions() {
        for (xml, verdict) in [
            (r#"<PMML><Extension name="x">import os; os.system('id')</Extension></PMML>"#, Verdict::Suspicious),
            (r#"<PMML><Extension value="__import__('os').system('id')"/></PMML>"#, Verdict::Suspicious),
            (r#"<PMML><Extension><![CDATA[import os; os.system('id')]]></Extension></PMML>"#, Verdict::Suspicious),
            (r#"<PMML><Extension>&#x69;mport os; os.syst&#101;m("id")</Extension></PMML>"#, Verdict::Suspicious),
            (r#"<PMML><Extension name="depth" value="a > 3"/>important (os) things</PMML>"#, Verdict::Clean),
        ] {
            assert_eq!(judged(xml).1, verdict, "{xml}");
        }
        let layer = |kind: &str, version: &str| {
            format!(
                r#"<?xml version="1.0"?><net name="m" version="11"><layers><layer id="0" type="{kind}" version="{version}"/></layers></net>"#
            )
        };
        assert_eq!(judged(&layer("Parameter", "opset1")).1, Verdict::Clean);
        assert_eq!(judged(&layer("RegexSplit", "extension")).1, Verdict::Clean);
        assert_eq!(judged(&layer("Evil", "extension")).1, Verdict::Suspicious);
    }

    /// Files that are not clean, for the properties that hold for every format.
    pub fn samples() -> Vec<Vec<u8>> {
        let entity = r#"<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><PMML>&x;</PMML>"#;
        vec![entity.into(), b"<PMML><Extension>import os; os.system('id')</Extension></PMML>".to_vec()]
    }
}
