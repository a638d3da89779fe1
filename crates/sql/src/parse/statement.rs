//! The statements of a script: SET, CREATE TABLE, CREATE VIEW, INSERT INTO.

use datafusion::sql::sqlparser::ast::{Query, SetExpr};
use datafusion::sql::sqlparser::tokenizer::Token;
use riverrun_engine::table::Location;

use super::fault::{Fault, Result, place};
use super::reader::Reader;
use super::{create_table, options, rewrite_hop};
use crate::script::{Insert, Script, View};
use crate::suggest;

/// What a script may hold.
const STATEMENTS: &str = "a script holds SET, CREATE TABLE, CREATE VIEW and INSERT INTO … SELECT";

/// Words that begin statements which a script may not hold, and what to do instead.
const FOREIGN: [(&str, &str); 14] = [
    ("select", "name where the rows go: INSERT INTO <sink table> SELECT …; or run it with `riverrun sql`"),
    ("with", "name where the rows go: INSERT INTO <sink table> WITH … SELECT …"),
    ("values", "rows come from tables with a connector"),
    ("drop", "a script says all that there is: remove the CREATE"),
    ("alter", "a script says all that there is: change the CREATE"),
    ("update", "a sink with a PRIMARY KEY and emit = 'update' replaces rows by key"),
    ("delete", "leave rows out with WHERE in the query of an INSERT"),
    ("merge", "a sink with a PRIMARY KEY and emit = 'update' replaces rows by key"),
    ("truncate", "a script only adds to its sinks"),
    ("show", "ask with `riverrun sql`"),
    ("describe", "ask with `riverrun sql`"),
    ("explain", "ask with `riverrun explain`"),
    ("use", "names have no catalog or schema in front"),
    ("begin", "all INSERTs of a script run together as one pipeline"),
];

/// Reads the next statement into `script`.
pub fn parse(reader: &mut Reader, script: &mut Script) -> Result<()> {
    let at = reader.place();
    if reader.takes(&["set"]) {
        let (name, value) = options::setting(reader)?;
        script.settings.insert(name, value);
    } else if reader.takes(&["create", "table"]) {
        let (name, at) = new_name(reader, script, "a table's name")?;
        let (table, open) = create_table::parse(reader, name.clone(), at)?;
        script.tables.push(table);
        script.open.extend(open.map(|open| (name, open)));
    } else if reader.takes(&["create", "view"]) {
        let (name, location) = new_name(reader, script, "a view's name")?;
        reader.expect_word("AS")?;
        script.views.push(View { name, query: query(reader)?, location });
    } else if reader.takes(&["create"]) {
        return Err(reader.expected("TABLE or VIEW after CREATE"));
    } else if reader.takes(&["insert"]) {
        reader.expect_word("INTO")?;
        script.inserts.push(insert(reader)?);
    } else {
        return Err(unknown(reader, at));
    }
    Ok(())
}

/// A query, `hop()` rewritten.
pub fn query(reader: &mut Reader) -> Result<Query> {
    let query = *reader.parser.parse_query()?;
    refuse_into(&query)?;
    rewrite_hop(query)
}

/// `SELECT … INTO t` is most often an INSERT whose INSERT was taken for an alias: the semicolon before it is missing.
fn refuse_into(query: &Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(()) };
    let Some(into) = &select.into else { return Ok(()) };
    let at = into.name.0.first().and_then(|p| p.as_ident()).map_or(Location::default(), |ident| place(ident.span.start));
    Err(Fault::at(at, format!("SELECT … INTO {} is no query", into.name))
        .hint(format!("write INSERT INTO {} SELECT …, with ';' behind the statement before it", into.name)))
}

fn insert(reader: &mut Reader) -> Result<Insert> {
    let (table, location) = reader.name("a sink table's name")?;
    no_schema(reader)?;
    let mut columns = Vec::new();
    let is_query = ["select", "with", "values", "from"].iter().any(|word| reader.sees_nth(1, word));
    if reader.parser.peek_token_ref().token == Token::LParen && !is_query {
        reader.list("column list", |r| {
            let (column, at) = r.name("a column's name")?;
            if columns.contains(&column) {
                return Err(Fault::at(at, format!("column {column} is named twice")));
            }
            columns.push(column);
            Ok(())
        })?;
    }
    Ok(Insert { table, columns, query: query(reader)?, location })
}

/// The name of a new table or view: not taken yet.
fn new_name(reader: &mut Reader, script: &Script, what: &str) -> Result<(String, Location)> {
    let (name, at) = reader.name(what)?;
    no_schema(reader)?;
    let tables = script.tables.iter().map(|t| (&t.name, t.location, "table"));
    let mut known = tables.chain(script.views.iter().map(|v| (&v.name, v.location, "view")));
    match known.find(|(n, ..)| **n == name) {
        Some((_, first, kind)) => {
            Err(Fault::at(at, format!("{name} is there already, as a {kind} on line {}", first.line)).hint("choose another name"))
        }
        None => Ok((name, at)),
    }
}

fn no_schema(reader: &Reader) -> Result<()> {
    match reader.parser.peek_token_ref().token {
        Token::Period => {
            Err(reader.expected("a name without a schema in front").hint("to use a dot in a name, quote it: \"a.b\""))
        }
        _ => Ok(()),
    }
}

fn unknown(reader: &Reader, at: Location) -> Fault {
    let word = reader.parser.peek_token_ref().token.to_string();
    match FOREIGN.iter().find(|(w, _)| w.eq_ignore_ascii_case(&word)) {
        Some((w, instead)) => {
            Fault::at(at, format!("{} cannot stand in a script: {STATEMENTS}", w.to_uppercase())).hint(*instead)
        }
        None => {
            let near = suggest::nearest(&word, ["SET", "CREATE", "INSERT"]);
            Fault::at(at, format!("unknown statement {word}"))
                .hint(near.map_or_else(|| STATEMENTS.to_owned(), |right| format!("did you mean {right}?")))
        }
    }
}
