//! `cuTensorMapEncodeTiled`.

use ptx::TensorMap;
use ptx::memory::swizzle::Swizzle;
use ptx::memory::tensor_map::{Element, Fill};

use super::pointers::{In, Out};
use crate::run::lock;
use crate::status::Status;

/// `CUtensorMap` must be aligned to this.
const ALIGNMENT: usize = 64;

super::exports! {
    fn cuTensorMapEncodeTiled(
        map: Out<[u8; 128]>, data_type: u32, rank: u32, address: u64, shape: In<u64>, strides: In<u64>, tile: In<u32>,
        element_strides: In<u32>, interleave: u32, swizzle: u32, _l2_promotion: u32, fill: u32,
    ) {
        let driver = lock();
        if driver.config.device.capability.0 < 9 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let invalid = |why: String| {
            eprintln!("[libcuda] cuTensorMapEncodeTiled: {why}");
            Status::ERROR_INVALID_VALUE
        };
        if !map.address().is_multiple_of(ALIGNMENT) {
            return Err(invalid(format!("the map's own address is no multiple of {ALIGNMENT}")));
        }
        if interleave != 0 {
            return Err(invalid("interleaved layouts are not modelled".to_owned()));
        }
        if !(1..=5).contains(&rank) {
            return Err(invalid(format!("{rank} dimensions; 1 to 5")));
        }
        let dimensions = rank as usize;
        let unknown = |what: &str, code: u32| invalid(format!("{what} {code} is not modelled"));
        let swizzle_bytes = if swizzle == 0 { 0 } else { 16u32.checked_shl(swizzle).unwrap_or(0) };
        let tensor = TensorMap {
            address,
            element: Element::from_code(data_type).ok_or_else(|| unknown("data type", data_type))?,
            shape: shape.slice(dimensions)?,
            strides: strides.slice(dimensions - 1)?,
            tile: tile.slice(dimensions)?,
            element_strides: element_strides.slice(dimensions)?,
            swizzle: Swizzle::from_bytes(swizzle_bytes).ok_or_else(|| unknown("swizzle", swizzle))?,
            fill: match fill {
                0 => Fill::Zero,
                1 => Fill::Nan,
                _ => return Err(unknown("fill", fill)),
            },
        };
        tensor.check().map_err(invalid)?;
        map.set(tensor.encode())
    }
}
