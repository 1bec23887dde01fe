//! cp.async.bulk: copies of the asynchronous proxy, of plain bytes or of a tensor's box.
//!
//! A load lands when the end of its mbarrier's phase is waited for. A store reads shared memory when its
//! group's reading is waited for, and writes global memory when the group is. So whoever reads the target
//! too early, or overwrites the source too early, shows in findings or in numbers.
//!
//! Source: PTX ISA, "Data Movement and Conversion Instructions: Bulk copy" and "Tensor copy".

use super::block::Block;
use super::warp::Warp;
use super::{Lanes32, Mask, WARP, lanes};
use crate::check::Check;
use crate::check::clock::Clock;
use crate::isa::At;
use crate::isa::half::{Bf16, F16, Float16};
use crate::memory::swizzle::Swizzle;
use crate::memory::tensor_map::{Element, Fill, Row, TensorMap};

/// The side of a bulk copy that lies in global memory.
#[derive(Clone, Debug)]
pub enum Place {
    /// Adjacent bytes.
    Bytes {
        /// The first.
        address: u64,
        /// How many.
        bytes: u32,
    },
    /// A box of a tensor.
    Box {
        /// The tensor.
        map: TensorMap,
        /// Coordinates of the box's first element.
        start: Vec<i32>,
    },
}

impl Place {
    /// Bytes in shared memory.
    pub fn bytes(&self) -> u32 {
        match self {
            Self::Bytes { bytes, .. } => *bytes,
            Self::Box { map, .. } => map.box_bytes(),
        }
    }

    /// Its rows.
    pub fn rows(&self) -> Vec<Row> {
        match self {
            &Self::Bytes { address, bytes } => vec![Row { offset: 0, inside: 0..bytes, address }],
            Self::Box { map, start } => map.rows(start).collect(),
        }
    }

    fn swizzle(&self) -> Swizzle {
        match self {
            Self::Bytes { .. } => Swizzle::None,
            Self::Box { map, .. } => map.swizzle,
        }
    }

    fn fill(&self) -> u8 {
        match self {
            Self::Box { map, .. } if map.fill == Fill::Nan => 0xff,
            _ => 0,
        }
    }
}

/// A copy from global to shared memory.
#[derive(Clone, Debug)]
pub struct Load {
    /// The instruction.
    pub at: At,
    /// The warp that started it.
    pub warp: u32,
    /// The lane that started it.
    pub lane: u32,
    /// Where the bytes come from.
    pub source: Place,
    /// Where they go in shared memory.
    pub target: u32,
}

impl Load {
    /// Bytes that it completes at its mbarrier: the whole box, inside the tensor or not.
    pub fn bytes(&self) -> u32 {
        self.source.bytes()
    }

    /// Writes the bytes in the name of the block's asynchronous agent. Returns what that releases.
    pub fn land(&self, block: &mut Block<'_>) -> Clock {
        let mut dense = vec![self.source.fill(); self.bytes() as usize];
        for Row { offset, inside, address } in self.source.rows() {
            let from = offset as usize;
            let inside = &mut dense[from + inside.start as usize..from + inside.end as usize];
            if !inside.is_empty() && !block.global.load_bytes(address, inside) {
                // the bounds were checked at issue; memory freed since then reads as NaN
                inside.fill(0xff);
            }
        }
        let swizzle = self.source.swizzle();
        for (chunk, place) in dense.as_chunks::<16>().0.iter().zip((self.target..).step_by(16)) {
            block.shared.store(swizzle.apply(place), *chunk);
        }
        let agent = block.clocks.agent();
        block.shadow.land(self.target, self.bytes(), agent, 0, &block.clocks);
        block.clocks.release(agent, !0, !0)
    }
}

/// A copy from shared to global memory.
#[derive(Clone, Debug)]
pub struct Store {
    /// The instruction.
    pub at: At,
    /// The lane that started it.
    pub lane: u32,
    /// Where the bytes come from in shared memory.
    pub source: u32,
    /// Where they go.
    pub target: Place,
    /// The type of the elements that are added to what is there; `None` where the bytes replace it.
    pub add: Option<Element>,
    /// The bytes as they were at issue, or, once `read`, as they go out.
    bytes: Vec<u8>,
    read: bool,
    /// The group of the lane that it belongs to.
    group: u32,
}

impl Store {
    /// A store whose source is inside shared memory.
    pub fn new(
        at: At,
        lane: u32,
        source: u32,
        target: Place,
        add: Option<Element>,
        block: &Block<'_>,
    ) -> Self {
        let bytes = gather(source, &target, block);
        Self { at, lane, source, target, add, bytes, read: false, group: 0 }
    }

    /// Reads the source now; a difference to what was there at issue is a finding.
    fn read(&mut self, warp: u32, block: &mut Block<'_>) {
        if std::mem::replace(&mut self.read, true) {
            return;
        }
        let now = gather(self.source, &self.target, block);
        if now != self.bytes {
            let source = self.source;
            block.finding(Check::AsyncUse, self.at, warp, 1 << self.lane, || {
                format!("the shared bytes at {source} changed before this store was known to have read them")
            });
        }
        self.bytes = now;
    }

    fn write(&self, block: &mut Block<'_>) {
        for Row { offset, inside, address } in self.target.rows() {
            let from = offset as usize;
            let bytes = &self.bytes[from + inside.start as usize..from + inside.end as usize];
            match self.add {
                None => drop(block.global.store_bytes(address, bytes)),
                Some(element) => add(element, address, bytes, block),
            }
        }
    }
}

/// The bytes of a copy's shared side in the order of its rows.
fn gather(source: u32, place: &Place, block: &Block<'_>) -> Vec<u8> {
    let swizzle = place.swizzle();
    let chunks = (source..source + place.bytes()).step_by(16);
    chunks.flat_map(|chunk| block.shared.load::<16>(swizzle.apply(chunk))).collect()
}

/// Whether a store can add elements of a type.
pub fn can_add(element: Element) -> bool {
    matches!(element, Element::F16 | Element::Bf16 | Element::F32 | Element::U32 | Element::S32)
}

/// Adds elements one by one, each atomically; 16-bit sums are rounded to nearest even.
fn add(element: Element, address: u64, bytes: &[u8], block: &mut Block<'_>) {
    let size = element.bytes() as usize;
    for (index, value) in bytes.chunks_exact(size).enumerate() {
        let at = address + (index * size) as u64;
        let Some(allocation) = block.global.find(at) else { return };
        let shift = 8 * (at % 4) as u32;
        block.global.get(allocation).update(at & !3, |word| match element {
            Element::F32 => {
                let addend = f32::from_le_bytes(value.try_into().expect("four bytes"));
                (f32::from_bits(word) + addend).to_bits()
            }
            Element::F16 => add16::<F16>(word, shift, value),
            Element::Bf16 => add16::<Bf16>(word, shift, value),
            _ => word.wrapping_add(u32::from_le_bytes(value.try_into().expect("four bytes"))),
        });
    }
}

/// Adds to the half of a word that starts at bit `shift`.
fn add16<T: Float16>(word: u32, shift: u32, value: &[u8]) -> u32 {
    let addend = u16::from_le_bytes(value.try_into().expect("two bytes"));
    let sum = T::from_f32(T::from_bits((word >> shift) as u16).to_f32() + T::from_bits(addend).to_f32());
    word & !(0xffff << shift) | u32::from(sum.to_bits()) << shift
}

/// The bulk stores of one warp, and the groups of its lanes.
#[derive(Clone, Debug)]
pub struct BulkStores {
    stores: Vec<Store>,
    /// Groups that each lane has closed.
    closed: Lanes32,
}

impl Default for BulkStores {
    fn default() -> Self {
        Self { stores: Vec::new(), closed: [0; WARP] }
    }
}

impl BulkStores {
    /// Starts a store; it joins the open group of its lane.
    pub fn start(&mut self, store: Store) {
        let group = self.closed[store.lane as usize];
        self.stores.push(Store { group, ..store });
    }

    /// Closes the open groups of these lanes.
    pub fn commit(&mut self, mask: Mask) {
        for lane in lanes(mask) {
            self.closed[lane] += 1;
        }
    }
}

/// Ends all groups of these lanes but the newest `keep`; `reads_only`: just their reading.
pub fn wait(warp: &mut Warp, block: &mut Block<'_>, mask: Mask, keep: u32, reads_only: bool) {
    let (id, stores) = (warp.id, &mut warp.stores);
    let closed = stores.closed;
    stores.stores.retain_mut(|store| {
        let lane = store.lane as usize;
        if mask >> lane & 1 == 0 || store.group.saturating_add(keep) >= closed[lane] {
            return true;
        }
        store.read(id, block);
        if !reads_only {
            store.write(block);
        }
        reads_only
    });
}

/// A warp's end: stores whose reading nothing waited for are a finding; all of them end.
pub fn finish(warp: &mut Warp, block: &mut Block<'_>) {
    for mut store in std::mem::take(&mut warp.stores.stores) {
        if !store.read {
            block.finding(Check::AsyncUse, store.at, warp.id, 1 << store.lane, || {
                "nothing waits until this store has read shared memory, which ends with the block".into()
            });
        }
        store.read(warp.id, block);
        store.write(block);
    }
}
