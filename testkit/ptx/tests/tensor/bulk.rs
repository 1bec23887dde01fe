//! cp.async.bulk: plain copies and tensors' boxes, both ways.

use ptx::Check;
use ptx::memory::swizzle::Swizzle;
use ptx::memory::tensor_map::{Element, Fill, TensorMap};

use crate::harness::{Job, Outcome, bytes, bytes16, put, stage};

/// A barrier for one arrival at `%r40`, shared data from `%r41` on; `done` waits for its first phase.
const INIT: &str = "mov.u32 %r41, s; add.u32 %r40, %r41, 16384;\n\
    @%p1 mbarrier.init.shared::cta.b64 [%r40], 1; fence.mbarrier_init.release.cluster; bar.sync 0;\n";
const DONE: &str = "DONE: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r40], 0; @!%p3 bra DONE;\n";

fn expect(count: u32) -> String {
    format!("@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r40], {count};\n")
}

/// Shared words `0..32 * count` as the output, `count` adjacent ones a thread.
fn show(count: usize) -> String {
    let mut text = format!("mul.lo.u32 %r20, %r1, {}; add.u32 %r20, %r20, %r41;\n", 4 * count);
    for index in 0..count {
        text += &format!("ld.shared.b32 %r{}, [%r20+{}];\n", 100 + index, 4 * index);
    }
    text + &put(100, count)
}

fn plain(size: u32) -> String {
    format!(
        "@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes \
         [%r41], [%rd2], {size}, [%r40];\n"
    )
}

#[test]
fn plain_bytes_land_when_the_phase_is_waited_for() {
    let load = |body: &str| Job::new(INIT.to_owned() + body + &show(8)).input(bytes(0..256));
    let words = load(&(expect(1024) + &plain(1024) + DONE)).clean().words();
    assert_eq!(words[..256], Vec::from_iter(0..256));
    load(&(expect(1024) + &plain(1024) + "bar.sync 0;\n")).run().findings.iter().for_each(|finding| {
        assert!(matches!(finding.check, Check::InFlight | Check::AsyncUse), "{finding}");
    });
    // announced in two parts, completed in two parts
    let half = |at: u32| plain(512).replace("[%r41], [%rd2]", &format!("[%r41+{at}], [%rd2+{at}]"));
    let halves = half(0) + &half(512).replace("shared::cluster", "shared::cta");
    let words = load(&(expect(1024) + &halves + DONE)).clean().words();
    assert_eq!(words[..256], Vec::from_iter(0..256));
}

#[test]
fn wrong_sizes_addresses_and_masks_are_found() {
    let load = |body: String| Job::new(INIT.to_owned() + &body).input(bytes(0..256));
    let outcome = load(expect(1008) + &plain(1024) + DONE).run();
    let deadlock =
        outcome.findings.iter().find(|finding| finding.check == Check::Deadlock).expect("a deadlock");
    assert!(deadlock.message.contains("and 1008 bytes"), "{}", deadlock.message);
    assert!(deadlock.message.contains("bring 0 arrivals and 1024 bytes"), "{}", deadlock.message);
    load(plain(24)).finds(Check::Misaligned, "multiples of 16");
    load(plain(1040)).finds(Check::OutOfBounds, "of in");
    load(expect(1024) + &plain(1024)).finds(Check::AsyncUse, "nothing waits");
    load(plain(1024).replace("[%r40]", "[%r40+8]")).finds(Check::Mbarrier, "no initialised mbarrier");
    let cast =
        plain(1024).replace("::bytes ", "::bytes.multicast::cluster ").replace("[%r40];", "[%r40], %h1;");
    load("mov.b16 %h1, 1;\n".to_owned() + &expect(1024) + &cast + DONE).clean();
    load("mov.b16 %h1, 3;\n".to_owned() + &expect(1024) + &cast + DONE).finds(Check::Trap, "one block");
}

/// A tensor of 16-bit elements numbered in memory order, without padding between rows.
fn numbered(shape: &[u64], tile: &[u32], swizzle: Swizzle) -> (TensorMap, Vec<u8>) {
    let count: u64 = shape.iter().product();
    let strides = (1..shape.len()).map(|d| 2 * shape[..d].iter().product::<u64>()).collect();
    let map = TensorMap {
        address: 0,
        element: Element::Bf16,
        shape: shape.to_vec(),
        strides,
        tile: tile.to_vec(),
        element_strides: vec![1; shape.len()],
        swizzle,
        fill: Fill::Zero,
    };
    (map, bytes16((0..count).map(|value| value as u16)))
}

/// The box from `start` on, as it must lie in shared memory at an address that is a multiple of 1024.
fn expected(map: &TensorMap, values: &[u8], start: &[i32], fill: u16) -> Vec<u8> {
    let count: u32 = map.tile.iter().product();
    let mut shared = vec![0; 2 * count as usize];
    for element in 0..count {
        let (mut rest, mut index, mut pitch, mut inside) = (element, 0, 1, true);
        for ((&start, &tile), &size) in start.iter().zip(&map.tile).zip(&map.shape) {
            let at = i64::from(start) + i64::from(rest % tile);
            rest /= tile;
            inside &= at >= 0 && at < size as i64;
            index += at * pitch;
            pitch *= size as i64;
        }
        let value = if inside {
            [values[2 * index as usize], values[2 * index as usize + 1]]
        } else {
            fill.to_le_bytes()
        };
        let place = map.swizzle.apply(2 * element) as usize;
        shared[place..place + 2].copy_from_slice(&value);
    }
    shared
}

fn coordinates(start: &[i32]) -> String {
    start.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn tensor_load(rank: usize, start: &[i32], space: &str) -> String {
    format!(
        "@%p1 cp.async.bulk.tensor.{rank}d.{space}.global.tile.mbarrier::complete_tx::bytes \
         [%r41], [%rd3, {{{}}}], [%r40];\n",
        coordinates(start)
    )
}

fn check_load(map: &TensorMap, values: &[u8], start: &[i32], fill: u16) {
    let size = map.box_bytes();
    let words = size as usize / 128;
    for space in ["shared::cluster", "shared::cta"] {
        let load = tensor_load(start.len(), start, space);
        let body = INIT.to_owned() + &expect(size) + &load + DONE + &show(words);
        let outcome = Job::new(body).input(values.to_vec()).output(size as usize).map(map.clone()).clean();
        assert_eq!(outcome.output, expected(map, values, start, fill), "{map:?} at {start:?}");
    }
}

#[test]
fn boxes_lie_swizzled_in_shared_memory() {
    for (swizzle, width) in
        [(Swizzle::None, 40), (Swizzle::Bytes32, 16), (Swizzle::Bytes64, 32), (Swizzle::Bytes128, 64)]
    {
        let (map, values) = numbered(&[104, 30], &[width, 16], swizzle);
        check_load(&map, &values, &[0, 0], 0);
        check_load(&map, &values, &[24, 7], 0);
    }
}

#[test]
fn beyond_the_edges_is_the_fill() {
    let (map, values) = numbered(&[104, 30], &[64, 16], Swizzle::Bytes128);
    for start in [[80, 20], [-5, -3], [104, 0], [0, 30], [-64, 2], [i32::MIN, i32::MAX]] {
        check_load(&map, &values, &start, 0);
        check_load(&TensorMap { fill: Fill::Nan, ..map.clone() }, &values, &start, 0xffff);
    }
}

#[test]
fn tensors_have_one_to_five_dimensions() {
    let (map, values) = numbered(&[1000], &[128], Swizzle::None);
    check_load(&map, &values, &[900], 0);
    let (map, values) = numbered(&[24, 5, 7], &[16, 4, 4], Swizzle::Bytes32);
    check_load(&map, &values, &[8, 2, 5], 0);
    let (map, values) = numbered(&[16, 3, 4, 5], &[16, 2, 2, 2], Swizzle::None);
    check_load(&map, &values, &[0, 2, 1, 4], 0);
    let (map, values) = numbered(&[8, 3, 4, 5, 3], &[8, 2, 2, 2, 2], Swizzle::None);
    check_load(&map, &values, &[0, -1, 3, 2, 1], 0);
}

#[test]
fn a_tensor_load_without_a_map_or_a_place_is_found() {
    let (map, values) = numbered(&[64, 16], &[64, 16], Swizzle::Bytes128);
    let load = |body: String| Job::new(INIT.to_owned() + &body).input(values.clone());
    load(tensor_load(2, &[0, 0], "shared::cta")).finds(Check::Trap, "no tensor map");
    load(tensor_load(1, &[0], "shared::cta"))
        .map(map.clone())
        .finds(Check::Trap, "1 coordinates for a tensor of 2");
    let moved = tensor_load(2, &[0, 0], "shared::cta").replace("[%r41]", "[%r41+64]");
    load(moved).map(map.clone()).finds(Check::Misaligned, "multiple of 128");
    let short =
        Job::new(INIT.to_owned() + &tensor_load(2, &[0, 0], "shared::cta")).input(values[..1024].to_vec());
    short.map(map).finds(Check::OutOfBounds, "behind the end of in");
}

/// Stages `tile` in `s`, then stores it into the tensor `target` with `store`, which names `%r41`.
fn tensor_store(target: &TensorMap, old: &[u8], tile: &[u8], store: &str, rest: &str) -> Job {
    // the tile lies behind the tensor in the input
    let body = format!(
        "mov.u32 %r41, s; add.u64 %rd20, %rd2, {}; mov.b64 %rd21, %rd2; mov.b64 %rd2, %rd20;\n",
        old.len()
    ) + &stage(tile.len(), 32)
        + "mov.b64 %rd2, %rd21;\n"
        + store
        + rest;
    Job::new(body).input([old, tile].concat()).map(target.clone())
}

const GROUP: &str = "@%p1 cp.async.bulk.commit_group;\n@%p1 cp.async.bulk.wait_group 0;\n";

fn store_at(start: &[i32]) -> String {
    format!(
        "@%p1 cp.async.bulk.tensor.{}d.global.shared::cta.bulk_group [%rd3, {{{}}}], [%r41];\n",
        start.len(),
        coordinates(start)
    )
}

#[test]
fn a_store_writes_what_lies_inside_the_tensor() {
    for swizzle in [Swizzle::None, Swizzle::Bytes128] {
        let (map, old) = numbered(&[104, 30], &[64, 16], swizzle);
        let (_, tile) = numbered(&[1024], &[64], Swizzle::None);
        for start in [[0, 0], [80, 20], [-5, -3]] {
            let outcome = tensor_store(&map, &old, &tile, &store_at(&start), GROUP).clean();
            let mut new = old.clone();
            for (column, row) in (0..64).flat_map(|column| (0..16).map(move |row| (column, row))) {
                let (x, y) = (start[0] + column, start[1] + row);
                if (0..104).contains(&x) && (0..30).contains(&y) {
                    let (to, from) =
                        (2 * (y * 104 + x) as usize, swizzle.apply((row * 128 + column * 2) as u32) as usize);
                    new[to..to + 2].copy_from_slice(&tile[from..from + 2]);
                }
            }
            assert_eq!(outcome.input[..old.len()], new, "{start:?}");
        }
    }
}

#[test]
fn a_store_adds() {
    let (map, old) = numbered(&[64, 16], &[64, 16], Swizzle::None);
    let value = |index: usize| u32::from(half::bf16::from_f32(index as f32 / 4.0).to_bits()) as u16;
    let (old, tile) = (bytes16((0..old.len() / 2).map(value)), bytes16((0..1024).map(|i| value(i + 3))));
    let add =
        "@%p1 cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%rd3, {0, 0}], [%r41];\n";
    let outcome = tensor_store(&map, &old, &tile, add, GROUP).clean();
    let float = |bytes: &[u8], i: usize| half::bf16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32();
    for i in 0..1024 {
        let sum = half::bf16::from_f32(float(&old, i) + float(&tile, i)).to_f32();
        assert_eq!(float(&outcome.input, i), sum);
    }
    let plain = "@%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd2], [%r41], 64;\n";
    let floats = |add: f32| bytes((0..512).map(|i| (i as f32 + add).to_bits()));
    let outcome = tensor_store(&map, &floats(0.0), &floats(0.5), plain, GROUP).clean();
    let expected = (0..512).map(|i| (if i < 16 { 2.0 * i as f32 + 0.5 } else { i as f32 }).to_bits());
    assert_eq!(outcome.input[..2048], bytes(expected));
}

fn store_then(rest: &str) -> Outcome {
    let (map, old) = numbered(&[64, 16], &[64, 16], Swizzle::None);
    tensor_store(&map, &old, &vec![7; 2048], &store_at(&[0, 0]), rest).run()
}

#[test]
fn a_store_of_plain_writes_needs_a_proxy_fence() {
    let (map, old) = numbered(&[64, 16], &[64, 16], Swizzle::None);
    let write = "mov.u32 %r20, s; mad.lo.u32 %r20, %r1, 4, %r20; st.shared.b32 [%r20], %r1;\n";
    let run = |between: &str| {
        let store = format!("{write}{between}{}", store_at(&[0, 0]));
        tensor_store(&map, &old, &[7; 2048], &store, GROUP)
    };
    run("bar.sync 0;\n").finds(Check::ProxyFence, "no fence.proxy.async");
    run("bar.sync 0;\nfence.proxy.async.global;\n").finds(Check::ProxyFence, "no fence.proxy.async");
    run("fence.proxy.async.shared::cta;\nbar.sync 0;\n").clean();
    run("bar.sync 0;\n@%p1 fence.proxy.async;\n").clean();
    run("@%p1 fence.proxy.async;\nbar.sync 0;\n").finds(Check::ProxyFence, "lane 1");
}

#[test]
fn a_store_reads_as_late_as_is_legal() {
    let overwrite = "@%p1 st.shared.b32 [%r41], 0;\n";
    let commit = "@%p1 cp.async.bulk.commit_group;\n";
    let read = "@%p1 cp.async.bulk.wait_group.read 0;\n";
    let early = store_then(&format!("{commit}{overwrite}{read}"));
    assert!(
        early.findings.iter().any(|f| f.check == Check::AsyncUse && f.message.contains("changed before"))
    );
    assert_eq!(early.input[..8], [0, 0, 0, 0, 7, 7, 7, 7]);
    let late = store_then(&format!("{commit}{read}{overwrite}"));
    assert!(late.findings.is_empty());
    assert_eq!(late.input[..8], [7; 8]);
    // global memory changes only when more than the reading is waited for
    let look = "@%p1 ld.global.b32 %r50, [%rd2]; @%p1 st.global.b32 [%rd1], %r50;\n";
    assert_eq!(store_then(&format!("{commit}{read}{look}")).words()[0], 1 << 16);
    assert_eq!(store_then(&format!("{GROUP}{look}")).words()[0], 0x0707_0707);
    let forgotten = store_then(commit);
    assert!(
        forgotten
            .findings
            .iter()
            .any(|f| f.check == Check::AsyncUse && f.message.contains("ends with the block"))
    );
    assert_eq!(forgotten.input[..8], [7; 8], "it ends with the kernel at last");
}
