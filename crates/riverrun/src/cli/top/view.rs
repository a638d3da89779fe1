//! What `riverrun top` shows: the newest answer of the process, how the line to it is, and where the reader looks.

use std::collections::VecDeque;

use riverrun_engine::progress::Progress;
use riverrun_engine::time::Micros;

/// Seconds of throughput that are kept for the curve.
const HISTORY: usize = 600;

/// How the line to the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It answers.
    Connected,
    /// It does not, since that moment.
    Disconnected(Micros),
}

/// What is shown.
pub struct View {
    /// Where the process answers.
    pub address: String,
    /// Its last answer.
    pub progress: Progress,
    /// How the line to it is.
    pub link: Link,
    /// Rows read per second, a value per answer, newest last.
    pub history: VecDeque<u64>,
    /// Lines of the body above the first one shown.
    pub scroll: usize,
    /// Whether each partition has a line.
    pub partitions: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// So many lines down; up where negative.
    Scroll(isize),
    /// To the first line.
    Top,
    /// Show or hide partitions.
    Partitions,
    /// Leave.
    Quit,
}

impl View {
    /// Of a first answer.
    pub fn new(address: String, progress: Progress) -> Self {
        let mut view = Self { address, progress, link: Link::Connected, history: VecDeque::new(), scroll: 0, partitions: false };
        view.remember();
        view
    }

    /// The process answered.
    pub fn answered(&mut self, address: String, progress: Progress) {
        if progress.identity.run_id != self.progress.identity.run_id {
            self.history.clear();
        }
        (self.address, self.progress, self.link) = (address, progress, Link::Connected);
        self.remember();
    }

    /// It did not. What it said last stays.
    pub fn lost(&mut self, now: Micros) {
        if self.link == Link::Connected {
            self.link = Link::Disconnected(now);
        }
    }

    /// Does what a key asks for, but leaving.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Scroll(lines) => self.scroll = self.scroll.saturating_add_signed(lines),
            Action::Top => self.scroll = 0,
            Action::Partitions => self.partitions = !self.partitions,
            Action::Quit => {}
        }
    }

    fn remember(&mut self) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.progress.input_rows_per_second.round() as u64);
    }
}
