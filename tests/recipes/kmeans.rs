//! k-means against scikit-learn, on the cases of `tests/golden/kmeans.json`, and on cases by hand.

use preceptor::device::{Buffer, Device, Settings};
use preceptor::recipes::label::kmeans::{cluster, lloyd};
use serde_json::Value;

fn device() -> Device {
    Device::open(&Settings { threads: 2, ..Settings::default() }).unwrap()
}

fn upload(device: &Device, points: &[Vec<f32>]) -> Buffer {
    device.upload(&points.concat(), points.len(), points[0].len())
}

fn list<T: serde::de::DeserializeOwned>(case: &Value, key: &str) -> Vec<T> {
    serde_json::from_value(case[key].clone()).unwrap()
}

#[test]
fn from_the_same_starts_lloyd_ends_where_scikit_learn_ends() {
    let device = device();
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/kmeans.json")).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let points = upload(&device, &list::<Vec<f32>>(&case, "points"));
        let found = lloyd(&device, &points, &list::<usize>(&case, "starts"));
        assert_eq!(found.of, list::<usize>(&case, "labels"));
        // Distances to f32 means: a coordinate is off by at most 2^-24 of its size, below 8 here, and a distance's
        // square by twice the distance times that: far below 1e-5 of the sum.
        let close = |value: f64, key: &str| {
            let expected = case[key].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-5 * expected, "{key}: {value}, needed {expected}");
        };
        close(found.inertia, "inertia");
        close(found.silhouette, "silhouette");
    }
}

#[test]
fn groups_that_stand_apart_are_found_and_numbered_by_size() {
    let device = device();
    // three groups of 2, 5 and 3 points, far from each other
    let centre = [[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]];
    let of = [2, 1, 1, 0, 2, 1, 1, 0, 2, 1];
    let points: Vec<Vec<f32>> =
        of.iter().enumerate().map(|(i, &c)| vec![centre[c][0] + i as f32 * 0.1, centre[c][1]]).collect();
    for seed in 0..5 {
        let found = cluster(&device, &upload(&device, &points), 3, seed);
        assert_eq!(found.of, of.map(|group| [2, 0, 1][group]), "seed {seed}");
        assert!(found.silhouette > 0.9);
    }
    let one = cluster(&device, &upload(&device, &points), 1, 1);
    assert_eq!((one.of, one.silhouette), (vec![0; 10], 0.0));
}

#[test]
fn of_equal_distances_the_lower_number_wins() {
    let device = device();
    let points = upload(&device, &[vec![0.0], vec![2.0], vec![1.0]]);
    assert_eq!(lloyd(&device, &points, &[0, 1]).of, [0, 1, 0]);
    assert_eq!(lloyd(&device, &points, &[1, 0]).of, [1, 0, 0]);
}

/// Points that repeat leave clusters empty, which take points from others; no more than that can be asked.
#[test]
fn repeated_points_still_fill_every_cluster() {
    let device = device();
    let points = upload(&device, &[vec![1.0], vec![1.0], vec![1.0], vec![4.0]]);
    let found = cluster(&device, &points, 3, 1);
    for number in 0..3 {
        assert!(found.of.contains(&number), "{found:?}");
    }
    assert_eq!(found.inertia, 0.0);
}
