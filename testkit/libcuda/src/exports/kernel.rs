//! Launches and occupancy.

use super::pointers::{Extra, In, Out, Parameters};
use crate::devices::{THREADS_PER_BLOCK, WARP};
use crate::launch::Shape;
use crate::run::lock;
use crate::status::{Outcome, Status};

fn launch(
    function: usize,
    shape: &Shape,
    cooperative: bool,
    stream: usize,
    parameters: &Parameters,
    extra: &Extra,
) -> Outcome {
    let mut driver = lock();
    let stream = driver.stream(stream)?;
    let kernel = driver.functions.get(function)?.kernel();
    let bytes = match (parameters.is_null(), extra.is_null()) {
        (true, false) => {
            let given = extra.gather()?;
            if given.len() < kernel.parameter_bytes as usize {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            given
        }
        _ => parameters.gather(kernel)?,
    };
    driver.launch(function, shape, cooperative, bytes, stream)
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Configuration {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    stream: usize,
    attributes: *const Attribute,
    count: u32,
}

/// `CUlaunchAttribute`: a number and 64 bytes that depend on it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Attribute {
    number: u32,
    padding: u32,
    value: [u32; 16],
}

const COOPERATIVE: u32 = 2;
const CLUSTER_DIMENSION: u32 = 4;

/// Whether the attributes ask for a cooperative launch. Clusters of more than one block are not modelled; the
/// other attributes (priorities, programmatic order, cache windows) change nothing that the documentation
/// promises.
fn is_cooperative(attributes: &[Attribute]) -> Outcome<bool> {
    let value = |wanted| attributes.iter().find(|a| a.number == wanted).map(|a| a.value);
    if value(CLUSTER_DIMENSION).is_some_and(|cluster| cluster[..3] != [1, 1, 1]) {
        eprintln!("[libcuda] cuLaunchKernelEx: clusters of more than one block are not modelled");
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    Ok(value(COOPERATIVE).is_some_and(|value| value[0] != 0))
}

/// The block size that keeps most threads resident, and how many such blocks the device holds at once.
fn best_block(function: usize, dynamic_shared: usize, limit: i32) -> Outcome<(i32, i32)> {
    let driver = lock();
    let own = driver.function_attribute(function, 0)?.min(THREADS_PER_BLOCK as i32);
    let limit = if limit > 0 { limit.min(own) } else { own };
    let mut best = (0, 0);
    for threads in (WARP as i32..=limit).rev().step_by(WARP as usize) {
        let blocks = driver.resident_blocks(function, threads, dynamic_shared)?;
        if blocks * threads > best.0 * best.1 {
            best = (blocks, threads);
        }
    }
    Ok((best.0 * driver.config.device.multiprocessors as i32, best.1))
}

super::exports! {
    fn cuLaunchKernel(
        function: usize, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        dynamic_shared: u32, stream: usize, parameters: Parameters, extra: Extra,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch(function, &Shape { grid, block, dynamic_shared }, false, stream, &parameters, &extra)
    }

    fn cuLaunchCooperativeKernel(
        function: usize, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        dynamic_shared: u32, stream: usize, parameters: Parameters,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch(function, &Shape { grid, block, dynamic_shared }, true, stream, &parameters, &Extra::none())
    }

    fn cuLaunchKernelEx(configuration: In<Configuration>, function: usize, parameters: Parameters, extra: Extra) {
        let Configuration { grid, block, dynamic_shared, stream, attributes, count } = configuration.get()?;
        let cooperative = is_cooperative(&In::new(attributes).slice(count as usize)?)?;
        launch(function, &Shape { grid, block, dynamic_shared }, cooperative, stream, &parameters, &extra)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: Out<i32>, function: usize, threads: i32, dynamic_shared: usize,
    ) {
        blocks.set(lock().resident_blocks(function, threads, dynamic_shared)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>, function: usize, threads: i32, dynamic_shared: usize, _flags: u32,
    ) {
        blocks.set(lock().resident_blocks(function, threads, dynamic_shared)?)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: usize, blocks: i32, _threads: i32) {
        let driver = lock();
        let own = driver.functions.get(function)?.kernel().static_shared;
        let blocks = u32::try_from(blocks).ok().filter(|&blocks| blocks > 0).ok_or(Status::ERROR_INVALID_VALUE)?;
        let device = driver.config.device;
        let each = (device.shared_per_multiprocessor / blocks).saturating_sub(crate::devices::SHARED_RESERVED);
        bytes.set(each.min(device.shared_per_block_optin).saturating_sub(own) as usize)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>, block: Out<i32>, function: usize, _size: usize, dynamic_shared: usize, limit: i32,
    ) {
        let best = best_block(function, dynamic_shared, limit)?;
        grid.set(best.0)?;
        block.set(best.1)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>, block: Out<i32>, function: usize, _size: usize, dynamic_shared: usize, limit: i32, _flags: u32,
    ) {
        let best = best_block(function, dynamic_shared, limit)?;
        grid.set(best.0)?;
        block.set(best.1)
    }
}
