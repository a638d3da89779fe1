//! `SET name = value` and `WITH (name = value, …)`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;
use riverrun_engine::table::{Location, OptionValue, Options};

use super::fault::{Fault, Result};
use super::reader::Reader;

/// `name = value` or `name TO value`, behind SET. The place is that of the name.
pub fn setting(reader: &mut Reader) -> Result<(String, OptionValue)> {
    let (name, location) = dotted_name(reader, "a setting's name, such as pipeline.name")?;
    if !reader.takes(&["to"]) {
        reader.expect(&Token::Eq, "'='")?;
    }
    Ok((name, OptionValue { value: value(reader)?, location }))
}

/// `WITH (…)`: each option once. The place of an option is that of its name.
pub fn with(reader: &mut Reader) -> Result<Options> {
    let mut options = BTreeMap::new();
    reader.list("options", |r| {
        let (name, location) = option_name(r)?;
        if options.contains_key(&name) {
            return Err(Fault::at(location, format!("option '{name}' is given twice")));
        }
        r.expect(&Token::Eq, "'=' behind the option's name")?;
        options.insert(name, OptionValue { value: value(r)?, location });
        Ok(())
    })?;
    Ok(Options::new(options))
}

/// An option's name: words with dots between, or a text (as Flink writes them).
fn option_name(reader: &mut Reader) -> Result<(String, Location)> {
    let at = reader.place();
    if let Token::SingleQuotedString(name) = &reader.parser.peek_token_ref().token {
        let name = name.clone();
        reader.parser.advance_token();
        return Ok((name, at));
    }
    dotted_name(reader, "an option's name")
}

fn dotted_name(reader: &mut Reader, what: &str) -> Result<(String, Location)> {
    let (mut name, at) = reader.name(what)?;
    while reader.parser.consume_token(&Token::Period) {
        name.push('.');
        name.push_str(&reader.name(what)?.0);
    }
    Ok((name, at))
}

/// A text, a number, true or false: as text.
fn value(reader: &mut Reader) -> Result<String> {
    let minus = reader.parser.consume_token(&Token::Minus);
    let text = match &reader.parser.peek_token_ref().token {
        Token::Number(digits, _) if minus => format!("-{digits}"),
        Token::Number(digits, _) => digits.clone(),
        Token::SingleQuotedString(text) if !minus => text.clone(),
        Token::Word(w) if !minus && w.quote_style.is_none() && ["true", "false"].contains(&w.value.to_lowercase().as_str()) => {
            w.value.to_lowercase()
        }
        Token::Word(w) => {
            let quoted = format!("'{}'", w.value);
            return Err(reader.expected("a value").hint(format!("put texts into single quotes: {quoted}")));
        }
        _ => return Err(reader.expected("a value: a text in single quotes, a number, true or false")),
    };
    reader.parser.advance_token();
    Ok(text)
}
