//! Kernel launches: the limits that a launch must keep, and the buffers that it was given.

use std::sync::Arc;

use crate::devices::{BLOCK_LIMIT, Device, GRID_LIMIT, THREADS_PER_BLOCK};
use crate::status::Status;

/// A launch as it waits in a stream: checked, its parameters copied.
pub(crate) struct KernelLaunch {
    pub(crate) module: Arc<ptx::Module>,
    /// Index in the module's kernels.
    pub(crate) index: usize,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared: u32,
    pub(crate) parameters: Vec<u8>,
}

impl KernelLaunch {
    pub(crate) fn kernel(&self) -> &ptx::Kernel {
        &self.module.kernels[self.index]
    }

    /// Every aligned 8-byte word of the parameters, which is where pointers are.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = u64> {
        self.parameters.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
    }
}

impl std::fmt::Debug for KernelLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} x {:?}", self.kernel().name, self.grid, self.block)
    }
}

/// What a launch asks of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared: u32,
}

/// What a kernel allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) static_shared: u32,
    /// `MAX_DYNAMIC_SHARED_SIZE_BYTES`, as set by the program.
    pub(crate) dynamic_shared: u32,
    /// `.maxntid`.
    pub(crate) threads: Option<u32>,
    /// `.reqntid`.
    pub(crate) exact_block: Option<[u32; 3]>,
}

/// Refuses what the device would refuse; the text says what was found and allowed.
pub(crate) fn check(device: &Device, allowed: Allowed, shape: &Shape) -> Result<(), (Status, String)> {
    let invalid = |text: String| Err((Status::ERROR_INVALID_VALUE, text));
    for (what, found, limit) in [("grid", shape.grid, GRID_LIMIT), ("block", shape.block, BLOCK_LIMIT)] {
        if (0..3).any(|axis| found[axis] == 0 || found[axis] > limit[axis]) {
            return invalid(format!("{what} {found:?} is outside 1 to {limit:?}"));
        }
    }
    let threads: u32 = shape.block.iter().product();
    if threads > THREADS_PER_BLOCK {
        return invalid(format!("{threads} threads in a block; at most {THREADS_PER_BLOCK}"));
    }
    if let Some(limit) = allowed.threads.filter(|&limit| threads > limit) {
        let text = format!("{threads} threads in a block; the kernel was compiled for at most {limit}");
        return Err((Status::ERROR_LAUNCH_OUT_OF_RESOURCES, text));
    }
    if let Some(exact) = allowed.exact_block.filter(|&exact| exact != shape.block) {
        return invalid(format!(
            "a block of {:?}; the kernel was compiled for exactly {exact:?}",
            shape.block
        ));
    }
    let Shape { dynamic_shared, .. } = *shape;
    if dynamic_shared > allowed.dynamic_shared {
        let limit = allowed.dynamic_shared;
        return invalid(format!(
            "{dynamic_shared} bytes of dynamic shared memory; the function's attribute allows {limit}"
        ));
    }
    let (shared, limit) =
        (u64::from(allowed.static_shared) + u64::from(dynamic_shared), device.shared_per_block_optin);
    if shared > u64::from(limit) {
        return invalid(format!("{shared} bytes of shared memory in a block; {} has {limit}", device.name));
    }
    Ok(())
}

/// Refuses a cooperative launch whose blocks do not all fit the device at once.
pub(crate) fn check_cooperative(
    device: &Device,
    static_shared: u32,
    shape: &Shape,
) -> Result<(), (Status, String)> {
    let threads: u32 = shape.block.iter().product();
    let resident = device.resident_blocks(threads, static_shared + shape.dynamic_shared);
    let (room, blocks) = (
        u64::from(resident) * u64::from(device.multiprocessors),
        shape.grid.iter().map(|&n| u64::from(n)).product::<u64>(),
    );
    if blocks > room {
        let text = format!("{blocks} blocks of a cooperative launch; {} holds {room} at once", device.name);
        return Err((Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{DEVICES, by_key};

    const PLAIN: Allowed =
        Allowed { static_shared: 0, dynamic_shared: 48 << 10, threads: None, exact_block: None };
    const FITS: Shape = Shape { grid: [8, 1, 1], block: [256, 1, 1], dynamic_shared: 0 };

    fn refusal(allowed: Allowed, shape: Shape) -> Option<Status> {
        check(&DEVICES[0], allowed, &shape).err().map(|(status, _)| status)
    }

    #[test]
    fn limits_are_refused_with_the_codes_of_hardware() {
        let invalid = Some(Status::ERROR_INVALID_VALUE);
        assert_eq!(refusal(PLAIN, FITS), None);
        assert_eq!(refusal(PLAIN, Shape { grid: [0, 1, 1], ..FITS }), invalid);
        assert_eq!(refusal(PLAIN, Shape { grid: [1, 65536, 1], ..FITS }), invalid);
        assert_eq!(refusal(PLAIN, Shape { block: [1024, 2, 1], ..FITS }), invalid);
        assert_eq!(refusal(PLAIN, Shape { block: [1, 1, 65], ..FITS }), invalid);
        assert_eq!(refusal(PLAIN, Shape { dynamic_shared: (48 << 10) + 1, ..FITS }), invalid);
        let bounded = Allowed { threads: Some(128), ..PLAIN };
        assert_eq!(refusal(bounded, FITS), Some(Status::ERROR_LAUNCH_OUT_OF_RESOURCES));
        let exact = Allowed { exact_block: Some([16, 16, 1]), ..PLAIN };
        assert_eq!(refusal(exact, FITS), invalid);
        assert_eq!(refusal(exact, Shape { block: [16, 16, 1], ..FITS }), None);
        let raised = Allowed { dynamic_shared: 163 << 10, ..PLAIN };
        assert_eq!(refusal(raised, Shape { dynamic_shared: 163 << 10, ..FITS }), None);
        let with_static = Allowed { static_shared: 1, ..raised };
        assert_eq!(refusal(with_static, Shape { dynamic_shared: 163 << 10, ..FITS }), invalid);
        let small =
            check(by_key("rtx4090").expect("known"), raised, &Shape { dynamic_shared: 100 << 10, ..FITS });
        assert!(small.expect_err("99 KiB").1.contains("102400 bytes"));
    }

    #[test]
    fn a_cooperative_grid_must_fit_at_once() {
        let shape = Shape { grid: [108 * 8, 1, 1], ..FITS };
        assert!(check_cooperative(&DEVICES[0], 0, &shape).is_ok());
        assert!(check_cooperative(&DEVICES[0], 0, &Shape { grid: [108 * 8 + 1, 1, 1], ..FITS }).is_err());
    }
}
