use proptest::prelude::*;

use super::*;

const HALF_CIRCUMFERENCE: f64 = std::f64::consts::PI * RADIUS_KM;

fn place() -> impl Strategy<Value = (f64, f64)> {
    let edge = prop_oneof![Just(-90.0), Just(0.0), Just(90.0), -90.0..=90.0];
    (edge, prop_oneof![Just(-180.0), Just(0.0), Just(180.0), -180.0..=180.0])
}

proptest! {
    #[test]
    fn the_distance_is_symmetric_and_never_more_than_half_round(a in place(), b in place()) {
        let there = haversine_km(a.0, a.1, b.0, b.1);
        prop_assert!((0.0..=HALF_CIRCUMFERENCE).contains(&there), "{there}");
        prop_assert_eq!(there, haversine_km(b.0, b.1, a.0, a.1));
    }

    #[test]
    fn a_place_is_no_way_from_itself_and_half_round_from_its_opposite(a in place()) {
        prop_assert_eq!(haversine_km(a.0, a.1, a.0, a.1), 0.0);
        let opposite = haversine_km(a.0, a.1, -a.0, a.1 + 180.0);
        prop_assert!((opposite - HALF_CIRCUMFERENCE).abs() < 0.001, "{}", opposite);
    }
}

#[test]
fn known_cities_are_as_far_apart_as_known() {
    // New York (JFK) to London (LHR), and Los Angeles to New York: great circles on the sphere of 6371 km.
    assert!((haversine_km(40.6413, -73.7781, 51.4700, -0.4543) - 5540.0).abs() < 10.0);
    assert!((haversine_km(34.0522, -118.2437, 40.7128, -74.0060) - 3936.0).abs() < 2.0);
}

#[test]
fn null_in_any_place_gives_null() {
    let some = Float64Array::from(vec![Some(1.0), Some(2.0), None]);
    let other = Float64Array::from(vec![Some(1.0), None, Some(3.0)]);
    let km = distances([&some, &some, &other, &other]);
    assert_eq!(km.iter().collect::<Vec<_>>(), [Some(0.0), None, None]);
}
