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
use crate::state::Backend;
use crate::state::array::{Array, Record};
use crate::state::parts::{SavedPart, Snapshot};
use crate::state::row_store::{RowRef, RowStore};

/// Accumulators that took so many batches go cold: some hold on to their input until then.
const MAX_BATCHES: usize = 1024;
/// So do those of so many groups, where memory must stay bounded.
const MAX_HOT: usize = 64 * 1024;
const NOWHERE: u32 = u32::MAX;
const NO_ROW: RowRef = RowRef { segment: NOWHERE, row: NOWHERE };
const EMPTY: Place = Place { hot: NOWHERE, cold: NO_ROW };

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Number among the hot groups, or [`NOWHERE`].
    hot: u32,
    /// Row of the state, or [`NO_ROW`].
    cold: RowRef,
}

impl Record for Place {
    type Words = [u32; 3];

    fn words(&self) -> Self::Words {
        [self.hot, self.cold.segment, self.cold.row]
    }

    fn of([hot, segment, row]: Self::Words) -> Self {
        Self { hot, cold: RowRef { segment, row } }
    }
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
    places: Array<Place>,
    store: RowStore,
    /// Whether hot groups must stay few.
    is_bounded: bool,
}

/// The groups that [`Groups::cool`] wrote back, with their states.
pub(super) struct Cooled {
    /// Group of each row.
    pub(super) groups: Vec<u32>,
    states: RecordBatch,
}

impl Groups {
    pub(super) fn new(layout: Arc<Layout>, backend: &Backend) -> Result<Self> {
        Ok(Self {
            accumulators: layout.accumulators()?,
            hot: Vec::new(),
            fed: 0,
            absorbed: Vec::new(),
            batches: 0,
            places: Array::new(backend),
            store: RowStore::new(layout.state().clone(), backend)?,
            is_bounded: backend.is_disk(),
            layout,
        })
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
                self.places.grow(group as usize + 1, EMPTY)?;
            }
            let mut place = self.places.get(group)?;
            if place.hot == NOWHERE {
                place.hot = self.hot.len() as u32;
                self.hot.push(group);
                self.places.set(group, place)?;
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
            if group as usize >= self.places.len() {
                continue;
            }
            let place = self.places.get(group)?;
            if place.cold != NO_ROW {
                cold.push(place.cold);
                self.places.set(group, Place { hot: self.hot.len() as u32, cold: NO_ROW })?;
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
            let target = self.places.get(*into)?.hot;
            if *from as usize >= self.places.len() {
                continue;
            }
            let place = self.places.update(*from, |place| std::mem::replace(place, EMPTY))?;
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

    /// Whether so much is held that the groups should go cold.
    pub(super) fn is_overheated(&self) -> bool {
        self.batches >= MAX_BATCHES || self.is_bounded && self.hot.len() >= MAX_HOT
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
        for (row, group) in (0..).zip(&groups) {
            self.places.set(*group, Place { hot: NOWHERE, cold: RowRef { segment, row } })?;
        }
        let places = &mut self.places;
        self.store.compact(&mut |group, _, cold| places.update(group, |place| place.cold = cold))?;
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
            self.places.update(*group, |place| place.hot = NOWHERE)?;
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
        self.store.gather(&groups.iter().map(|g| Ok(self.places.get(*g)?.cold)).collect::<Result<Vec<_>>>()?)
    }

    fn evaluate(&self, states: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let indices: Vec<usize> = (0..states.num_rows()).collect();
        let mut fresh = self.layout.accumulators()?;
        fresh.merge(&self.layout, states, &indices, indices.len())?;
        fresh.take_values()
    }

    /// The values of the groups `0..count`, in order; nothing may be done with them after that.
    pub(super) fn finish(&mut self, count: u32) -> Result<Vec<ArrayRef>> {
        let mut indices = Vec::with_capacity(count as usize);
        self.touch(0..count, &mut indices)?;
        self.unite()?;
        let values = self.accumulators.take_values()?;
        let in_order = self.hot.iter().zip(0..).all(|(group, i)| *group == i);
        let order = (0..count).map(|group| Ok(self.places.get(group)?.hot)).collect::<Result<Vec<_>>>()?;
        let order = UInt32Array::from(order);
        self.hot.clear();
        self.fed = 0;
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
        let Self { store, places, .. } = self;
        store.for_each_live(&mut |refs, groups| {
            places.grow(groups.iter().max().map_or(0, |most| *most as usize + 1), EMPTY)?;
            refs.iter().zip(groups).try_for_each(|(cold, group)| places.set(*group, Place { hot: NOWHERE, cold: *cold }))
        })
    }

    /// Empties a cold group.
    pub(super) fn free(&mut self, group: u32) -> Result<()> {
        let place = self.places.update(group, |place| std::mem::replace(place, EMPTY))?;
        if place.cold != NO_ROW {
            self.store.free(place.cold);
        }
        Ok(())
    }

    /// What is held, but for the count of groups.
    pub(super) fn size(&self) -> StateSize {
        let all = self.store.size() + self.places.size();
        StateSize { rows: 0, bytes: all.bytes + self.accumulators.bytes() as u64, ..all }
    }
}
