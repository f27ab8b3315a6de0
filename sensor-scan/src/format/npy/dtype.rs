//! What a dtype of an npy header means: may it hold objects, and how many bytes does an element take.

use super::literal::Literal;

/// What is known of a dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Plain data, bytes per element.
    Plain(u64),
    /// References to Python objects: the data is one pickle.
    Object,
    /// Anything that numpy might still understand: taken for objects.
    Unknown,
}

const DEPTH_MAX: u32 = 32;

/// Reads `descr` as `numpy.lib.format.descr_to_dtype` does.
pub fn of(descr: &Literal) -> Dtype {
    of_nested(descr, 0)
}

fn of_nested(descr: &Literal, depth: u32) -> Dtype {
    if depth > DEPTH_MAX {
        return Dtype::Unknown;
    }
    match descr {
        Literal::Text(text) => of_text(text),
        Literal::Sequence(items) => match items.as_slice() {
            // (descr, shape): a sub-array.
            [inner, shape] if !matches!(inner, Literal::Sequence(_)) || is_shape(shape) => {
                times(of_nested(inner, depth + 1), product(shape))
            }
            fields => fields.iter().map(|field| of_field(field, depth + 1)).fold(Dtype::Plain(0), plus),
        },
        _ => Dtype::Unknown,
    }
}

/// `(name, descr)` or `(name, descr, shape)`; a name may be `(title, name)`.
fn of_field(field: &Literal, depth: u32) -> Dtype {
    match field {
        Literal::Sequence(parts) => match parts.as_slice() {
            [_, descr] => of_nested(descr, depth),
            [_, descr, shape] => times(of_nested(descr, depth), product(shape)),
            _ => Dtype::Unknown,
        },
        _ => Dtype::Unknown,
    }
}

fn of_text(text: &str) -> Dtype {
    let body = text.trim_start_matches(['<', '>', '|', '=']);
    let mut chars = body.chars();
    let Some(kind) = chars.next() else { return Dtype::Unknown };
    let count = chars.as_str();
    // Units of time: `M8[ns]`.
    let (count, unit) = count.split_once('[').map_or((count, None), |(count, unit)| (count, Some(unit)));
    if unit.is_some() && !matches!(kind, 'M' | 'm') {
        return Dtype::Unknown;
    }
    let number: Option<u64> = count.parse().ok();
    match (kind, number) {
        ('O', _) => Dtype::Object,
        ('b' | 'i' | 'u' | 'f' | 'c' | 'M' | 'm', Some(bytes)) if (1..=32).contains(&bytes) => Dtype::Plain(bytes),
        ('?', None) if count.is_empty() => Dtype::Plain(1),
        ('S' | 'a' | 'V', Some(bytes)) => Dtype::Plain(bytes),
        ('U', Some(chars)) => chars.checked_mul(4).map_or(Dtype::Unknown, Dtype::Plain),
        _ => Dtype::Unknown,
    }
}

fn is_shape(literal: &Literal) -> bool {
    match literal {
        Literal::Integer(_) => true,
        Literal::Sequence(items) => items.iter().all(|item| matches!(item, Literal::Integer(_))),
        _ => false,
    }
}

/// Elements in an array of this shape; `None`: negative, or more than 2^64.
pub fn product(shape: &Literal) -> Option<u64> {
    match shape {
        Literal::Integer(length) => u64::try_from(*length).ok(),
        Literal::Sequence(items) => {
            items.iter().try_fold(1_u64, |product, item| product.checked_mul(self::product(item)?))
        }
        _ => None,
    }
}

fn times(dtype: Dtype, count: Option<u64>) -> Dtype {
    match (dtype, count) {
        (Dtype::Plain(bytes), Some(count)) => bytes.checked_mul(count).map_or(Dtype::Unknown, Dtype::Plain),
        (Dtype::Plain(_), None) => Dtype::Unknown,
        (other, _) => other,
    }
}

fn plus(left: Dtype, right: Dtype) -> Dtype {
    match (left, right) {
        (Dtype::Object, _) | (_, Dtype::Object) => Dtype::Object,
        (Dtype::Plain(left), Dtype::Plain(right)) => left.checked_add(right).map_or(Dtype::Unknown, Dtype::Plain),
        _ => Dtype::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::literal::parse;
    use super::*;

    fn dtype(text: &str) -> Dtype {
        of(&parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn sizes_of_plain_types() {
        for (text, bytes) in [
            ("'<f8'", 8),
            ("'|b1'", 1),
            ("'<U10'", 40),
            ("'|S5'", 5),
            ("'<M8[ns]'", 8),
            ("'|V16'", 16),
            ("[('a', '<f8'), ('b', '<i4', (2, 3))]", 32),
            ("[(('title', 'a'), '<f8')]", 8),
            ("[('a', [('b', '<f4'), ('c', '<f4')])]", 8),
            ("('<f8', (3,))", 24),
        ] {
            assert_eq!(dtype(text), Dtype::Plain(bytes), "{text}");
        }
    }

    #[test]
    fn objects_are_found_however_deep_and_doubt_is_kept() {
        for text in ["'|O'", "'O'", "'O8'", "[('a', '<f8'), ('b', '|O')]", "[('a', [('b', [('c', 'O')])], (2,))]"] {
            assert_eq!(dtype(text), Dtype::Object, "{text}");
        }
        for text in ["'object'", "'i4,O'", "''", "{'names': ['a'], 'formats': ['O']}", "'<f8x'", "1"] {
            assert_eq!(dtype(text), Dtype::Unknown, "{text}");
        }
    }
}
