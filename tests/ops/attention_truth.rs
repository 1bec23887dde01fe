//! Attention by its definition: every query looks at every token and asks the forest whether it sees it.

use preceptor::base::philox::Stream;
use preceptor::ops::attention::Heads;
use preceptor::tensor::Forest;

use crate::approx::{Approx, dot, exact, sum};

/// A forest by its segments' parents and lengths.
pub(crate) fn forest(segments: &[(Option<u32>, u32)]) -> Forest {
    let mut forest = Forest::default();
    for (index, &(parent, len)) in segments.iter().enumerate() {
        let position = parent.map_or(0, |parent| {
            let parent = forest.segments[parent as usize];
            forest.positions[parent.start as usize] + parent.len
        });
        forest.push(&vec![0; len as usize], parent, position, index as u32);
    }
    forest
}

/// Up to eleven segments of up to `longest` tokens, in pre-order, each under any segment of the last chain.
pub(crate) fn random_forest(numbers: &mut Stream, longest: u32) -> Forest {
    let mut segments: Vec<(Option<u32>, u32)> = Vec::new();
    let mut chain: Vec<u32> = Vec::new();
    for index in 0..1 + numbers.below(11) {
        chain.truncate(numbers.below(chain.len() as u32 + 1) as usize);
        segments.push((chain.last().copied(), 1 + numbers.below(longest)));
        chain.push(index);
    }
    forest(&segments)
}

/// One attention problem.
pub(crate) struct Problem<'a> {
    pub(crate) forest: &'a Forest,
    pub(crate) queries: &'a [u32],
    pub(crate) heads: Heads,
}

/// What the forward pass makes.
pub(crate) struct Truth {
    pub(crate) o: Vec<Approx>,
    pub(crate) lse: Vec<Approx>,
}

impl Problem<'_> {
    fn segment_of(&self, token: usize) -> usize {
        self.forest
            .segments
            .iter()
            .position(|s| s.range().contains(&token))
            .expect("segments cover the tokens")
    }

    /// Whether `query` sees `key`: an ancestor or itself, inside the window.
    fn sees(&self, query: usize, key: usize) -> bool {
        let of_key = self.segment_of(key);
        let mut segment = Some(self.segment_of(query));
        while segment.is_some_and(|s| s != of_key) {
            segment = segment.and_then(|s| self.forest.segments[s].parent).map(|p| p as usize);
        }
        let (query_at, key_at) = (self.forest.positions[query], self.forest.positions[key]);
        let near = self.heads.window.is_none_or(|window| query_at.wrapping_sub(key_at) < window);
        segment.is_some() && key <= query && near
    }

    /// The tokens that each query sees.
    pub(crate) fn seen(&self) -> Vec<Vec<usize>> {
        let of_query = |&q: &u32| (0..self.forest.len()).filter(|&k| self.sees(q as usize, k)).collect();
        self.queries.iter().map(of_query).collect()
    }

    fn vector<'a>(&self, x: &'a [Approx], heads: usize, row: usize, head: usize) -> &'a [Approx] {
        let width = self.heads.width;
        let at = (row * heads + head) * width;
        &x[at..at + width]
    }

    fn query<'a>(&self, x: &'a [Approx], row: usize, head: usize) -> &'a [Approx] {
        self.vector(x, self.heads.query, row, head)
    }

    fn key<'a>(&self, x: &'a [Approx], token: usize, head: usize) -> &'a [Approx] {
        self.vector(x, self.heads.key_value, token, head * self.heads.key_value / self.heads.query)
    }

    /// p of each seen token, and their log-sum-exp.
    fn probabilities(
        &self,
        q: &[Approx],
        k: &[Approx],
        seen: &[usize],
        head: usize,
    ) -> (Vec<Approx>, Approx) {
        let score = |&t: &usize| exact(self.heads.scale) * dot(q.iter().zip(self.key(k, t, head)));
        let scores: Vec<Approx> = seen.iter().map(score).collect();
        let max = scores.iter().map(|s| s.value).fold(f64::MIN, f64::max);
        let lse = exact(max) + sum(scores.iter().map(|&s| (s - exact(max)).exp())).ln();
        (scores.iter().map(|&s| (s - lse).exp()).collect(), lse)
    }

    pub(crate) fn forward(&self, q: &[Approx], k: &[Approx], v: &[Approx]) -> Truth {
        let (mut o, mut of_lse) = (Vec::new(), Vec::new());
        for (row, seen) in self.seen().iter().enumerate() {
            for head in 0..self.heads.query {
                let (p, lse) = self.probabilities(self.query(q, row, head), k, seen, head);
                let value = |e: usize| sum(seen.iter().zip(&p).map(|(&t, &p)| p * self.key(v, t, head)[e]));
                o.extend((0..self.heads.width).map(value));
                of_lse.push(lse);
            }
        }
        Truth { o, lse: of_lse }
    }

    /// dQ, dK and dV.
    pub(crate) fn backward(
        &self,
        q: &[Approx],
        k: &[Approx],
        v: &[Approx],
        d_o: &[Approx],
    ) -> [Vec<Approx>; 3] {
        let (width, scale) = (self.heads.width, exact(self.heads.scale));
        let truth = self.forward(q, k, v);
        let mut dq = Vec::new();
        // the terms of each element of dK and dV, kept apart so that they are one sum
        let mut dk: Vec<Vec<Approx>> = vec![Vec::new(); k.len()];
        let mut dv: Vec<Vec<Approx>> = vec![Vec::new(); v.len()];
        for (row, seen) in self.seen().iter().enumerate() {
            for head in 0..self.heads.query {
                let (q, d_o) = (self.query(q, row, head), self.query(d_o, row, head));
                let delta = dot(d_o.iter().zip(self.query(&truth.o, row, head)));
                let (p, _) = self.probabilities(q, k, seen, head);
                let of_key =
                    |&t: &usize, &p: &Approx| p * (dot(d_o.iter().zip(self.key(v, t, head))) - delta);
                let ds: Vec<Approx> = seen.iter().zip(&p).map(|(t, p)| of_key(t, p)).collect();
                let value =
                    |e: usize| sum(seen.iter().zip(&ds).map(|(&t, &ds)| ds * self.key(k, t, head)[e]));
                dq.extend((0..width).map(|e| scale * value(e)));
                let kv = head * self.heads.key_value / self.heads.query;
                for ((&token, &p), &ds) in seen.iter().zip(&p).zip(&ds) {
                    for e in 0..width {
                        let at = (token * self.heads.key_value + kv) * width + e;
                        dk[at].push(scale * ds * q[e]);
                        dv[at].push(p * d_o[e]);
                    }
                }
            }
        }
        let sums = |terms: Vec<Vec<Approx>>| terms.into_iter().map(sum).collect();
        [dq, sums(dk), sums(dv)]
    }
}
