//! A user: where home is, where the user is now, and what the user usually buys.
//!
//! Invariant: the honest path of a user is never faster than [`FLIGHT_KMH`]. The distance between any two of its points
//! (not only neighbours) is at most that speed times the time between them, so that no order of arrival makes an honest
//! pair look impossible. Only sums, products and square roots are used: the same bytes on every machine.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use riverrun_engine::time::Micros;

/// Ten-thousandths of a degree in a degree.
pub(super) const DEGREE: i32 = 10_000;
const SOUTH: i32 = 25 * DEGREE;
const NORTH: i32 = 48 * DEGREE;
const WEST: i32 = -125 * DEGREE;
const EAST: i32 = -70 * DEGREE;

const ROAD_KMH: f64 = 60.0;
const FLIGHT_KMH: f64 = 600.0;
const HOUR: f64 = 3.6e9;
/// Length of a ten-thousandth of a degree along a meridian of a sphere of 6371 km.
const KM_PER_UNIT: f64 = 6371.0 * std::f64::consts::PI / 180.0 / 10_000.0;
/// At least the cosine of every latitude in the area: cos 25° = 0.90631.
const WIDEST: f64 = 0.9064;

/// A place in ten-thousandths of a degree: what four decimals can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Latitude, 25 to 48 degrees north.
    pub lat: i32,
    /// Longitude, 125 to 70 degrees west, negative.
    pub lon: i32,
}

impl Place {
    /// Anywhere in the area.
    pub(super) fn anywhere(rng: &mut ChaCha8Rng) -> Self {
        Self { lat: rng.random_range(SOUTH..=NORTH), lon: rng.random_range(WEST..=EAST) }
    }

    fn near(self, rng: &mut ChaCha8Rng, units: i32) -> Self {
        let lat = self.lat + rng.random_range(-units..=units);
        let lon = self.lon + rng.random_range(-units..=units);
        Self { lat: lat.clamp(SOUTH, NORTH), lon: lon.clamp(WEST, EAST) }
    }

    /// A place at least `least` and at most `most` degrees of latitude away (the area has 23), and up to `lon` degrees of
    /// longitude. A degree of latitude is 111.19 km wherever one is, and the great circle is never shorter.
    pub(super) fn far(self, rng: &mut ChaCha8Rng, least: i32, most: i32, lon: i32) -> Self {
        let step = rng.random_range(least * DEGREE..=most * DEGREE);
        let up = self.lat + step <= NORTH && (self.lat - step < SOUTH || rng.random());
        let side = rng.random_range(-lon * DEGREE..=lon * DEGREE);
        let lat = if up { self.lat + step } else { self.lat - step };
        Self { lat: lat.clamp(SOUTH, NORTH), lon: (self.lon + side).clamp(WEST, EAST) }
    }

    /// At least the great circle's length: the length of the straight line on the map, every degree of longitude taken as
    /// wide as at the area's southern edge.
    fn at_most_km(self, other: Self) -> f64 {
        let (lat, lon) = (f64::from(other.lat - self.lat), f64::from(other.lon - self.lon) * WIDEST);
        (lat * lat + lon * lon).sqrt() * KM_PER_UNIT
    }

    /// At most the great circle's length.
    pub(super) fn at_least_km(self, other: Self) -> f64 {
        f64::from((other.lat - self.lat).abs()) * KM_PER_UNIT
    }

    fn towards(self, goal: Self, elapsed: Micros) -> Self {
        let distance = self.at_most_km(goal);
        let speed = if distance > 50.0 { FLIGHT_KMH } else { ROAD_KMH };
        let reach = speed * elapsed as f64 / HOUR;
        if distance <= reach {
            return goal;
        }
        // Cut towards zero: never farther than the reach.
        let share = reach / distance;
        let part = |way: i32| (f64::from(way) * share) as i32;
        Self { lat: self.lat + part(goal.lat - self.lat), lon: self.lon + part(goal.lon - self.lon) }
    }
}

/// One user and the user's last transaction.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub number: u32,
    home: Place,
    /// Where the user stays these days.
    base: Place,
    pub place: Place,
    /// Event time of the last transaction.
    pub seen: Micros,
    /// No transaction before this.
    pub free_at: Micros,
    /// All of the user's transactions so far have arrived by then.
    pub arrived_by: Micros,
    typical_cents: f64,
    merchant: u8,
    category: u8,
    device: u8,
}

impl User {
    pub fn new(number: u32, start: Micros, rng: &mut ChaCha8Rng) -> Self {
        let home = Place::anywhere(rng);
        Self {
            number,
            home,
            base: home,
            place: home,
            seen: start - 3_600_000_000,
            free_at: Micros::MIN,
            arrived_by: Micros::MIN,
            typical_cents: 2_000.0 + 12_000.0 * spread(rng),
            merchant: rng.random_range(0..4),
            category: rng.random_range(0..3),
            device: rng.random_range(0..3),
        }
    }

    /// Moves on plausibly until `time`: around where the user stays, now and then on a trip and back.
    pub fn go(&mut self, time: Micros, rng: &mut ChaCha8Rng) {
        let chance = rng.random_range(0..2_000u32);
        if self.base == self.home && chance == 0 {
            self.base = Place::anywhere(rng);
        } else if self.base != self.home && chance < 40 {
            self.base = self.home;
        }
        let goal = self.base.near(rng, DEGREE / 8);
        self.place = self.place.towards(goal, (time - self.seen).max(0));
        self.seen = time;
    }

    /// The account turns up at `place`; from there it travels home.
    pub fn jump(&mut self, place: Place, time: Micros) {
        self.place = place;
        self.base = self.home;
        self.seen = time;
    }

    /// An amount as the user usually spends, 10.00 to 5000.00: many small, few large ones.
    pub fn amount(&self, rng: &mut ChaCha8Rng) -> i64 {
        ((self.typical_cents * spread(rng)) as i64).clamp(1_000, 500_000)
    }

    pub fn merchant(&self, rng: &mut ChaCha8Rng) -> u8 {
        usual(self.merchant, 4, rng)
    }

    pub fn category(&self, rng: &mut ChaCha8Rng) -> u8 {
        usual(self.category, 3, rng)
    }

    pub fn device(&self, rng: &mut ChaCha8Rng) -> u8 {
        usual(self.device, 3, rng)
    }
}

/// Log-normal-like around 1: a product of independent factors, which needs no exponential function.
fn spread(rng: &mut ChaCha8Rng) -> f64 {
    let bits: u64 = rng.random();
    (0..4).map(|i| 0.25 + 1.75 * f64::from((bits >> (16 * i)) as u16) / 65_536.0).product()
}

fn usual(favourite: u8, of: u8, rng: &mut ChaCha8Rng) -> u8 {
    let draw: u32 = rng.random();
    if draw & 0xff < 150 { favourite } else { ((draw >> 8) % u32::from(of)) as u8 }
}
