//! `${NAME}` and `${NAME:-default}` in a script, and where each place of the replaced text stands in the original.
//!
//! - Comments are left alone. Inside quotes the quotes of a value are doubled, so that a value never ends the text or the
//!   name that it stands in.
//! - As in a shell, an empty value counts as none where there is a default. `$${` is a plain `${`.
//! - Every place within a replaced value is the place of its `$`; all others are exact.

use riverrun_engine::table::Location;

use super::fault::{Fault, Result};

/// A script whose variables have been replaced.
#[derive(Debug)]
pub struct Replaced {
    /// The text to parse.
    pub text: String,
    pieces: Vec<Piece>,
}

/// From `replaced` on (up to the next piece) the text came from `original`: copied, or all of it from that one place.
#[derive(Debug)]
struct Piece {
    replaced: Location,
    original: Location,
    copied: bool,
}

impl Replaced {
    /// Where a place of the replaced text stands in the original.
    pub fn original(&self, at: Location) -> Location {
        let next = self.pieces.partition_point(|p| (p.replaced.line, p.replaced.column) <= (at.line, at.column));
        let Some(piece) = next.checked_sub(1).and_then(|i| self.pieces.get(i)) else { return at };
        if !piece.copied {
            return piece.original;
        }
        let line = piece.original.line + (at.line - piece.replaced.line);
        let moved = at.line == piece.replaced.line;
        let column = if moved { piece.original.column + at.column - piece.replaced.column } else { at.column };
        Location { line, column }
    }
}

/// Replaces the variables of `text` by what `variables` knows.
///
/// # Errors
/// A variable is unknown and has no default; `${` is never closed.
pub fn replace(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<Replaced> {
    let start = Location { line: 1, column: 1 };
    let mut scan = Scan { read: start, written: start, text: String::with_capacity(text.len()), pieces: Vec::new() };
    let mut state = State::Code;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("$${") && !state.is_comment() {
            scan.skip("$");
            scan.copy("${");
            rest = &rest[3..];
        } else if let Some((variable, length)) = variable(rest, scan.read).filter(|_| !state.is_comment()) {
            let value = variable?.value(scan.read, variables)?;
            scan.put(&state.escape(value), &rest[..length]);
            rest = &rest[length..];
        } else {
            let length = state.step(rest).unwrap_or(c.len_utf8());
            scan.copy(&rest[..length]);
            rest = &rest[length..];
        }
    }
    Ok(Replaced { text: scan.text, pieces: scan.pieces })
}

struct Scan {
    read: Location,
    written: Location,
    text: String,
    pieces: Vec<Piece>,
}

impl Scan {
    fn copy(&mut self, piece: &str) {
        advance(&mut self.read, piece);
        advance(&mut self.written, piece);
        self.text.push_str(piece);
    }

    fn skip(&mut self, original: &str) {
        advance(&mut self.read, original);
        self.pieces.push(Piece { replaced: self.written, original: self.read, copied: true });
    }

    fn put(&mut self, value: &str, original: &str) {
        self.pieces.push(Piece { replaced: self.written, original: self.read, copied: false });
        advance(&mut self.written, value);
        self.text.push_str(value);
        self.skip(original);
    }
}

fn advance(at: &mut Location, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => *at = Location { line: at.line + 1, column: 1 },
            _ => at.column += 1,
        }
    }
}

/// What the scan stands in.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment,
    Quoted(char),
}

impl State {
    fn is_comment(self) -> bool {
        matches!(self, State::LineComment | State::BlockComment)
    }

    /// Moves over the beginning of `rest`; the length of a mark of two characters.
    fn step(&mut self, rest: &str) -> Option<usize> {
        let first = rest.chars().next();
        match (*self, first) {
            (State::Code, _) if rest.starts_with("--") => *self = State::LineComment,
            (State::Code, _) if rest.starts_with("/*") => {
                *self = State::BlockComment;
                return Some(2);
            }
            (State::Code, Some(quote @ ('\'' | '"'))) => *self = State::Quoted(quote),
            (State::Quoted(quote), Some(c)) if c == quote => *self = State::Code,
            (State::LineComment, Some('\n')) => *self = State::Code,
            (State::BlockComment, _) if rest.starts_with("*/") => {
                *self = State::Code;
                return Some(2);
            }
            _ => {}
        }
        None
    }

    fn escape(self, value: String) -> String {
        match self {
            State::Quoted(quote) => value.replace(quote, &format!("{quote}{quote}")),
            _ => value,
        }
    }
}

struct Variable<'a> {
    name: &'a str,
    default: Option<&'a str>,
}

/// The variable that `rest` begins with, and its length with the braces. What begins otherwise (`${1}`) is no variable.
fn variable(rest: &str, at: Location) -> Option<(Result<Variable<'_>>, usize)> {
    let after = rest.strip_prefix("${")?;
    let name_length = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
    let name = &after[..name_length];
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let wrong = |message: &str| Fault::at(at, message).hint("write ${NAME} or ${NAME:-default}");
    let behind = &after[name_length..];
    if behind.starts_with('}') {
        return Some((Ok(Variable { name, default: None }), name_length + 3));
    }
    let Some(default) = behind.strip_prefix(":-") else {
        return Some((Err(wrong(&format!("the variable ${{{name} is not closed by }}"))), rest.len()));
    };
    match default.find(['}', '\n']).filter(|end| default[*end..].starts_with('}')) {
        Some(end) if default[..end].contains("${") => Some((Err(wrong("a default cannot hold another variable")), rest.len())),
        Some(end) => Some((Ok(Variable { name, default: Some(&default[..end]) }), name_length + end + 5)),
        None => Some((Err(wrong(&format!("the variable ${{{name} is not closed by }}"))), rest.len())),
    }
}

impl Variable<'_> {
    fn value(&self, at: Location, variables: &dyn Fn(&str) -> Option<String>) -> Result<String> {
        let name = self.name;
        match (variables(name), self.default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(Fault::at(at, format!("the variable {name} has no value"))
                .hint(format!("give --set {name}=value, set it in the environment, or write ${{{name}:-default}}"))),
        }
    }
}
