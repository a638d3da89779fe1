//! `riverrun top`: what the running pipeline does, live in a terminal. Asks the process over its HTTP endpoint, shows its
//! [`Progress`](riverrun_engine::progress::Progress) of the last two seconds, and changes nothing.

mod body;
mod frame;
mod poll;
mod terminal;
#[cfg(test)]
mod tests;
pub mod units;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use riverrun_engine::Result;
use riverrun_engine::time::{Clock, SystemClock};

use self::view::{Action, View};
use super::{runtime, stop_flag};
use crate::Variables;

/// How often the process is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a key may wait for its effect.
const TICK: Duration = Duration::from_millis(50);
/// Columns of a frame that goes to no terminal.
const WIDTH: u16 = 100;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun top                        the pipeline on ./riverrun-data (or ${DATA_DIR}); q leaves
  riverrun top --data /tmp/demo       the pipeline on another data directory
  riverrun top --once                 one frame as text, for scripts
  riverrun top --once --partitions    with a line per partition")]
pub struct Top {
    /// The data directory of the running pipeline; default: ${DATA_DIR}, else ./riverrun-data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print one frame as plain text and leave.
    #[arg(long)]
    once: bool,
    /// Show a line per partition from the start (key p).
    #[arg(long)]
    partitions: bool,
}

impl Top {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let data = self.data.clone().unwrap_or_else(|| Variables::default().data_dir());
        let (address, progress) = poll::ask(&data, &runtime()?)?;
        let mut view = View::new(address, progress);
        view.partitions = self.partitions;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        if self.once {
            print!("{}", text(&mut view, terminal::width().unwrap_or(WIDTH), clock.as_ref()));
            return Ok(());
        }
        watch(view, data, &clock)
    }
}

/// Draws until a key or a signal says to leave.
fn watch(mut view: View, data: PathBuf, clock: &Arc<dyn Clock>) -> Result<()> {
    let flag = stop_flag()?;
    let mut screen = terminal::open()?;
    let keys = terminal::actions();
    let answers = poll::answers(data, INTERVAL, clock.clone())?;
    while !flag.load(Relaxed) {
        for answer in answers.try_iter() {
            match answer {
                Ok((address, progress)) => view.answered(address, progress),
                Err(_) => view.lost(clock.now()),
            }
        }
        screen.draw(|frame| frame::draw(frame, &mut view, clock.now())).map_err(terminal::failed)?;
        match keys.recv_timeout(TICK) {
            Ok(Action::Quit) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(action) => view.act(action),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok(())
}

/// A frame with everything on it, as text: without the curve, which one answer does not make, and the keys.
fn text(view: &mut View, width: u16, clock: &dyn Clock) -> String {
    let height = frame::full_height(view, width);
    let mut lines = frame_lines(view, (width, height), clock);
    lines.pop();
    lines.drain(frame::CURVE);
    lines.join("\n") + "\n"
}

/// The lines of a frame of that many columns and rows, without spaces at their ends.
fn frame_lines(view: &mut View, (width, height): (u16, u16), clock: &dyn Clock) -> Vec<String> {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| frame::draw(frame, view, clock.now()));
    let buffer = terminal.backend().buffer();
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|c| c.symbol()).collect::<String>().trim_end().to_owned();
    buffer.content().chunks(usize::from(width.max(1))).map(line).collect()
}
