//! Places where a test can kill the process, as a crash would: `RIVERRUN_FAILPOINT=name:n` kills it with SIGKILL when it gets
//! to the place `name` for the n-th time. They are in the released program, since that is what must survive; one that is not
//! asked for costs a load. The names are those of the calls: `grep -rn failpoint::reach`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

struct Armed {
    name: String,
    left: AtomicU64,
}

/// The process is at `name`.
pub fn reach(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var("RIVERRUN_FAILPOINT").ok().and_then(|text| parse(&text)));
    if let Some(armed) = armed
        && armed.name == name
        && armed.left.fetch_sub(1, Relaxed) == 1
    {
        // SIGKILL cannot be handled: nothing is flushed, nothing is closed.
        if let Err(error) = signal_hook::low_level::raise(signal_hook::consts::SIGKILL) {
            tracing::error!("failpoint {name}: the process cannot be killed: {error}");
        }
    }
}

fn parse(text: &str) -> Option<Armed> {
    let (name, count) = text.rsplit_once(':')?;
    let left = AtomicU64::new(count.parse().ok().filter(|n| *n > 0)?);
    Some(Armed { name: name.to_owned(), left })
}
