//! Which tasks this instance has, and since when: by terms.
//!
//! A term of a task begins when the instance takes it and ends when it gives it up or loses it. Whatever a task makes carries
//! the number of its term, so that what is left of an earlier term is known wherever it turns up, and dropped. A term that
//! has ended never comes back.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

/// The current term of each task.
pub struct Terms(Vec<AtomicU64>);

impl Terms {
    /// Of so many tasks, none of which is held.
    pub fn new(tasks: usize) -> Self {
        Self((0..tasks).map(|_| AtomicU64::default()).collect())
    }

    /// Begins a term of a task; gives its number, which is odd.
    pub fn begin(&self, task: u32) -> u64 {
        let term = (self.0[task as usize].load(Acquire) + 1) | 1;
        self.0[task as usize].store(term, Release);
        term
    }

    /// Ends the term of a task, if there is one.
    pub fn end(&self, task: u32) {
        let term = self.0[task as usize].load(Acquire);
        self.0[task as usize].store((term + 1) & !1, Release);
    }

    /// The number of a task's term now.
    pub fn of(&self, task: u32) -> u64 {
        self.0[task as usize].load(Acquire)
    }

    /// Whether a task is still in this term.
    pub fn holds(&self, task: u32, term: u64) -> bool {
        self.of(task) == term
    }

    /// How many tasks are held.
    pub fn held(&self) -> usize {
        self.0.iter().filter(|term| term.load(Acquire) % 2 == 1).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_never_comes_back() {
        let terms = Terms::new(2);
        assert_eq!((terms.of(1), terms.held()), (0, 0));
        let first = terms.begin(1);
        assert!(terms.holds(1, first) && terms.held() == 1);
        terms.end(1);
        terms.end(1);
        assert!(!terms.holds(1, first) && terms.held() == 0);
        let second = terms.begin(1);
        let third = terms.begin(1);
        assert!(first < second && second < third && terms.holds(1, third) && !terms.holds(1, second));
        assert_eq!(terms.of(0), 0);
    }
}
