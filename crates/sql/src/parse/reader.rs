//! sqlparser's [`Parser`] over the tokens of a script, with the places of the original text.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{self, Token, TokenWithSpan, Tokenizer, Word};
use riverrun_engine::table::Location;

use super::fault::{Fault, Result, place};
use super::variables::Replaced;

/// The dialect that DataFusion plans by default.
static DIALECT: GenericDialect = GenericDialect {};

/// Reads tokens, one statement after the other.
pub struct Reader {
    /// Parses types, expressions and queries.
    pub parser: Parser<'static>,
    /// Behind the last token: where an end that came too early is shown.
    end: Location,
}

impl Reader {
    /// Cuts a script into tokens.
    ///
    /// # Errors
    /// A text, quoted name or comment is never closed; a character that SQL does not know.
    pub fn new(script: &Replaced) -> Result<Self> {
        let original = |at: tokenizer::Location| {
            let at = script.original(place(at));
            tokenizer::Location::new(at.line, at.column)
        };
        let mut tokens = Vec::new();
        let read =
            Tokenizer::new(&DIALECT, &script.text).tokenize_with_location_into_buf_with_mapper(&mut tokens, |mut token| {
                token.span.start = original(token.span.start);
                token.span.end = original(token.span.end);
                token
            });
        read.map_err(|mut error| {
            error.location = original(error.location);
            Fault::from(error)
        })?;
        let last = tokens.iter().rfind(|t| !matches!(t.token, Token::Whitespace(_)));
        let end = last.map_or(Location { line: 1, column: 1 }, |t| place(t.span.end));
        Ok(Self { parser: Parser::new(&DIALECT).with_tokens_with_locations(tokens), end })
    }

    /// Passes semicolons; false at the end of the script.
    pub fn next_statement(&mut self) -> bool {
        while self.parser.consume_token(&Token::SemiColon) {}
        self.parser.peek_token_ref().token != Token::EOF
    }

    /// A statement ends with a semicolon or with the script.
    pub fn end_of_statement(&mut self) -> Result<()> {
        match self.parser.peek_token_ref().token {
            Token::EOF => Ok(()),
            _ => self.expect(&Token::SemiColon, "';' at the end of the statement"),
        }
    }

    /// The place of the next token.
    pub fn place(&self) -> Location {
        self.shown(place(self.parser.peek_token_ref().span.start))
    }

    /// A place, or the end of the script where sqlparser had none.
    pub fn shown(&self, at: Location) -> Location {
        if at.line == 0 { self.end } else { at }
    }

    /// All tokens but white space, up to `at` and the one there; then those behind it.
    pub fn around(&self, at: Location) -> (Vec<&TokenWithSpan>, Vec<&TokenWithSpan>) {
        let tokens = (0..).map(|i| self.parser.token_at(i)).take_while(|t| t.token != Token::EOF);
        let tokens = tokens.filter(|t| !matches!(t.token, Token::Whitespace(_)));
        let end = (at.line, at.column);
        tokens.partition(|t| (t.span.start.line, t.span.start.column) <= end)
    }

    /// The token `n` places on (0: the next one) is the unquoted word `word`, whatever its case. Not consumed.
    pub fn sees_nth(&self, n: usize, word: &str) -> bool {
        matches!(&self.parser.peek_nth_token_ref(n).token, Token::Word(w) if is_word(w, word))
    }

    /// Consumes `words` if all of them come next.
    pub fn takes(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(n, word)| self.sees_nth(n, word));
        if all {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        all
    }

    /// Consumes `word`.
    pub fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.takes(&[word]) { Ok(()) } else { Err(self.expected(word)) }
    }

    /// Consumes `token`, called `what` in messages.
    pub fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.parser.consume_token(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// The error that something else than `what` comes next.
    pub fn expected(&self, what: &str) -> Fault {
        let found = match &self.parser.peek_token_ref().token {
            Token::EOF => "the end of the script".to_owned(),
            token => token.to_string(),
        };
        Fault::at(self.place(), format!("expected {what}, found {found}"))
    }

    /// A name, as DataFusion normalises it: in lower case unless quoted. `what` names it in messages.
    pub fn name(&mut self, what: &str) -> Result<(String, Location)> {
        let at = self.place();
        match &self.parser.peek_token_ref().token {
            Token::Word(_) => Ok((normal(&self.parser.parse_identifier()?), at)),
            _ => Err(self.expected(what)),
        }
    }

    /// `( item, item, … )`, without a comma behind the last one.
    pub fn list(&mut self, what: &str, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(&Token::LParen, "'('")?;
        loop {
            item(self)?;
            let comma = self.place();
            if !self.parser.consume_token(&Token::Comma) {
                return self.expect(&Token::RParen, &format!("',' or ')' in the {what}"));
            }
            if self.parser.peek_token_ref().token == Token::RParen {
                return Err(Fault::at(comma, format!("nothing follows this comma in the {what}")).hint("remove the comma"));
            }
        }
    }
}

/// The identifier as DataFusion normalises it: in lower case unless quoted.
pub fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn is_word(token: &Word, word: &str) -> bool {
    token.quote_style.is_none() && token.value.eq_ignore_ascii_case(word)
}
