//! Template text → pieces between the delimiters → tokens, with string escapes resolved as Python does.

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Printed as it is.
    Data(&'a str),
    /// `{{ … }}`.
    Print(&'a str),
    /// `{% … %}`.
    Statement(&'a str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Name(String),
    Text(String),
    Number(String),
    Operator(&'static str),
}

/// Longest first.
const OPERATORS: &[&str] = &[
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".",
    ":", "|", ",", ";",
];

/// Splits a template at Jinja's default delimiters; comments are dropped, what a `raw` block holds is data.
pub fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = template;
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        let tail = &rest[at..];
        let kind = tail.as_bytes().get(1).copied();
        let (open, close) = match kind {
            Some(b'{') if !raw => ("{{", "}}"),
            Some(b'%') => ("{%", "%}"),
            Some(b'#') if !raw => ("{#", "#}"),
            _ => {
                let (data, behind) = rest.split_at(at + 1);
                parts.push(Part::Data(data));
                rest = behind;
                continue;
            }
        };
        if at > 0 {
            parts.push(Part::Data(&rest[..at]));
        }
        let body = &tail[open.len()..];
        let end = if kind == Some(b'#') { body.find(close) } else { end_of(body, close) };
        let inner = trim(&body[..end.unwrap_or(body.len())]);
        rest = end.map_or("", |end| &body[end + close.len()..]);
        match kind {
            Some(b'{') => parts.push(Part::Print(inner)),
            Some(b'%') => match inner {
                "raw" | "verbatim" => raw = true,
                "endraw" | "endverbatim" => raw = false,
                _ if raw => {}
                _ => parts.push(Part::Statement(inner)),
            },
            _ => {}
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Data(rest));
    }
    parts
}

fn trim(inner: &str) -> &str {
    inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim()
}

/// Where the closing delimiter stands, strings stepped over.
fn end_of(body: &str, close: &str) -> Option<usize> {
    let bytes = body.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(close.as_bytes()) => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    // A quote without its twin: as the plain search sees it.
    body.find(close)
}

/// Tokens of an expression or a statement; characters that mean nothing are skipped.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let (value, behind) = string(&rest[1..], first);
            tokens.push(Token::Text(value));
            rest = behind;
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..end].replace('_', "")));
            rest = &rest[end..];
        } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            tokens.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// A string's value and what follows it.
fn string(text: &str, quote: char) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        if char == quote {
            return (value, &text[at + 1..]);
        }
        if char != '\\' {
            value.push(char);
            continue;
        }
        let Some((at, letter)) = chars.next() else { break };
        let (digits, radix, prefix) = match letter {
            'x' => (2, 16, 1),
            'u' => (4, 16, 1),
            'U' => (8, 16, 1),
            '0'..='7' => (3, 8, 0),
            'N' => {
                let name = text[at + 1..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
                if let Some((name, _)) = name {
                    value.push(if name.eq_ignore_ascii_case("low line") { '_' } else { '\u{fffd}' });
                    for _ in 0..name.chars().count() + 2 {
                        chars.next();
                    }
                }
                continue;
            }
            _ => {
                value.push(match letter {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                });
                continue;
            }
        };
        let found = text[at + prefix..].chars().take(digits).take_while(|digit| digit.is_digit(radix)).count();
        let number = u32::from_str_radix(&text[at + prefix..at + prefix + found], radix).ok();
        value.push(number.and_then(char::from_u32).unwrap_or(letter));
        for _ in 0..found - usize::from(prefix == 0 && found > 0) {
            chars.next();
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_in_strings_raw_blocks_and_comments() {
        let parts = parts("a{{ '}}' }}{# {{x}} #}{%- if y -%}{% raw %}{{ z }}{% endraw %}{ b");
        assert_eq!(
            parts,
            [
                Part::Data("a"),
                Part::Print("'}}'"),
                Part::Statement("if y"),
                Part::Data("{"),
                Part::Data("{"),
                Part::Data(" z }}"),
                Part::Data("{"),
                Part::Data(" b"),
            ]
        );
    }

    #[test]
    fn escapes_are_resolved() {
        for text in ["\"\\x5f\\u005f\\137\\N{LOW LINE}\"", "'____'"] {
            assert_eq!(tokens(text), [Token::Text("____".to_owned())], "{text}");
        }
        assert_eq!(tokens("'\\n\\'' 'x"), [Token::Text("\n'".to_owned()), Token::Text("x".to_owned())]);
        assert_eq!(tokens("'\\xg\\u'"), [Token::Text("xgu".to_owned())]);
        assert_eq!(
            tokens("a.b|c(1)//2"),
            [
                Token::Name("a".to_owned()),
                Token::Operator("."),
                Token::Name("b".to_owned()),
                Token::Operator("|"),
                Token::Name("c".to_owned()),
                Token::Operator("("),
                Token::Number("1".to_owned()),
                Token::Operator(")"),
                Token::Operator("//"),
                Token::Number("2".to_owned()),
            ]
        );
    }
}
