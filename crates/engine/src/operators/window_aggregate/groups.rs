//! Groups and their aggregates: hot ones in live accumulators, cold ones as rows of intermediate state.
//!
//! Invariants: a group (a small number that the caller chose) is hot, cold, or empty. The first row after a group went cold
//! merges its state row into the live accumulators before anything else, so arrival order is kept; [`Groups::cool`] writes
//! the states of all hot groups back as rows. Work is in proportion to the groups that rows touched since the last time:
//! with 1,000,000 groups kept and 10 changed, 10 are loaded, written and evaluated.
//! What is never cooled (no one takes updates) is DataFusion's plain hash aggregation.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;

use super::accumulators::{Accumulators, Arguments, Layout};
use crate::Result;
use crate::operator::StateSize;
use crate::state::parts::{SavedPart, Snapshot};
use crate::state::row_store::{RowRef, RowStore};

/// Accumulators that took so many batches go cold: some hold on to their input until then.
const MAX_BATCHES: usize = 1024;
const NOWHERE: u32 = u32::MAX;
const NO_ROW: RowRef = RowRef { segment: NOWHERE, row: NOWHERE };

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Number among the hot groups, or [`NOWHERE`].
    hot: u32,
    /// Row of the state, or [`NO_ROW`].
    cold: RowRef,
}

/// The aggregates of many groups.
pub(super) struct Groups {
    layout: Arc<Layout>,
    accumulators: Accumulators,
    /// The group of each hot number.
    hot: Vec<u32>,
    /// How many of `hot` the accumulators have seen a row of: all but what [`Groups::touch`] added last.
    fed: usize,
    /// Hot numbers whose group was absorbed, and into which hot number; in that order.
    absorbed: Vec<(u32, u32)>,
    batches: usize,
    places: Vec<Place>,
    store: RowStore,
}

/// The groups that [`Groups::cool`] wrote back, with their states.
pub(super) struct Cooled {
    /// Group of each row.
    pub(super) groups: Vec<u32>,
    states: RecordBatch,
}

impl Groups {
    pub(super) fn new(layout: Arc<Layout>) -> Result<Self> {
        let store = RowStore::new(layout.state().clone());
        let accumulators = layout.accumulators()?;
        Ok(Self { layout, accumulators, hot: Vec::new(), fed: 0, absorbed: Vec::new(), batches: 0, places: Vec::new(), store })
    }

    /// Makes the groups of some rows hot, and writes the hot number of each row into `indices`. The caller then updates with
    /// these rows.
    pub(super) fn touch(&mut self, groups: impl Iterator<Item = u32> + Clone, indices: &mut Vec<usize>) -> Result<()> {
        if self.store.size().rows > 0 {
            self.warm(groups.clone())?;
        }
        indices.clear();
        for group in groups {
            if group as usize >= self.places.len() {
                self.places.resize(group as usize + 1, Place { hot: NOWHERE, cold: NO_ROW });
            }
            let place = &mut self.places[group as usize];
            if place.hot == NOWHERE {
                place.hot = self.hot.len() as u32;
                self.hot.push(group);
            }
            indices.push(place.hot as usize);
        }
        Ok(())
    }

    /// Makes the cold groups among some hot. They come before the empty ones, which the accumulators must not hear of until
    /// their first row: an accumulator that sees a batch without NULLs takes it that every group it knows has had a value.
    fn warm(&mut self, groups: impl Iterator<Item = u32>) -> Result<()> {
        let (mut cold, mut targets) = (Vec::new(), Vec::new());
        for group in groups {
            let Some(place) = self.places.get_mut(group as usize) else { continue };
            if place.cold != NO_ROW {
                cold.push(std::mem::replace(&mut place.cold, NO_ROW));
                place.hot = self.hot.len() as u32;
                targets.push(self.hot.len());
                self.hot.push(group);
            }
        }
        self.fed = self.hot.len();
        self.load(&cold, &targets)
    }

    /// Merges cold rows into hot groups.
    fn load(&mut self, cold: &[RowRef], targets: &[usize]) -> Result<()> {
        if cold.is_empty() {
            return Ok(());
        }
        let states = self.store.gather(cold)?;
        self.accumulators.merge(&self.layout, &states, targets, self.fed)?;
        cold.iter().for_each(|row| self.store.free(*row));
        Ok(())
    }

    /// Lets a group take up others: `(from, into)`, where `into` is hot, and was not empty before the last
    /// [`Groups::touch`] unless `from` was. The others are empty after that.
    pub(super) fn absorb(&mut self, merged: &[(u32, u32)]) -> Result<()> {
        let (mut cold, mut targets) = (Vec::new(), Vec::new());
        for (from, into) in merged {
            let target = self.places[*into as usize].hot;
            let Some(place) = self.places.get_mut(*from as usize) else { continue };
            let place = std::mem::replace(place, Place { hot: NOWHERE, cold: NO_ROW });
            if place.cold != NO_ROW {
                cold.push(place.cold);
                targets.push(target as usize);
            }
            if place.hot != NOWHERE {
                self.absorbed.push((place.hot, target));
            }
        }
        self.load(&cold, &targets)
    }

    /// Adds rows to hot groups, numbered as [`Groups::touch`] gave.
    pub(super) fn update(&mut self, arguments: &Arguments, indices: &[usize]) -> Result<()> {
        self.batches += 1;
        self.fed = self.hot.len();
        self.accumulators.update(arguments, indices, self.hot.len())
    }

    /// Whether so much input is held that the groups should go cold.
    pub(super) fn is_overheated(&self) -> bool {
        self.batches >= MAX_BATCHES
    }

    /// Whether rows came since the last [`Groups::cool`].
    pub(super) fn is_hot(&self) -> bool {
        !self.hot.is_empty()
    }

    /// Writes the states of the hot groups back as rows.
    pub(super) fn cool(&mut self) -> Result<Cooled> {
        self.unite()?;
        self.batches = 0;
        self.fed = 0;
        let groups = std::mem::take(&mut self.hot);
        let states = self.accumulators.take_states(&self.layout)?;
        let segment = self.store.append(states.clone(), &groups)?;
        for (row, group) in groups.iter().enumerate() {
            self.places[*group as usize] = Place { hot: NOWHERE, cold: RowRef { segment, row: row as u32 } };
        }
        let places = &mut self.places;
        self.store.compact(&mut |group, _, to| places[group as usize].cold = to)?;
        Ok(Cooled { groups, states })
    }

    /// Merges the parts of groups that absorbed hot ones.
    fn unite(&mut self) -> Result<()> {
        if self.absorbed.is_empty() {
            return Ok(());
        }
        let states = self.accumulators.take_states(&self.layout)?;
        let mut parts = std::mem::take(&mut self.hot);
        self.fed = 0;
        // Backwards: what a group was absorbed into may have been absorbed later itself, and then is right already.
        for (from, into) in std::mem::take(&mut self.absorbed).into_iter().rev() {
            parts[from as usize] = parts[into as usize];
        }
        for group in &parts {
            self.places[*group as usize].hot = NOWHERE;
        }
        let mut indices = Vec::with_capacity(parts.len());
        self.touch(parts.into_iter(), &mut indices)?;
        self.fed = self.hot.len();
        self.accumulators.merge(&self.layout, &states, &indices, self.fed)
    }

    /// The values of groups that went cold.
    pub(super) fn values_of(&self, cooled: &Cooled) -> Result<Vec<ArrayRef>> {
        self.evaluate(&cooled.states)
    }

    /// The values of cold groups, without touching them.
    pub(super) fn cold_values(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.evaluate(&self.cold_states(groups)?)
    }

    /// The states of cold groups.
    fn cold_states(&self, groups: &[u32]) -> Result<RecordBatch> {
        self.store.gather(&groups.iter().map(|g| self.places[*g as usize].cold).collect::<Vec<_>>())
    }

    fn evaluate(&self, states: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let indices: Vec<usize> = (0..states.num_rows()).collect();
        let mut fresh = self.layout.accumulators()?;
        fresh.merge(&self.layout, states, &indices, indices.len())?;
        fresh.take_values()
    }

    /// The values of the groups `0..count`, in order; nothing is left after that.
    pub(super) fn finish(&mut self, count: u32) -> Result<Vec<ArrayRef>> {
        let mut indices = Vec::with_capacity(count as usize);
        self.touch(0..count, &mut indices)?;
        self.unite()?;
        let values = self.accumulators.take_values()?;
        let in_order = self.hot.iter().zip(0..).all(|(group, i)| *group == i);
        let order = UInt32Array::from_iter_values((0..count).map(|group| self.places[group as usize].hot));
        self.hot.clear();
        self.fed = 0;
        self.places.clear();
        if in_order { Ok(values) } else { Ok(values.iter().map(|v| take(v, &order, None)).collect::<Result<_, _>>()?) }
    }

    /// Adds the states of all groups to a snapshot. Those that are hot go cold.
    pub(super) fn save(&mut self, snapshot: &mut Snapshot<'_>) -> Result<()> {
        if self.is_hot() {
            self.cool()?;
        }
        self.store.save(snapshot)
    }

    /// Takes up what [`save`](Groups::save) gave, as cold groups.
    pub(super) fn restore(&mut self, saved: Vec<SavedPart>) -> Result<()> {
        self.store.restore(saved)?;
        let (refs, groups) = self.store.live();
        let count = groups.iter().max().map_or(0, |most| *most as usize + 1);
        self.places.resize(count, Place { hot: NOWHERE, cold: NO_ROW });
        for (cold, group) in refs.into_iter().zip(groups) {
            self.places[group as usize].cold = cold;
        }
        Ok(())
    }

    /// Empties a cold group.
    pub(super) fn free(&mut self, group: u32) {
        let place = std::mem::replace(&mut self.places[group as usize], Place { hot: NOWHERE, cold: NO_ROW });
        if place.cold != NO_ROW {
            self.store.free(place.cold);
        }
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let StateSize { bytes, .. } = self.store.size();
        bytes + (self.accumulators.bytes() + self.places.capacity() * size_of::<Place>()) as u64
    }
}
