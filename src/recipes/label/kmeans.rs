//! k-means: Lloyd's iterations from k-means++ starts, the same on every run and for any number of threads.
//!
//! Distances are |x|^2 - 2 x c + |c|^2, the product by the device; means are summed in f64 in the order of the points. Of
//! equal distances the lower number wins.
//! Sources: Lloyd 1982; Arthur and Vassilvitskii, "k-means++", 2007; Hruschka et al. 2004 for the simplified silhouette.

use crate::base::philox::{Philox, Purpose, Stream};
use crate::device::{Buffer, Device, Weight};
use crate::ops::linear::{self, Linear};

/// Starts, of which the one with the least inertia is kept.
const STARTS: u32 = 8;
/// Lloyd's iterations end earlier, where no point moves; a thousand points need some twenty.
const ITERATIONS: usize = 300;

/// Points in clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The cluster of each point.
    pub of: Vec<usize>,
    /// Sum over the points of the squared distance to their cluster's mean.
    pub inertia: f64,
    /// Mean over the points of (b - a) / max(a, b), a being the distance to the own mean and b to the nearest other;
    /// near 1 where clusters stand apart, 0 for a single cluster.
    pub silhouette: f64,
}

/// The best of several k-means++ starts, `points` being n x D and `k` in 1..=n. Clusters are numbered by falling size,
/// equal ones by their first point.
pub fn cluster(device: &Device, points: &Buffer, k: usize, seed: u64) -> Clusters {
    let philox = Philox::new(seed, Purpose::Clustering);
    let run = |start| lloyd(device, points, &plus_plus(points, k, philox.stream([start, k as u32, 0])));
    let best = |best: Clusters, next: Clusters| if next.inertia < best.inertia { next } else { best };
    let mut found = (1..STARTS).map(run).fold(run(0), best);
    let mut sizes = vec![(0, usize::MAX); k];
    for (point, &cluster) in found.of.iter().enumerate() {
        sizes[cluster] = (sizes[cluster].0 + 1, sizes[cluster].1.min(point));
    }
    let mut by_size: Vec<usize> = (0..k).collect();
    by_size.sort_by_key(|&cluster| (usize::MAX - sizes[cluster].0, sizes[cluster].1));
    let mut number = vec![0; k];
    by_size.iter().enumerate().for_each(|(new, &old)| number[old] = new);
    found.of.iter_mut().for_each(|cluster| *cluster = number[*cluster]);
    found
}

/// Lloyd's iterations from the points `starts`, numbered as they are.
///
/// A cluster that lost all its points takes the point that is farthest from its own mean.
pub fn lloyd(device: &Device, points: &Buffer, starts: &[usize]) -> Clusters {
    let (n, width, k) = (points.rows(), points.cols(), starts.len());
    let row = |point: usize| &points.values()[point * width..(point + 1) * width];
    let mut centres: Vec<f32> = starts.iter().flat_map(|&start| row(start)).copied().collect();
    let mut of = vec![usize::MAX; n];
    for _ in 0..ITERATIONS {
        let distances = distances(device, points, &centres, k);
        let mut next: Vec<usize> = distances.chunks(k).map(nearest).collect();
        fill_empty(&mut next, &distances, k);
        let settled = next == of;
        of = next;
        if settled {
            break;
        }
        centres = means(points, &of, k);
    }
    let distances = distances(device, points, &centres, k);
    let own = |point: usize| distances[point * k + of[point]];
    let other = |point: usize| {
        let others = (0..k).filter(|&cluster| cluster != of[point]);
        others.map(|cluster| distances[point * k + cluster]).fold(f64::INFINITY, f64::min)
    };
    let width_of = |point: usize| {
        let (a, b) = (own(point).sqrt(), other(point).sqrt());
        if b.is_finite() && a.max(b) > 0.0 { (b - a) / a.max(b) } else { 0.0 }
    };
    let inertia = (0..n).map(own).sum();
    let silhouette = (0..n).map(width_of).sum::<f64>() / n as f64;
    Clusters { of, inertia, silhouette }
}

/// The squared distance of each point to each centre, n x k.
fn distances(device: &Device, points: &Buffer, centres: &[f32], k: usize) -> Vec<f64> {
    let width = points.cols();
    let square = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let of_centres: Vec<f64> = centres.chunks(width).map(square).collect();
    let mut products = device.buffer(points.rows(), k);
    let centres = Weight::owned(centres.to_vec(), k, width);
    linear::forward(device, points, &[Linear::plain(&centres)], std::slice::from_mut(&mut products));
    let rows = points.values().chunks(width).zip(products.values().chunks(k));
    rows.flat_map(|(point, products)| {
        let of_point = square(point);
        let distance =
            |(&product, &of_centre): (&f32, &f64)| (of_point - 2.0 * f64::from(product) + of_centre).max(0.0);
        products.iter().zip(&of_centres).map(distance).collect::<Vec<_>>()
    })
    .collect()
}

fn nearest(distances: &[f64]) -> usize {
    (0..distances.len()).fold(0, |best, i| if distances[i] < distances[best] { i } else { best })
}

fn fill_empty(of: &mut [usize], distances: &[f64], k: usize) {
    for cluster in 0..k {
        let mut sizes = vec![0; k];
        of.iter().for_each(|&c| sizes[c] += 1);
        if sizes[cluster] > 0 {
            continue;
        }
        let movable = (0..of.len()).filter(|&point| sizes[of[point]] > 1);
        let own = |point: usize| distances[point * k + of[point]];
        let farther = |best: usize, point: usize| if own(point) > own(best) { point } else { best };
        if let Some(point) = movable.reduce(farther) {
            of[point] = cluster;
        }
    }
}

fn means(points: &Buffer, of: &[usize], k: usize) -> Vec<f32> {
    let width = points.cols();
    let (mut sums, mut sizes) = (vec![0.0; k * width], vec![0.0; k]);
    for (point, &cluster) in points.values().chunks(width).zip(of) {
        sizes[cluster] += 1.0;
        let sum = &mut sums[cluster * width..(cluster + 1) * width];
        sum.iter_mut().zip(point).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums.iter().enumerate().map(|(i, sum)| (sum / sizes[i / width]) as f32).collect()
}

/// k different points, each drawn with a chance that grows with its squared distance to those drawn before.
fn plus_plus(points: &Buffer, k: usize, mut stream: Stream) -> Vec<usize> {
    let (n, width) = (points.rows(), points.cols());
    let row = |point: usize| &points.values()[point * width..(point + 1) * width];
    let mut starts = vec![stream.below(n as u32) as usize];
    let mut gaps = vec![f64::INFINITY; n];
    while starts.len() < k {
        let last = row(starts[starts.len() - 1]);
        for (point, gap) in gaps.iter_mut().enumerate() {
            let to_last = row(point).iter().zip(last).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            *gap = gap.min(to_last);
        }
        let place = f64::from(stream.next_f32()) * gaps.iter().sum::<f64>();
        let mut passed = 0.0;
        let drawn = gaps.iter().position(|gap| {
            passed += gap;
            passed > place
        });
        // without a gap left the points repeat: any that is not drawn yet will do
        let any = (0..n).find(|point| !starts.contains(point)).expect("k is at most n");
        starts.push(drawn.unwrap_or(any));
    }
    starts
}
