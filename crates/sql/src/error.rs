//! What is wrong with a script: file, line, column, the reason, what to do, and the line itself.

use std::fmt;

use riverrun_engine::table::Location;

/// An error in a script.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ScriptError {
    /// The file's name as the user gave it.
    pub file: String,
    /// The place in the text as the user wrote it; line 0: the script as a whole.
    pub location: Location,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The text of that line, as the user wrote it: values of variables never show, nor do those of passwords.
    pub line: Option<String>,
}

impl ScriptError {
    /// An error at a place of `text`; line 0 means the script as a whole.
    pub fn new(file: &str, text: &str, location: Location, message: impl Into<String>) -> Self {
        let line = location.line.checked_sub(1).and_then(|n| text.lines().nth(usize::try_from(n).ok()?));
        Self { file: file.to_owned(), location, message: message.into(), hint: None, line: line.map(without_secrets) }
    }

    /// Adds what to write instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A line with a dot for each character of a text that is given to a name such as `sasl_password`.
fn without_secrets(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut name = String::new();
    let (mut quoted, mut secret) = (false, false);
    for c in line.chars() {
        if c == '\'' {
            quoted = !quoted;
            // A quoted name ('kafka.sasl.password') is a text before `=`, a value one behind it.
            secret =
                quoted && name.contains('=') && ["password", "secret", "pem", "token"].iter().any(|word| name.contains(word));
            shown.push(c);
        } else {
            shown.push(if secret { '•' } else { c });
            match c {
                ',' | '(' if !quoted => name.clear(),
                _ => name.extend(c.to_lowercase()),
            }
        }
    }
    shown
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location.line {
            0 => write!(f, "{}: {}", self.file, self.message)?,
            _ => write!(f, "{}:{}: {}", self.file, self.location, self.message)?,
        }
        if let Some(line) = &self.line {
            let number = self.location.line.to_string();
            let before = self.location.column.saturating_sub(1) as usize;
            // Tabs stay tabs, so that the mark stands below its character in every terminal.
            let blank: String = line.chars().take(before).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n  {number} | {line}\n  {} | {blank:<before$}^", " ".repeat(number.len()))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_an_error_shows_no_password() {
        let text = "CREATE TABLE t WITH (topic = 'a', sasl_password = 'hun,ter2', 'kafka.ssl.key.password'='hunter2', x = 'y');";
        let told = ScriptError::new("s.sql", text, Location { line: 1, column: 1 }, "no").to_string();
        assert!(told.contains("topic = 'a', sasl_password = '••••••••', 'kafka.ssl.key.password'='•••••••', x = 'y'"), "{told}");
    }
}
