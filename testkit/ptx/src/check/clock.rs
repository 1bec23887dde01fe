//! What happened before what, between the warps and lanes of a block.
//!
//! Each warp counts ticks; a barrier, a `bar.warp.sync` or an arrival ends one. An access is stamped with
//! its warp, lane and tick. What a warp knows of another is the tick before which everything is visible to
//! it; a release by some lanes only (one elected lane arrives at an mbarrier) carries those lanes' later
//! accesses and, of the others, what the last synchronisation of the whole warp covered.
//! A warp's entry for itself says the same of its own lanes.
//!
//! Vector clocks: Fidge 1988, Mattern 1989; one scalar instead of a vector per access: FastTrack, Flanagan &
//! Freund 2009.

use crate::machine::Mask;

/// Ticks of a warp; the first is 1, so 0 is before everything.
pub type Tick = u32;

/// When, and by whom, something was accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Tick of that warp.
    pub tick: Tick,
    /// The warp, or the asynchronous agent.
    pub warp: u16,
    /// The lane.
    pub lane: u16,
}

/// How much of one warp is visible to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Accesses of all lanes before this tick.
    all: Tick,
    /// Accesses of `lanes` before this tick.
    some: Tick,
    lanes: Mask,
}

impl Seen {
    fn join(&mut self, other: Self) {
        self.all = self.all.max(other.all);
        if other.some > self.some {
            (self.some, self.lanes) = (other.some, other.lanes);
        } else if other.some == self.some {
            self.lanes |= other.lanes;
        }
    }

    fn covers(self, stamp: Stamp) -> bool {
        stamp.tick < self.all || (stamp.tick < self.some && self.lanes >> stamp.lane & 1 == 1)
    }
}

/// What was visible to a warp when it released something.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    seen: Vec<Seen>,
    /// The part of it behind which a proxy fence lies: what the asynchronous proxy may read.
    fenced: Vec<Seen>,
}

impl Clock {
    fn new(agents: usize) -> Self {
        Self { seen: vec![Seen::default(); agents], fenced: vec![Seen::default(); agents] }
    }

    /// Adds what another release carries.
    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.seen, &other.seen), (&mut self.fenced, &other.fenced)] {
            mine.resize(mine.len().max(theirs.len()), Seen::default());
            mine.iter_mut().zip(theirs).for_each(|(mine, &theirs)| mine.join(theirs));
        }
    }
}

/// The clocks of a block's warps and of its asynchronous agent.
#[derive(Clone, Debug)]
pub struct Clocks {
    now: Vec<Tick>,
    known: Vec<Clock>,
    /// `known[v].seen[w].all`, flat: the first thing that every access looks at.
    all: Vec<Tick>,
    /// The same of `known[v].fenced[w]`; of what the asynchronous agent wrote itself, everything.
    fenced: Vec<Tick>,
    /// Partial `bar.warp.sync`s since the last of the whole warp: (tick that they ended, lanes).
    partial: Vec<Vec<(Tick, Mask)>>,
}

impl Clocks {
    /// Nothing happened yet.
    pub fn new(warps: usize) -> Self {
        let agents = warps + 1;
        Self {
            now: vec![1; agents],
            known: vec![Clock::new(agents); agents],
            all: vec![0; agents * agents],
            fenced: (0..agents * agents).map(|i| if i % agents == warps { Tick::MAX } else { 0 }).collect(),
            partial: vec![Vec::new(); warps],
        }
    }

    /// The asynchronous agent: bulk copies write in its name.
    pub fn agent(&self) -> u32 {
        self.partial.len() as u32
    }

    /// Warps without the agent.
    pub fn warps(&self) -> usize {
        self.partial.len()
    }

    /// The tick of a warp.
    #[inline(always)]
    pub fn now(&self, warp: u32) -> Tick {
        self.now[warp as usize]
    }

    /// For each warp, the tick before which all its accesses are visible to `warp`.
    #[inline(always)]
    pub fn visible_to(&self, warp: u32) -> &[Tick] {
        let agents = self.now.len();
        &self.all[warp as usize * agents..(warp as usize + 1) * agents]
    }

    /// For each warp, the tick before which the asynchronous proxy, reading for `warp`, sees all its accesses.
    #[inline(always)]
    pub fn fenced_for(&self, warp: u32) -> &[Tick] {
        let agents = self.now.len();
        &self.fenced[warp as usize * agents..(warp as usize + 1) * agents]
    }

    /// Whether an access happened before what `lane` of `warp` does now.
    pub fn ordered(&self, stamp: Stamp, warp: u32, lane: u32) -> bool {
        if self.known[warp as usize].seen[usize::from(stamp.warp)].covers(stamp) {
            return true;
        }
        if u32::from(stamp.warp) != warp {
            return false;
        }
        // the agent has no lanes and works in order
        u32::from(stamp.lane) == lane
            || warp == self.agent()
            || self.partial[warp as usize].iter().any(|&(tick, lanes)| {
                stamp.tick < tick && lanes >> stamp.lane & 1 == 1 && lanes >> lane & 1 == 1
            })
    }

    /// `bar.warp.sync`: the lanes see each other's accesses.
    pub fn sync_lanes(&mut self, warp: u32, lanes: Mask, live: Mask) {
        let w = warp as usize;
        let tick = self.advance(w);
        if lanes & live == live {
            self.raise(w, w, Seen { all: tick, ..Seen::default() });
            self.partial[w].clear();
        } else {
            match self.partial[w].iter_mut().find(|(_, known)| *known == lanes) {
                Some(entry) => entry.0 = tick,
                None => self.partial[w].push((tick, lanes)),
            }
        }
    }

    /// What `lanes` of `warp` make visible to whoever acquires the result.
    pub fn release(&mut self, warp: u32, lanes: Mask, live: Mask) -> Clock {
        let w = warp as usize;
        let tick = self.advance(w);
        let mut clock = self.known[w].clone();
        let own = &mut clock.seen[w];
        if lanes & live == live {
            own.all = tick;
        } else {
            let mut part = Seen { all: own.all, some: tick, lanes };
            part.join(*own);
            *own = part;
        }
        clock
    }

    /// `fence.proxy.async`: what `lanes` of `warp` did, and what they see, the asynchronous proxy may read.
    pub fn fence_proxy(&mut self, warp: u32, lanes: Mask, live: Mask) {
        let behind = self.release(warp, lanes, live);
        self.raise_fenced(warp, &behind.seen);
    }

    /// Whether a proxy fence lies behind an access, so that the asynchronous proxy sees it when it reads for
    /// `warp`. What the agent wrote itself needs none.
    pub fn fenced(&self, stamp: Stamp, warp: u32) -> bool {
        let fenced = self.known[warp as usize].fenced[usize::from(stamp.warp)];
        u32::from(stamp.warp) == self.agent() || fenced.covers(stamp)
    }

    /// Makes a release visible to a warp.
    pub fn acquire(&mut self, warp: u32, clock: &Clock) {
        for (other, &seen) in clock.seen.iter().enumerate() {
            self.raise(warp as usize, other, seen);
        }
        self.raise_fenced(warp, &clock.fenced);
    }

    fn raise_fenced(&mut self, warp: u32, behind: &[Seen]) {
        let agents = self.now.len();
        let flat = &mut self.fenced[warp as usize * agents..(warp as usize + 1) * agents];
        let known = self.known[warp as usize].fenced.iter_mut().zip(behind);
        for ((mine, &theirs), flat) in known.zip(flat) {
            mine.join(theirs);
            *flat = (*flat).max(mine.all);
        }
    }

    /// A barrier: what each of the warps did is visible to all of them.
    pub fn barrier(&mut self, arrived: &[(u32, Mask, Mask)], waiting: impl Fn(u32) -> bool) {
        let mut joined = Clock::default();
        for &(warp, lanes, live) in arrived {
            joined.join(&self.release(warp, lanes, live));
        }
        for &(warp, lanes, live) in arrived {
            if waiting(warp) {
                self.acquire(warp, &joined);
                if lanes & live == live {
                    self.partial[warp as usize].clear();
                }
            }
        }
    }

    fn advance(&mut self, agent: usize) -> Tick {
        self.now[agent] += 1;
        self.now[agent]
    }

    fn raise(&mut self, of: usize, about: usize, seen: Seen) {
        let agents = self.now.len();
        let known = &mut self.known[of].seen[about];
        known.join(seen);
        self.all[of * agents + about] = known.all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Mask = !0;

    fn stamp(clocks: &Clocks, warp: u16, lane: u16) -> Stamp {
        Stamp { tick: clocks.now(u32::from(warp)), warp, lane }
    }

    #[test]
    fn a_lane_sees_itself_and_others_only_after_a_warp_barrier() {
        let mut clocks = Clocks::new(1);
        let write = stamp(&clocks, 0, 3);
        assert!(clocks.ordered(write, 0, 3));
        assert!(!clocks.ordered(write, 0, 4));
        clocks.sync_lanes(0, 0b1_1000, LIVE);
        assert!(clocks.ordered(write, 0, 4));
        assert!(!clocks.ordered(write, 0, 5));
        clocks.sync_lanes(0, LIVE, LIVE);
        assert!(clocks.ordered(write, 0, 5));
        assert!(!clocks.ordered(stamp(&clocks, 0, 3), 0, 5));
    }

    #[test]
    fn a_barrier_orders_those_who_take_part() {
        let mut clocks = Clocks::new(3);
        let writes = [stamp(&clocks, 0, 0), stamp(&clocks, 1, 0), stamp(&clocks, 2, 0)];
        clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |_| true);
        assert!(clocks.ordered(writes[0], 1, 9) && clocks.ordered(writes[1], 0, 9));
        assert!(!clocks.ordered(writes[2], 0, 9) && !clocks.ordered(writes[0], 2, 9));
        assert!(clocks.ordered(writes[0], 0, 9), "a barrier is a warp barrier too");
    }

    #[test]
    fn who_only_arrives_sees_nothing() {
        let mut clocks = Clocks::new(2);
        let writes = [stamp(&clocks, 0, 0), stamp(&clocks, 1, 0)];
        clocks.barrier(&[(0, LIVE, LIVE), (1, LIVE, LIVE)], |warp| warp == 0);
        assert!(clocks.ordered(writes[1], 0, 1));
        assert!(!clocks.ordered(writes[0], 1, 1));
    }

    #[test]
    fn a_proxy_fence_stands_before_or_after_the_barrier() {
        let mut clocks = Clocks::new(2);
        let both = [(0, LIVE, LIVE), (1, LIVE, LIVE)];
        let write = stamp(&clocks, 0, 3);
        clocks.barrier(&both, |_| true);
        assert!(!clocks.fenced(write, 1), "no fence at all");
        clocks.fence_proxy(1, 1, LIVE);
        assert!(clocks.fenced(write, 1) && !clocks.fenced(write, 0), "by who reads, after the barrier");
        let write = stamp(&clocks, 0, 3);
        clocks.fence_proxy(0, 0b0111, LIVE);
        clocks.barrier(&both, |_| true);
        assert!(!clocks.fenced(write, 1), "by other lanes, before the barrier");
        let write = stamp(&clocks, 0, 3);
        clocks.fence_proxy(0, LIVE, LIVE);
        assert!(!clocks.fenced(write, 1), "not yet released");
        clocks.barrier(&both, |_| true);
        assert!(clocks.fenced(write, 1), "by who writes, before the barrier");
    }

    #[test]
    fn one_lane_releases_its_own_accesses_and_what_its_warp_synchronised() {
        let mut clocks = Clocks::new(2);
        let early = stamp(&clocks, 0, 7);
        clocks.sync_lanes(0, LIVE, LIVE);
        let (own, other) = (stamp(&clocks, 0, 0), stamp(&clocks, 0, 7));
        let clock = clocks.release(0, 1, LIVE);
        clocks.acquire(1, &clock);
        assert!(clocks.ordered(early, 1, 0), "before the warp barrier");
        assert!(clocks.ordered(own, 1, 0), "by the lane that arrives");
        assert!(!clocks.ordered(other, 1, 0), "by another lane, not synchronised");
    }
}
