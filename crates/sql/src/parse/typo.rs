//! Makes a parse error point at the misspelt keyword that caused it.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::fault::{Fault, place};
use super::reader::Reader;
use crate::suggest;

/// Keywords that a misspelt word may have meant.
const KEYWORDS: [&str; 46] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "OUTER",
    "CROSS",
    "WINDOW",
    "PARTITION",
    "OVER",
    "BETWEEN",
    "PRECEDING",
    "FOLLOWING",
    "DISTINCT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "LIKE",
    "INTERVAL",
    "FILTER",
    "CREATE",
    "TABLE",
    "VIEW",
    "INSERT",
    "INTO",
    "SET",
    "WITH",
    "WATERMARK",
    "PRIMARY",
    "KEY",
    "ENFORCED",
    "METADATA",
    "PARTITIONED",
    "VALUES",
];

/// sqlparser notices a misspelt keyword at the word itself or, having taken it for an alias, at the next one: looks for
/// one that is nearly a keyword, moves the error there and names the keyword. Errors with a hint stay as they are.
pub fn explain(fault: Fault, reader: &Reader) -> Fault {
    let fault = Fault { location: reader.shown(fault.location), ..fault };
    if fault.hint.is_some() {
        return fault;
    }
    let (before, _) = reader.around(fault.location);
    for token in before.iter().rev().take(2) {
        if let Some((word, right)) = misspelt(token) {
            let message = format!("unknown keyword {word}");
            return Fault::at(place(token.span.start), message).hint(format!("did you mean {right}?"));
        }
    }
    fault
}

/// A word that is a keyword itself is spelt right, however near to another one: ON to OR, INT to INTO, END to AND.
fn misspelt(token: &TokenWithSpan) -> Option<(&str, &'static str)> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::NoKeyword => {
            Some((&word.value, suggest::nearest(&word.value, KEYWORDS)?))
        }
        _ => None,
    }
}
