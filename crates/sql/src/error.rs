//! What is wrong with a script: file, line, column, the reason, what to do, and the line itself.

use std::fmt;

use riverrun_engine::table::Location;

/// An error in a script.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ScriptError {
    /// The file's name as the user gave it.
    pub file: String,
    /// The place; line 0: the script as a whole.
    pub location: Location,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The text of that line.
    pub line: Option<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location.line {
            0 => write!(f, "{}: {}", self.file, self.message)?,
            _ => write!(f, "{}:{}: {}", self.file, self.location, self.message)?,
        }
        if let Some(line) = &self.line {
            let number = self.location.line.to_string();
            let caret = " ".repeat(self.location.column.saturating_sub(1) as usize);
            write!(f, "\n  {number} | {line}\n  {} | {caret}^", " ".repeat(number.len()))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}
