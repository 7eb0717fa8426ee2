//! A Rust file as tokens: comments, literals and test modules are gone, paths are spelled out.
//!
//! Enough of the language for the rules, not a parser: a `use` tree is expanded, macros are read
//! like any other tokens.

use std::ops::Range;

/// A word or a single character of punctuation, with its line (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A path as it is written, e.g. `crate::disk::Disk`, with its line (from 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// One Rust file.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the repository, with `/`.
    pub(super) file: String,
    /// What is left when comments, literals and test modules are taken out.
    pub(super) tokens: Vec<Token>,
    /// Every path of `tokens`, groups expanded.
    pub(super) paths: Vec<Path>,
    /// Lines outside test modules.
    pub(super) lines: usize,
    /// The first line of the file.
    pub(super) head: String,
}

impl Source {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let mut tokens = tokenize(text);
        let mut lines = text.lines().count();
        while let Some(range) = test_module(&tokens) {
            let first = tokens.get(range.start).map_or(0, |token| token.line);
            let last = tokens.get(range.end.saturating_sub(1)).map_or(first, |token| token.line);
            lines = lines.saturating_sub(last - first + 1);
            tokens.drain(range);
        }
        let paths = spell_paths(&tokens);
        let head = text.lines().next().unwrap_or_default().to_owned();
        Self { file: file.to_owned(), tokens, paths, lines, head }
    }

    /// The folder of the crate, e.g. `crates/store`; empty for a file of no crate.
    pub(super) fn folder(&self) -> &str {
        self.file.split_once("/src/").map_or("", |(folder, _)| folder)
    }

    /// Is it all test code: `x/tests.rs`, or anything in a folder `tests/`?
    pub(super) fn is_test(&self) -> bool {
        self.file.ends_with("/tests.rs") || self.file.contains("/tests/")
    }

    /// Is it written by a program?
    pub(super) fn is_generated(&self) -> bool {
        self.head.contains("@generated") || self.file.contains("/generated/")
    }

    /// The module's path in its crate: `src/a/b.rs` and `src/a/b/mod.rs` are `["a", "b"]`.
    pub(super) fn module(&self) -> Vec<&str> {
        let inside = self.file.split_once("/src/").map_or("", |(_, inside)| inside);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let mut parts: Vec<&str> = inside.split('/').collect();
        parts.pop_if(|last| matches!(*last, "mod" | "lib" | "main"));
        parts
    }
}

/// Cuts `text` into words and punctuation; comments, strings and characters are left out.
fn tokenize(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest)
            .unwrap_or_else(|| if is_word(first) { word_length(rest) } else { first.len_utf8() });
        let (piece, after) = rest.split_at(length);
        let skipped = literal_or_comment(rest).is_some() || first.is_whitespace();
        if !skipped {
            tokens.push(Token { text: piece.to_owned(), line });
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The length of the comment, string or character that `text` starts with.
fn literal_or_comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if let Some(quoted) = raw_string(text) {
        return Some(quoted);
    }
    for prefix in ["\"", "b\"", "c\""] {
        if text.starts_with(prefix) {
            return Some(prefix.len() + closing(text.split_at(prefix.len()).1, '"'));
        }
    }
    character(text)
}

/// Nested, as Rust's block comments are.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = text.get(at..).unwrap_or_default();
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let quoted = body.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = quoted.find(&end).map_or(quoted.len(), |at| at + end.len());
    Some(text.len() - quoted.len() + length)
}

/// The length up to and with the closing quote; a backslash hides what follows it.
fn closing(text: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if hidden => hidden = false,
            '\\' => hidden = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A character literal; `'a` without a closing quote is a lifetime and is none.
fn character(text: &str) -> Option<usize> {
    let prefix = if text.starts_with("b'") { 2 } else { 1 };
    let body = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let first = body.chars().next()?;
    if first == '\\' {
        return Some(prefix + closing(body, '\''));
    }
    let after = body.get(first.len_utf8()..)?;
    after.starts_with('\'').then_some(prefix + first.len_utf8() + 1)
}

/// The first `#[cfg(test)]` with the item behind it.
fn test_module(tokens: &[Token]) -> Option<Range<usize>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let start = tokens.windows(MARK.len()).position(|w| w.iter().map(|t| &t.text).eq(MARK))?;
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start + MARK.len()) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return Some(start..at + 1),
            "}" => depth -= 1,
            ";" if depth == 0 => return Some(start..at + 1),
            _ => {}
        }
    }
    Some(start..tokens.len())
}

/// Every path of `tokens`; `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn spell_paths(tokens: &[Token]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = spell_path(tokens, at, &[], &mut paths);
    }
    paths
}

/// Spells the path that starts at `at` below `prefix`; returns where reading goes on.
fn spell_path(tokens: &[Token], at: usize, prefix: &[String], paths: &mut Vec<Path>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    let starts_word = text(at).chars().next().is_some_and(is_word);
    if !starts_word {
        return at + 1;
    }
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    segments.push(text(at).to_owned());
    let mut next = at + 1;
    while text(next) == ":" && text(next + 1) == ":" {
        next += 2;
        if text(next) == "{" {
            return spell_group(tokens, next + 1, &segments, paths);
        }
        if !text(next).chars().next().is_some_and(is_word) {
            break;
        }
        segments.push(text(next).to_owned());
        next += 1;
    }
    paths.push(Path { segments, line });
    next
}

/// Spells the paths of a group whose brace was just read, up to and with its closing brace.
fn spell_group(tokens: &[Token], at: usize, prefix: &[String], paths: &mut Vec<Path>) -> usize {
    let mut at = at;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            "self" => {
                paths.push(Path { segments: prefix.to_vec(), line: token.line });
                at += 1;
            }
            "as" => at += 2,
            _ => at = spell_path(tokens, at, prefix, paths),
        }
    }
    at
}
