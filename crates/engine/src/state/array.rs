//! A list of small values by number, in memory or on disk.

use std::cell::RefCell;

use super::disk::{Backend, PAGE, Pages};
use crate::operator::StateSize;
use crate::{Error, Result};

/// A value that is a few words.
pub trait Record: Copy {
    /// An array of words.
    type Words: AsRef<[u32]> + AsMut<[u32]> + Default;

    /// The value as words.
    fn words(&self) -> Self::Words;

    /// The value of such words.
    fn of(words: Self::Words) -> Self;
}

/// The halves of a number, least first.
pub fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// The number of such halves.
pub fn whole(least: u32, most: u32) -> u64 {
    u64::from(least) | u64::from(most) << 32
}

/// See the module. Numbers that it does not have are a fault of the caller, and a panic.
#[derive(Debug)]
pub struct Array<T>(Kept<T>);

#[derive(Debug)]
enum Kept<T> {
    Memory(Vec<T>),
    /// Pages, and how many values there are.
    Disk(RefCell<Pages>, usize),
}

impl<T: Record> Array<T> {
    /// No values yet.
    pub fn new(backend: &Backend) -> Self {
        Self(match backend {
            Backend::Memory => Kept::Memory(Vec::new()),
            Backend::Disk(space) => Kept::Disk(RefCell::new(Pages::new(space.clone())), 0),
        })
    }

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Memory(values) => values.len(),
            Kept::Disk(_, len) => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value number `i`.
    ///
    /// # Errors
    /// The disk is broken; so with all that follows, or full.
    #[inline]
    pub fn get(&self, i: u32) -> Result<T> {
        match &self.0 {
            Kept::Memory(values) => Ok(values[i as usize]),
            Kept::Disk(pages, len) => {
                check(i, *len)?;
                read(&mut pages.borrow_mut(), i)
            }
        }
    }

    /// Puts a value in place of number `i`.
    #[inline]
    pub fn set(&mut self, i: u32, value: T) -> Result<()> {
        match &mut self.0 {
            Kept::Memory(values) => values[i as usize] = value,
            Kept::Disk(pages, len) => {
                check(i, *len)?;
                write(pages.get_mut(), i, value)?;
            }
        }
        Ok(())
    }

    /// Changes value number `i`.
    #[inline]
    pub fn update<R>(&mut self, i: u32, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        match &mut self.0 {
            Kept::Memory(values) => Ok(change(&mut values[i as usize])),
            Kept::Disk(pages, len) => {
                check(i, *len)?;
                let mut value = read(pages.get_mut(), i)?;
                let result = change(&mut value);
                write(pages.get_mut(), i, value)?;
                Ok(result)
            }
        }
    }

    /// Adds a value.
    pub fn push(&mut self, value: T) -> Result<()> {
        match &mut self.0 {
            Kept::Memory(values) => values.push(value),
            Kept::Disk(..) => self.grow(self.len() + 1, value)?,
        }
        Ok(())
    }

    /// Adds copies of `fill` until there are `count` values.
    pub fn grow(&mut self, count: usize, fill: T) -> Result<()> {
        match &mut self.0 {
            Kept::Memory(values) if values.len() < count => values.resize(count, fill),
            Kept::Disk(pages, len) if *len < count => {
                let pages = pages.get_mut();
                pages.grow(count.div_ceil(per_page::<T>()));
                for i in std::mem::replace(len, count)..count {
                    write(pages, i as u32, fill)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kept::Memory(values) => values.capacity() * size_of::<T>(),
            Kept::Disk(pages, _) => pages.borrow().bytes(),
        }
    }

    /// Bytes on disk, about.
    pub fn disk_bytes(&self) -> u64 {
        match &self.0 {
            Kept::Memory(_) => 0,
            Kept::Disk(pages, _) => pages.borrow().disk_bytes(),
        }
    }

    /// Bytes of both.
    pub fn size(&self) -> StateSize {
        StateSize { rows: 0, bytes: self.bytes() as u64, disk: self.disk_bytes() }
    }
}

fn check(i: u32, len: usize) -> Result<()> {
    if (i as usize) < len { Ok(()) } else { Err(Error::permanent(format!("state has {len} values, and no number {i}"))) }
}

fn bytes_of<T: Record>() -> usize {
    size_of::<T::Words>()
}

fn per_page<T: Record>() -> usize {
    PAGE / bytes_of::<T>()
}

/// Where a value is: the page, and the place in it.
fn place<T: Record>(i: u32) -> (usize, usize) {
    (i as usize / per_page::<T>(), i as usize % per_page::<T>() * bytes_of::<T>())
}

fn read<T: Record>(pages: &mut Pages, i: u32) -> Result<T> {
    let (page, at) = place::<T>(i);
    let bytes = &pages.get(page)?[at..];
    let mut words = T::Words::default();
    for (word, bytes) in words.as_mut().iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok(T::of(words))
}

fn write<T: Record>(pages: &mut Pages, i: u32, value: T) -> Result<()> {
    let (page, at) = place::<T>(i);
    let bytes = &mut pages.get_mut(page)?[at..];
    for (word, bytes) in value.words().as_ref().iter().zip(bytes.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::disk::Disk;
    use super::*;

    impl Record for (u32, u64) {
        type Words = [u32; 3];

        fn words(&self) -> Self::Words {
            let [least, most] = halves(self.1);
            [self.0, least, most]
        }

        fn of([first, least, most]: Self::Words) -> Self {
            (first, whole(least, most))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Ten times as many pages as may be in memory.
        #[test]
        fn an_array_on_disk_equals_a_list(seed in any::<u64>(), rounds in 1usize..20) {
            let folder = tempfile::tempdir().unwrap();
            let space = Disk::open(folder.path(), 0).unwrap().space().unwrap();
            let mut array = Array::new(&Backend::Disk(space.clone()));
            let mut list = Vec::new();
            let mut state = seed;
            let mut random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below
            };
            for round in 0..rounds {
                let count = list.len() + random(4000);
                array.grow(count, (round as u32, u64::MAX)).unwrap();
                list.resize(count, (round as u32, u64::MAX));
                for _ in 0..2000 {
                    let (i, value) = (random(list.len() + 1), (random(1000) as u32, random(1 << 30) as u64 * 9));
                    if i == list.len() {
                        array.push(value).unwrap();
                        list.push(value);
                    } else {
                        prop_assert_eq!(array.get(i as u32).unwrap(), list[i]);
                        array.set(i as u32, value).unwrap();
                        list[i] = value;
                        let i = random(list.len());
                        array.update(i as u32, |value| value.1 += 1).unwrap();
                        list[i].1 += 1;
                    }
                }
            }
            let read: Vec<_> = (0..array.len()).map(|i| array.get(i as u32).unwrap()).collect();
            prop_assert_eq!(&read, &list);
            prop_assert!(array.bytes() < 128 << 10, "{} bytes in memory", array.bytes());
            prop_assert!(space.bytes() < 3 * 12 * list.len() as u64 + (2 << 20), "{} bytes on disk", space.bytes());
            prop_assert!(array.get(list.len() as u32).is_err());
        }
    }
}
