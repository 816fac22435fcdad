//! Rust source without its comments and literals.
//!
//! A rule about code must not fire on a doc comment that explains the rule, nor on this program,
//! which names every forbidden word in a string. A lexer for the few tokens that can hide code is
//! enough, and keeps a parser out of the build.

use super::tree::File;

/// Where one of the needles stands in the code of a file: the line, counted from 1, and the needle.
pub(super) fn uses<'n>(file: &File, needles: &[&'n str]) -> Vec<(usize, &'n str)> {
    let mut found = Vec::new();
    for (i, line) in strip(&file.text).split('\n').enumerate() {
        found.extend(needles.iter().filter(|needle| mentions(line, needle)).map(|needle| (i + 1, *needle)));
    }
    found
}

/// The part of a source file that ships: all before its unit tests.
pub(super) fn shipped(file: &File) -> File {
    let end = file.text.find("#[cfg(test)]\nmod tests {").unwrap_or(file.text.len());
    File { path: file.path.clone(), text: file.text[..end].to_owned(), bytes: end }
}

/// The source with comments, strings and characters turned into blanks; line breaks stay.
pub(super) fn strip(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let hidden = comment(rest).or_else(|| raw_string(rest)).or_else(|| string(rest));
        match hidden.or_else(|| character(rest)) {
            Some(length) => {
                code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

/// Whether a line of code holds the needle as words of its own: `Tensor::rand`, not `Tensor::rand_like`.
fn mentions(line: &str, needle: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let joins = |a: Option<char>, b: Option<char>| a.is_some_and(is_word) && b.is_some_and(is_word);
    line.match_indices(needle).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + needle.len()..].chars().next();
        !joins(before, needle.chars().next()) && !joins(needle.chars().next_back(), after)
    })
}

// Each of these: the length in bytes of the token that opens the text, if it is of that kind.

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (1, 2); // block comments nest
    while depth > 0 {
        let next = text[at..].find(['/', '*']).map(|i| at + i);
        let Some(next) = next else { return Some(text.len()) };
        at = next + 1;
        if text[next..].starts_with("*/") {
            (depth, at) = (depth - 1, next + 2);
        } else if text[next..].starts_with("/*") {
            (depth, at) = (depth + 1, next + 2);
        }
    }
    Some(at)
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let body = after.trim_start_matches('#');
    let hashes = &after[..after.len() - body.len()];
    let body = body.strip_prefix('"')?;
    let close = format!("\"{hashes}");
    let end = body.find(&close).map_or(body.len(), |i| i + close.len());
    Some(text.len() - body.len() + end)
}

fn string(text: &str) -> Option<usize> {
    let body = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 2),
            _ => {}
        }
    }
    Some(text.len())
}

/// A character literal; a lifetime has no closing quote and is code.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let inside = if first == '\\' { 2 } else { first.len_utf8() };
    let tail = body.get(inside..)?;
    let close = if first == '\\' { tail.find('\'')? } else { 0 };
    tail[close..].starts_with('\'').then_some(1 + inside + close + 1)
}

#[cfg(test)]
mod tests {
    use super::super::tree::file;
    use super::*;

    #[test]
    fn comments_and_literals_hide_nothing_but_themselves() {
        let hidden = [
            "// todo!",
            "/// todo!",
            "/* a /* todo! */ todo! */",
            "\"todo!\"",
            "\"\\\" todo!\"",
            "r\"todo! \\\"",
            "br##\"todo! \"# todo!\"##",
            "b\"todo!\"",
        ];
        for token in hidden {
            let source = file("a.rs", &format!("{token}\ntodo!()"));
            assert_eq!(uses(&source, &["todo!"]), [(2, "todo!")], "{token}");
        }
    }

    #[test]
    fn a_quote_in_a_character_opens_no_string() {
        for token in ["'\"'", "'\\''", "'\\\\'", "'é'", "'\\u{22}'", "b'\"'", "fn f<'a>(x: &'a str)"] {
            let source = file("a.rs", &format!("{token}; todo!(); // \"\n"));
            assert_eq!(uses(&source, &["todo!"]), [(1, "todo!")], "{token}");
        }
    }

    #[test]
    fn strip_keeps_the_line_numbers() {
        let source = "/* 1\n2 */ a\n\"3\n4\" b";
        let code = strip(source);
        assert_eq!(code.split('\n').map(str::trim).collect::<Vec<_>>(), ["", "a", "", "b"]);
    }

    #[test]
    fn a_needle_is_found_as_whole_words_only() {
        assert!(mentions("candle_core::Tensor::rand(0., 1.)", "Tensor::rand"));
        assert!(mentions("Tensor::rand::<f32>()", "Tensor::rand"));
        assert!(!mentions("Tensor::rand_like(x)", "Tensor::rand"));
        assert!(!mentions("MyTensor::rand(x)", "Tensor::rand"));
        assert!(!mentions("#![forbid(unsafe_code)]", "unsafe"));
    }

    #[test]
    fn unit_tests_do_not_ship() {
        let source = file("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\n");
        assert_eq!(shipped(&source).text, "fn a() {}\n");
    }
}
