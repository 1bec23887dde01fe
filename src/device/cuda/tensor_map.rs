//! Tensor maps: how the copies of Hopper's kernels find the tiles of a matrix.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use cudarc::driver::DriverError;
use cudarc::driver::sys::{
    self, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle,
};
use half::bf16;

use super::buffer::View;
use super::failed;
use crate::base::Result;

/// A matrix and the tiles in which it is copied to shared memory, as the driver encodes them.
#[derive(Clone, Debug)]
pub struct TensorMap<'a> {
    pub(super) map: CUtensorMap,
    life: PhantomData<&'a bf16>,
}

impl<'a> TensorMap<'a> {
    /// `rows` x `cols` elements, rows `stride` apart (a multiple of 8), in tiles of `tile` rows and columns. A line of a
    /// tile is 128 bytes, 64 columns: their 16-byte units are swizzled. What a tile has beyond the matrix is read as 0.
    pub fn new(
        values: View<'a, bf16>,
        [rows, cols]: [usize; 2],
        stride: usize,
        tile: [u32; 2],
    ) -> Result<Self> {
        assert!(values.len() >= (rows - 1) * stride + cols, "a tensor map of more than the slice");
        let size = size_of::<bf16>() as u64;
        let (shape, strides) = ([cols as u64, rows as u64], [stride as u64 * size]);
        let (tile, every) = ([tile[1], tile[0]], [1, 1]);
        let mut map = MaybeUninit::<CUtensorMap>::uninit();
        // SAFETY: the driver reads two dimensions of each list and writes the map; it does not touch the matrix.
        #[expect(unsafe_code, reason = "a call of the driver")]
        let status = unsafe {
            sys::cuTensorMapEncodeTiled(
                map.as_mut_ptr(),
                CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                values.address as *mut c_void,
                shape.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                every.as_ptr(),
                CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        let encoded = if status == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(DriverError(status)) };
        encoded.map_err(|e| failed("encode a tensor map", e))?;
        // SAFETY: the driver has written it.
        #[expect(unsafe_code, reason = "written by the driver")]
        let map = unsafe { map.assume_init() };
        Ok(Self { map, life: PhantomData })
    }
}
