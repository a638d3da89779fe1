//! The terminal: raw, on its second screen, until dropped; and its keys as actions.
//!
//! Termion, not crossterm: that one turns features of mio and rustix on below tokio, so all of DataFusion would be
//! compiled again for it. Nothing else knows which it is.

use std::io::{IsTerminal, Stdout, stdin, stdout};
use std::sync::mpsc::{Receiver, channel};

use ratatui::Terminal;
use ratatui::backend::TermionBackend;
use ratatui::termion::event::Key;
use ratatui::termion::input::TermRead;
use ratatui::termion::raw::{IntoRawMode, RawTerminal};
use ratatui::termion::screen::{AlternateScreen, IntoAlternateScreen};
use riverrun_engine::{Error, Result};

use super::view::Action;

/// What is drawn to.
pub type Screen = Terminal<TermionBackend<AlternateScreen<RawTerminal<Stdout>>>>;

/// Takes the terminal over.
///
/// # Errors
/// Input or output is none.
pub fn open() -> Result<Screen> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Error::invalid("riverrun top needs a terminal").hint("riverrun top --once prints one frame as text"));
    }
    let screen = stdout().into_raw_mode().and_then(IntoAlternateScreen::into_alternate_screen).map_err(failed)?;
    let mut terminal = Terminal::new(TermionBackend::new(screen)).map_err(failed)?;
    terminal.hide_cursor().map_err(failed)?;
    Ok(terminal)
}

/// An error of the terminal.
pub fn failed(e: std::io::Error) -> Error {
    Error::permanent(format!("the terminal cannot be used: {e}"))
}

/// Columns of the terminal, where output goes to one.
pub fn width() -> Option<u16> {
    if stdout().is_terminal() { ratatui::termion::terminal_size().ok().map(|(width, _)| width) } else { None }
}

/// Actions as keys are pressed. The thread that reads them ends with the process.
pub fn actions() -> Receiver<Action> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for action in stdin().keys().map_while(|key| key.ok()).filter_map(action) {
            if sender.send(action).is_err() {
                return;
            }
        }
    });
    receiver
}

fn action(key: Key) -> Option<Action> {
    Some(match key {
        Key::Char('q') | Key::Esc | Key::Ctrl('c') => Action::Quit,
        Key::Up | Key::Char('k') => Action::Scroll(-1),
        Key::Down | Key::Char('j') => Action::Scroll(1),
        Key::PageUp => Action::Scroll(-10),
        Key::PageDown => Action::Scroll(10),
        Key::Home => Action::Top,
        Key::Char('p') => Action::Partitions,
        _ => return None,
    })
}
