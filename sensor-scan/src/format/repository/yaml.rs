//! YAML as far as it says what is to be called: tags, and keys with their values. Read token by token, so that neither
//! depth nor aliases cost anything. Reference: YAML 1.2.2, chapters 5 to 8, and PyYAML's constructors.

use std::collections::HashMap;

/// Tokens of one document.
const TOKENS_MAX: usize = 200_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// With its handle resolved: `tag:yaml.org,2002:python/name:os.system`, or `!new:os.system`.
    Tag(String),
    /// A scalar that stands before a colon.
    Key(String),
    Scalar(String),
}

/// All tags, keys and scalars in their order, and the byte at which each stands.
pub fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut reader = Reader {
        text,
        at: 0,
        flow: 0,
        handles: HashMap::new(),
        anchors: HashMap::new(),
        anchor: None,
        tokens: Vec::new(),
    };
    while reader.step() && reader.tokens.len() < TOKENS_MAX {}
    reader.tokens
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Brackets that are open.
    flow: u32,
    handles: HashMap<String, String>,
    anchors: HashMap<String, String>,
    anchor: Option<String>,
    tokens: Vec<(usize, Token)>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn at_line_start(&self) -> bool {
        self.at == 0 || self.text[..self.at].ends_with(['\n', '\r'])
    }

    fn word(&self) -> &str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || self.flow > 0 && matches!(c, ',' | ']' | '}'))
            .unwrap_or(rest.len());
        &rest[..end]
    }

    fn step(&mut self) -> bool {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return false };
        match first {
            '%' if self.at_line_start() => self.directive(),
            '#' => self.line(),
            '[' | '{' => {
                self.flow += 1;
                self.at += 1;
            }
            ']' | '}' => {
                self.flow = self.flow.saturating_sub(1);
                self.at += 1;
            }
            '!' => self.tag(),
            '&' => {
                self.anchor = Some(self.word()[1..].to_owned());
                self.at += self.word().len();
            }
            '*' => {
                let word = self.word().to_owned();
                let at = self.at;
                self.at += word.len();
                if let Some(value) = self.anchors.get(&word[1..]).cloned() {
                    self.tokens.push((at, Token::Scalar(value)));
                }
            }
            '"' | '\'' => self.quoted(first),
            '|' | '>' if self.flow == 0 => self.block(),
            '-' | '?' | ':' if rest[1..].starts_with(char::is_whitespace) || rest.len() == 1 => self.at += 1,
            ',' => self.at += 1,
            _ if first.is_whitespace() || first == '\u{feff}' => self.at += first.len_utf8(),
            _ => self.plain(),
        }
        true
    }

    fn line(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// `%TAG !p! tag:yaml.org,2002:python/`
    fn directive(&mut self) {
        let line = self.rest().lines().next().unwrap_or_default().to_owned();
        let mut words = line.split_whitespace();
        if let (Some("%TAG"), Some(handle), Some(prefix)) = (words.next(), words.next(), words.next()) {
            self.handles.insert(handle.to_owned(), prefix.to_owned());
        }
        self.line();
    }

    fn tag(&mut self) {
        let word = self.word().to_owned();
        let at = self.at;
        self.at += word.len();
        let tag = if let Some(verbatim) = word.strip_prefix("!<") {
            verbatim.trim_end_matches('>').to_owned()
        } else {
            let end = word[1..].find('!').map_or(0, |end| end + 2);
            let (handle, suffix) = if end > 0 { word.split_at(end) } else { word.split_at(1) };
            match (self.handles.get(handle), handle) {
                (Some(prefix), _) => format!("{prefix}{suffix}"),
                (None, "!!") => format!("tag:yaml.org,2002:{suffix}"),
                _ => word.clone(),
            }
        };
        self.tokens.push((at, Token::Tag(unescaped(&tag))));
    }

    fn scalar(&mut self, at: usize, value: String) {
        let blank = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        let behind = &self.rest()[blank..];
        let colon = behind.strip_prefix(':');
        let key = colon.is_some_and(|next| next.is_empty() || next.starts_with(char::is_whitespace) || self.flow > 0);
        if let Some(anchor) = self.anchor.take() {
            self.anchors.insert(anchor, value.clone());
        }
        if key {
            self.at += blank + 1;
        }
        self.tokens.push((at, if key { Token::Key(value) } else { Token::Scalar(value) }));
    }

    fn quoted(&mut self, quote: char) {
        let at = self.at;
        let rest = &self.text[self.at + 1..];
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((index, char)) = chars.next() {
            match char {
                '\'' if quote == '\'' && rest[index + 1..].starts_with('\'') => {
                    value.push('\'');
                    chars.next();
                }
                _ if char == quote => {
                    end = index + 1;
                    break;
                }
                '\\' if quote == '"' => {
                    let (escaped, used) = escape(&rest[index + 1..]);
                    value.extend(escaped);
                    for _ in 0..used {
                        chars.next();
                    }
                }
                _ => value.push(char),
            }
        }
        self.at += 1 + end;
        self.scalar(at, value);
    }

    /// Up to a comment, a colon with a blank behind it, or the end of the line.
    fn plain(&mut self) {
        let (at, rest) = (self.at, self.rest());
        let mut before = ' ';
        let end = rest
            .char_indices()
            .find(|(index, char)| {
                let next = rest[index + char.len_utf8()..].chars().next().unwrap_or('\n');
                let ends = match char {
                    '\n' | '\r' => true,
                    '#' => before.is_whitespace(),
                    ':' => next.is_whitespace() || self.flow > 0 && matches!(next, ',' | '[' | ']' | '{' | '}'),
                    ',' | '[' | ']' | '{' | '}' => self.flow > 0,
                    _ => false,
                };
                before = *char;
                ends
            })
            .map_or(rest.len(), |(index, _)| index);
        let value = rest[..end].trim_end().to_owned();
        self.at += end.max(1);
        if end == 0 {
            return;
        }
        self.scalar(at, value);
    }

    /// A literal or folded text: lines that are indented deeper than its header.
    fn block(&mut self) {
        let start = self.text[..self.at].rfind('\n').map_or(0, |newline| newline + 1);
        let header = &self.text[start..self.at];
        // In a sequence the entry counts from behind its dash.
        let indent = header.len() - header.trim_start_matches(' ').len();
        let at = self.at;
        self.line();
        let mut value = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(line) = rest.strip_prefix('\n').map(|rest| rest.lines().next().unwrap_or_default()) else { break };
            let depth = line.len() - line.trim_start_matches(' ').len();
            if !line.trim().is_empty() && depth <= indent {
                break;
            }
            value.push_str(line.trim());
            value.push('\n');
            self.at += 1 + line.len() + usize::from(rest[1 + line.len()..].starts_with('\r'));
            if self.at >= self.text.len() {
                break;
            }
        }
        self.tokens.push((at, Token::Scalar(value.trim_end().to_owned())));
        if let Some(anchor) = self.anchor.take() {
            self.anchors.insert(anchor, value);
        }
    }
}

/// What `\` and the following mean, and how many characters that takes.
fn escape(rest: &str) -> (Option<char>, usize) {
    let number = |digits: usize| {
        let code = rest.get(1..=digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        (code.and_then(char::from_u32), 1 + digits)
    };
    match rest.chars().next() {
        Some('x') => number(2),
        Some('u') => number(4),
        Some('U') => number(8),
        Some('n') => (Some('\n'), 1),
        Some('t') => (Some('\t'), 1),
        Some('\n') => (None, 1),
        other => (other, 1),
    }
}

/// Percent escapes of a tag.
fn unescaped(tag: &str) -> String {
    let mut out = Vec::new();
    let mut rest = tag.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &behind[2..];
            }
            _ => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .map(|(_, token)| match token {
                Token::Tag(tag) => format!("<{tag}>"),
                Token::Key(key) => format!("{key}:"),
                Token::Scalar(value) => value,
            })
            .collect()
    }

    #[test]
    fn keys_values_and_tags_however_they_are_written() {
        assert_eq!(
            shown("a:\n  _target_: os.system # x\n  b: 'it''s'\n"),
            ["a:", "_target_:", "os.system", "b:", "it's"]
        );
        assert_eq!(shown("{\"_target_\": \"o\\x73.system\", x: [1, 2]}"), ["_target_:", "os.system", "x:", "1", "2"]);
        assert_eq!(
            shown("x: !!python/object/apply:os.system [id]"),
            ["x:", "<tag:yaml.org,2002:python/object/apply:os.system>", "id"]
        );
        assert_eq!(
            shown("%TAG !p! tag:yaml.org,2002:python/\n---\n- !p!name:os.system ''\n"),
            ["---", "<tag:yaml.org,2002:python/name:os.system>", ""]
        );
        assert_eq!(shown("!<tag:yaml.org,2002:python/m%6fdule:os> x"), ["<tag:yaml.org,2002:python/module:os>", "x"]);
        assert_eq!(shown("a: &x os.system\n_target_:\n  *x\n"), ["a:", "os.system", "_target_:", "os.system"]);
        assert_eq!(shown("a: |\n  _target_: x\n  y\nb: 1\n"), ["a:", "_target_: x\ny", "b:", "1"]);
        assert_eq!(shown("url: http://x.example/a#b\nt: a:b\n"), ["url:", "http://x.example/a#b", "t:", "a:b"]);
    }

    #[test]
    fn whatever_stands_there_ends() {
        for text in [
            "!",
            "!!",
            "&",
            "*",
            "'",
            "\"\\",
            "|",
            "a: |",
            "a: >-\n",
            "%TAG",
            "? : -",
            "\u{feff}",
            "a: |\n\n\n",
            "é: |\n é",
            "\"\\xé\"",
        ] {
            tokens(text);
            tokens(&text.repeat(1000));
        }
    }
}
