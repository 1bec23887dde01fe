//! ldmatrix and stmatrix.

use ptx::Check;

use crate::harness::{Job, bytes16, put, stage};

/// Each lane's own 16 bytes of `s` in `%r20`.
const ROW: &str = "shl.b32 %r20, %r2, 4; mov.u32 %r21, s; add.u32 %r20, %r20, %r21;\n";

/// Element (row, column) of matrix `q`, as `stage` lays them out.
fn element(q: usize, row: usize, column: usize) -> u32 {
    (q * 64 + row * 8 + column) as u32
}

fn rows() -> Vec<u8> {
    bytes16(0..256)
}

#[test]
fn a_register_holds_two_elements_of_a_row() {
    for (count, list) in [(1, "{%r30}"), (2, "{%r30, %r31}"), (4, "{%r30, %r31, %r32, %r33}")] {
        let load = format!("ldmatrix.sync.aligned.m8n8.x{count}.shared.b16 {list}, [%r20];\n");
        let job = Job::new(stage(512, 32) + ROW + &load + &put(30, count)).input(rows());
        let words = job.clean().words();
        for (lane, q) in (0..32).flat_map(|lane| (0..count).map(move |q| (lane, q))) {
            let (row, column) = (lane / 4, lane % 4 * 2);
            let expected = element(q, row, column) | element(q, row, column + 1) << 16;
            assert_eq!(words[lane * count + q], expected, "x{count}, lane {lane}, matrix {q}");
        }
    }
}

#[test]
fn transposed_it_holds_two_elements_of_a_column() {
    let load = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r30, %r31, %r32, %r33}, [%r20];\n";
    let words = Job::new(stage(512, 32) + ROW + load + &put(30, 4)).input(rows()).clean().words();
    for (lane, q) in (0..32).flat_map(|lane| (0..4).map(move |q| (lane, q))) {
        let (row, column) = (lane % 4 * 2, lane / 4);
        assert_eq!(words[lane * 4 + q], element(q, row, column) | element(q, row + 1, column) << 16);
    }
}

#[test]
fn stmatrix_undoes_ldmatrix() {
    for trans in ["", ".trans"] {
        let list = "{%r30, %r31, %r32, %r33}";
        let body = format!(
            "ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {list}, [%r20];\n\
             stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r20+1024], {list};\n\
             bar.sync 0;\n\
             ld.shared.v4.b32 {list}, [%r20+1024];\n"
        );
        let outcome = Job::new(stage(512, 32) + ROW + &body + &put(30, 4)).input(rows()).clean();
        assert_eq!(outcome.output[..512], rows());
    }
}

#[test]
fn wrong_rows_and_missing_lanes_are_found() {
    let load = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r30}, [%r20];\n";
    let with = |change: &str| Job::new(stage(512, 32) + ROW + change + load).input(rows());
    with("add.u32 %r20, %r20, 8;\n").finds(Check::Misaligned, "16 bytes");
    with("add.u32 %r20, %r20, 32768;\n").finds(Check::OutOfBounds, "32768 bytes");
    let unwritten = with("add.u32 %r20, %r20, 2048;\n");
    unwritten.finds(Check::Uninitialised, "never written");
    let guarded = load.replace("ldmatrix", "setp.ne.u32 %p3, %r2, 5;\n@%p3 ldmatrix");
    Job::new(stage(512, 32) + ROW + &guarded).input(rows()).finds(Check::MissingLanes, "lanes 00000020");
}
