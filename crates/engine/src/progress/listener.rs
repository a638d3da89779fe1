//! Who wants to know how a pipeline fares: the trait, and how events reach listeners.
//!
//! Invariant: a listener can neither stop nor slow the pipeline. Each has a thread and a queue of its own. At the queue's
//! bound progress is dropped (and told once); one that panics is told and not called again; at the end it has
//! [`LAST_WORD`] to take what is left, then it is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Serialize, Serializer};

use super::{Identity, Progress, Timestamp};
use crate::{Error, Result};

/// Events that wait for one listener, at most.
const QUEUE: usize = 64;

/// How long the end of a pipeline waits for its listeners, in all.
pub(super) const LAST_WORD: Duration = Duration::from_secs(5);

/// A pipeline runs.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// Which.
    #[serde(flatten)]
    pub identity: Identity,
    /// When.
    pub timestamp: Timestamp,
}

/// Nothing came for a whole interval. Told instead of progress, every interval that passes so.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// Which.
    #[serde(flatten)]
    pub identity: Identity,
    /// The end of the interval.
    pub timestamp: Timestamp,
}

/// A pipeline ended.
#[derive(Debug, Clone, Serialize)]
pub struct Terminated {
    /// Which.
    #[serde(flatten)]
    pub identity: Identity,
    /// When.
    pub timestamp: Timestamp,
    /// What stopped it; `None`: its input ended, or it was asked to stop.
    #[serde(serialize_with = "message")]
    pub error: Option<Error>,
}

fn message<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}

/// Is told how a pipeline fares: what `StreamingQueryListener` is in Spark. `started` comes first, `terminated` last, both
/// once; between them `progress` or `idle` every `progress.interval`, and `progress` once more at the end if anything
/// came since.
///
/// Calls come one after the other on a thread of the listener's own: they may block, at the price of missing progress.
pub trait Listener: Send + Sync {
    /// The pipeline runs.
    fn started(&self, event: &Started) {
        let _ = event;
    }

    /// What it did since the last report.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }

    /// Nothing came for an interval.
    fn idle(&self, event: &Idle) {
        let _ = event;
    }

    /// It ended. Told by [`Pipeline::wait`](crate::runtime::Pipeline::wait), which returns afterwards.
    fn terminated(&self, event: &Terminated) {
        let _ = event;
    }
}

/// The listeners of a pipeline, as settings carry them.
#[derive(Clone, Default)]
pub struct Listeners(pub Vec<Arc<dyn Listener>>);

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

/// What a listener can be told.
pub(super) enum Event {
    Started(Started),
    Progress(Arc<Progress>),
    Idle(Idle),
    Terminated(Terminated),
}

impl Event {
    fn tell(&self, listener: &dyn Listener) {
        match self {
            Self::Started(event) => listener.started(event),
            Self::Progress(progress) => listener.progress(progress),
            Self::Idle(event) => listener.idle(event),
            Self::Terminated(event) => listener.terminated(event),
        }
    }
}

/// The way to one listener.
struct Line {
    events: Sender<Arc<Event>>,
    /// Closes when the listener's thread ends.
    over: Receiver<()>,
    /// Whether the newest event was dropped: a stall is told once.
    dropping: bool,
}

/// The ways to all listeners.
#[derive(Default)]
pub(super) struct Dispatch(Vec<Line>);

impl Dispatch {
    /// Starts their threads.
    pub fn new(listeners: Listeners) -> Result<Self> {
        listeners.0.into_iter().enumerate().map(|(i, listener)| Line::open(i, listener)).collect::<Result<_>>().map(Self)
    }

    /// Tells all, and waits for none.
    pub fn tell(&mut self, event: Event) {
        let event = Arc::new(event);
        self.0.retain_mut(|line| line.tell(&event));
    }

    /// Tells all the last event, and waits until they took it or their time is over.
    pub fn end(self, event: Event, within: Duration) {
        let (event, deadline) = (Arc::new(event), crossbeam_channel::after(within));
        let mut waiting = Vec::new();
        for line in self.0 {
            crossbeam_channel::select! {
                // An error: it panicked before, which was told.
                send(line.events, event.clone()) -> _ => waiting.push(line.over),
                recv(deadline) -> _ => return left_behind(),
            }
        }
        for over in waiting {
            crossbeam_channel::select! {
                recv(over) -> _ => {}
                recv(deadline) -> _ => return left_behind(),
            }
        }
    }
}

fn left_behind() {
    tracing::warn!("a progress listener is still busy after the pipeline's end: left behind");
}

impl Line {
    fn open(number: usize, listener: Arc<dyn Listener>) -> Result<Self> {
        let (events, inbox) = bounded::<Arc<Event>>(QUEUE);
        let (alive, over) = bounded::<()>(0);
        let body = move || {
            let _alive = alive;
            for event in inbox {
                if catch_unwind(AssertUnwindSafe(|| event.tell(listener.as_ref()))).is_err() {
                    tracing::error!("a progress listener panicked: it is not called again; the pipeline goes on");
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("listener-{number}"))
            .spawn(body)
            .map_err(|e| Error::permanent(format!("no thread could be started: {e}")))?;
        Ok(Self { events, over, dropping: false })
    }

    /// Whether it is still there.
    fn tell(&mut self, event: &Arc<Event>) -> bool {
        match self.events.try_send(event.clone()) {
            Ok(()) => self.dropping = false,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(_)) => {
                if !std::mem::replace(&mut self.dropping, true) {
                    tracing::warn!("a progress listener is {QUEUE} events behind: it misses progress until it catches up");
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn idle() -> Event {
        Event::Idle(Idle { identity: Identity::new("p", None, 0), timestamp: Timestamp(0) })
    }

    fn terminated() -> Event {
        Event::Terminated(Terminated { identity: Identity::new("p", None, 0), timestamp: Timestamp(0), error: None })
    }

    #[derive(Default)]
    struct Counts(AtomicUsize, AtomicUsize);

    impl Listener for Counts {
        fn idle(&self, _: &Idle) {
            self.0.fetch_add(1, SeqCst);
        }

        fn terminated(&self, _: &Terminated) {
            self.1.fetch_add(1, SeqCst);
        }
    }

    struct Panics(Arc<AtomicUsize>);

    impl Listener for Panics {
        fn idle(&self, _: &Idle) {
            self.0.fetch_add(1, SeqCst);
            panic!("a fault of the listener");
        }

        fn terminated(&self, _: &Terminated) {
            self.0.fetch_add(100, SeqCst);
        }
    }

    #[test]
    fn a_listener_that_panics_harms_nobody_and_is_not_called_again() {
        let (calls, counts) = (Arc::new(AtomicUsize::default()), Arc::new(Counts::default()));
        let mut dispatch = Dispatch::new(Listeners(vec![Arc::new(Panics(calls.clone())), counts.clone()])).unwrap();
        dispatch.tell(idle());
        dispatch.tell(idle());
        dispatch.end(terminated(), LAST_WORD);
        assert_eq!(calls.load(SeqCst), 1);
        assert_eq!((counts.0.load(SeqCst), counts.1.load(SeqCst)), (2, 1));
    }

    /// Waits in every call until the other end is gone.
    struct Blocks(Mutex<std::sync::mpsc::Receiver<()>>, Counts);

    impl Listener for Blocks {
        fn idle(&self, event: &Idle) {
            let _ = self.0.lock().unwrap().recv();
            self.1.idle(event);
        }

        fn terminated(&self, event: &Terminated) {
            self.1.terminated(event);
        }
    }

    fn blocked() -> (std::sync::mpsc::Sender<()>, Arc<Blocks>, Dispatch) {
        let (release, wait) = std::sync::mpsc::channel();
        let listener = Arc::new(Blocks(Mutex::new(wait), Counts::default()));
        let mut dispatch = Dispatch::new(Listeners(vec![listener.clone()])).unwrap();
        for _ in 0..10 * QUEUE {
            dispatch.tell(idle());
        }
        (release, listener, dispatch)
    }

    #[test]
    fn a_listener_that_blocks_misses_progress_but_not_the_end() {
        let (release, listener, dispatch) = blocked();
        drop(release);
        dispatch.end(terminated(), Duration::from_secs(60));
        let told = listener.1.0.load(SeqCst);
        assert!((QUEUE..10 * QUEUE).contains(&told), "{told} events were kept");
        assert_eq!(listener.1.1.load(SeqCst), 1);
    }

    #[test]
    fn a_listener_that_blocks_for_ever_is_left_behind() {
        let (_release, listener, dispatch) = blocked();
        dispatch.end(terminated(), Duration::from_millis(10));
        assert_eq!(listener.1.1.load(SeqCst), 0);
    }
}
