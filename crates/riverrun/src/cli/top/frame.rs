//! One frame of `riverrun top`: a head that answers "is it keeping up, how late is it", the tables, the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use riverrun_engine::progress::Progress;
use riverrun_engine::time::Micros;

use super::body::{self, behind, end};
use super::units::{number, span};
use super::view::{Link, View};
use crate::cli::summary::clock_time;

/// Lines of the head: title, rates, time, phases, and the curve of two lines.
const HEAD: u16 = 6;
/// Those of the curve.
pub const CURVE: std::ops::Range<usize> = 4..6;

/// Draws a view; `now` is this machine's time, for how long the process has not answered.
pub fn draw(frame: &mut Frame, view: &mut View, now: Micros) {
    let [head, tables, keys] =
        Layout::vertical([Constraint::Length(HEAD), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    draw_head(frame, head, view, now);
    let lines = body::lines(&view.progress, view.partitions, usize::from(tables.width));
    let hidden = lines.len().saturating_sub(usize::from(tables.height));
    view.scroll = view.scroll.min(hidden);
    let more = hidden - view.scroll;
    let style = if view.link == Link::Connected { Style::new() } else { Style::new().add_modifier(Modifier::DIM) };
    frame.render_widget(Paragraph::new(lines).scroll((view.scroll as u16, 0)).style(style), tables);
    frame.render_widget(Paragraph::new(keys_line(more)), keys);
}

/// How many lines a frame takes that shows everything.
pub fn full_height(view: &View, width: u16) -> u16 {
    let lines = body::lines(&view.progress, view.partitions, usize::from(width)).len();
    u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(HEAD + 1)
}

fn keys_line(more: usize) -> Line<'static> {
    let hidden = if more > 0 { format!("   {more} more lines below") } else { String::new() };
    Line::styled(format!("q quit   arrows scroll   p partitions{hidden}"), Style::new().add_modifier(Modifier::DIM))
}

fn draw_head(frame: &mut Frame, area: Rect, view: &View, now: Micros) {
    let [title, rates, time, phases, curve] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(2),
    ])
    .areas(area);
    let progress = &view.progress;
    let (link, style) = link_text(view, now);
    let [left, right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(link.chars().count() as u16)]).areas(title);
    let name = Span::styled(format!("riverrun top  {}  ", progress.identity.name), Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Line::from(vec![name, Span::raw(view.address.clone())]), left);
    frame.render_widget(Line::styled(link, style), right);
    frame.render_widget(Line::raw(rates_text(view)), rates);
    frame.render_widget(Line::raw(time_text(progress)), time);
    frame.render_widget(Line::raw(phases_text(progress)), phases);
    draw_curve(frame, curve, view);
}

/// On the right of the title: the moment that the numbers are of, or for how long there are no new ones.
fn link_text(view: &View, now: Micros) -> (String, Style) {
    match view.link {
        Link::Connected => (format!("{} UTC", clock_time(end(&view.progress))), Style::new()),
        Link::Disconnected(since) => {
            let waited = span(std::time::Duration::from_micros((now - since).max(0) as u64));
            let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
            (format!(" DISCONNECTED {waited}, trying again"), red)
        }
    }
}

fn rates_text(view: &View) -> String {
    let progress = &view.progress;
    let lag: u64 = progress.sources.iter().map(|s| s.lag).sum();
    let read = if progress.num_input_rows == 0 {
        "idle: nothing comes".to_owned()
    } else {
        let rate = |rate: f64| number(rate.round() as u64, 12);
        format!(
            "read {} rows/s, could do {} rows/s",
            rate(progress.input_rows_per_second),
            rate(progress.processed_rows_per_second)
        )
    };
    let at = match view.link {
        Link::Connected => String::new(),
        Link::Disconnected(_) => format!("at {} UTC: ", clock_time(end(progress))),
    };
    format!("{at}{read}   lag {} rows   epoch {}", number(lag, 12), number(progress.batch_id, 12))
}

fn time_text(progress: &Progress) -> String {
    let time = &progress.event_time;
    let mut text = match time.watermark {
        Some(w) => format!("watermark {}, {} behind", clock_time(w.0), behind(w, end(progress))),
        None => "no watermark yet".to_owned(),
    };
    if let (Some(min), Some(max)) = (time.min, time.max) {
        text.push_str(&format!("   event time {} to {}", clock_time(min.0), clock_time(max.0)));
    }
    text
}

/// Shares of one thread's time: 200 % are two threads.
fn phases_text(progress: &Progress) -> String {
    let length = progress.batch_duration.max(1) as f64;
    let d = &progress.duration_ms;
    let share = |ms: u64| format!("{:.0}%", 100.0 * ms as f64 / length);
    format!(
        "threads: read {}  operate {}  hand over {}  blocked {}  sinks {}  save {}",
        share(d.get_batch),
        share(d.add_batch),
        share(d.hand_over),
        share(d.backpressure),
        share(d.write_sinks),
        share(d.state_snapshot + d.write_checkpoint + d.commit_offsets),
    )
}

fn draw_curve(frame: &mut Frame, area: Rect, view: &View) {
    let most = view.history.iter().max().copied().unwrap_or_default();
    let label = format!("rows/s, up to {} ", number(most, 12));
    let width = label.chars().count() as u16;
    let [left, right] = Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(label), left);
    let room = usize::from(right.width);
    let newest: Vec<u64> = view.history.iter().skip(view.history.len().saturating_sub(room)).copied().collect();
    frame.render_widget(Sparkline::default().data(newest).max(most.max(1)), right);
}
