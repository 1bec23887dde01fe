//! NCCL's types and reductions: always in the order of ranks, so that results repeat.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// `ncclDataType_t`, without FP8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DataType {
    I8,
    U8,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
    Bf16,
}

/// `ncclRedOp_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operator {
    Sum,
    Product,
    Max,
    Min,
    Average,
}

impl DataType {
    /// By NCCL's number.
    pub(crate) fn new(number: i32) -> Option<Self> {
        use DataType::{Bf16, F16, F32, F64, I8, I32, I64, U8, U32, U64};
        [I8, U8, I32, U32, I64, U64, F16, F32, F64, Bf16].get(usize::try_from(number).ok()?).copied()
    }

    /// Size of one element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }
}

impl Operator {
    /// By NCCL's number.
    pub(crate) fn new(number: i32) -> Option<Self> {
        let all = [Self::Sum, Self::Product, Self::Max, Self::Min, Self::Average];
        all.get(usize::try_from(number).ok()?).copied()
    }
}

/// An element type: how to read and write it, and how two combine.
trait Element: Copy {
    /// What sums are kept in; 16-bit floats are rounded once, at the end.
    type Sum: Copy;
    fn read(bytes: &[u8]) -> Self::Sum;
    fn write(value: Self::Sum, bytes: &mut [u8]);
    fn combine(operator: Operator, a: Self::Sum, b: Self::Sum) -> Self::Sum;
    fn divide(value: Self::Sum, by: usize) -> Self::Sum;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Element for $type {
            type Sum = Self;

            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("one element"))
            }

            fn write(value: Self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }

            fn combine(operator: Operator, a: Self, b: Self) -> Self {
                match operator {
                    Operator::Sum | Operator::Average => a.wrapping_add(b),
                    Operator::Product => a.wrapping_mul(b),
                    Operator::Max => a.max(b),
                    Operator::Min => a.min(b),
                }
            }

            fn divide(value: Self, by: usize) -> Self {
                value / by as Self
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty, $sum:ty, $round:expr;)*) => {$(
        impl Element for $type {
            type Sum = $sum;

            fn read(bytes: &[u8]) -> $sum {
                <$sum>::from(Self::from_le_bytes(bytes.try_into().expect("one element")))
            }

            fn write(value: $sum, bytes: &mut [u8]) {
                let round: fn($sum) -> Self = $round;
                bytes.copy_from_slice(&round(value).to_le_bytes());
            }

            fn combine(operator: Operator, a: $sum, b: $sum) -> $sum {
                match operator {
                    Operator::Sum | Operator::Average => a + b,
                    Operator::Product => a * b,
                    Operator::Max => a.max(b),
                    Operator::Min => a.min(b),
                }
            }

            fn divide(value: $sum, by: usize) -> $sum {
                value / by as $sum
            }
        }
    )*};
}

integers! { i8 u8 i32 u32 i64 u64 }
floats! {
    f16, f32, Self::from_f32;
    bf16, f32, Self::from_f32;
    f32, f32, |value| value;
    f64, f64, |value| value;
}

/// Combines the ranks' buffers, all of one length, element by element, first rank first.
pub(crate) fn reduce(data_type: DataType, operator: Operator, ranks: &[&[u8]]) -> Vec<u8> {
    match data_type {
        DataType::I8 => reduce_as::<i8>(operator, ranks),
        DataType::U8 => reduce_as::<u8>(operator, ranks),
        DataType::I32 => reduce_as::<i32>(operator, ranks),
        DataType::U32 => reduce_as::<u32>(operator, ranks),
        DataType::I64 => reduce_as::<i64>(operator, ranks),
        DataType::U64 => reduce_as::<u64>(operator, ranks),
        DataType::F16 => reduce_as::<f16>(operator, ranks),
        DataType::F32 => reduce_as::<f32>(operator, ranks),
        DataType::F64 => reduce_as::<f64>(operator, ranks),
        DataType::Bf16 => reduce_as::<bf16>(operator, ranks),
    }
}

fn reduce_as<E: Element>(operator: Operator, ranks: &[&[u8]]) -> Vec<u8> {
    let size = size_of::<E>();
    let mut result = vec![0; ranks[0].len()];
    for (index, out) in result.chunks_exact_mut(size).enumerate() {
        let element = |rank: &&[u8]| E::read(&rank[index * size..][..size]);
        let mut sum =
            ranks.iter().map(element).reduce(|a, b| E::combine(operator, a, b)).expect("one rank at least");
        if operator == Operator::Average {
            sum = E::divide(sum, ranks.len());
        }
        E::write(sum, out);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn reductions_follow_the_order_of_ranks() {
        let ranks = [bytes(&[1e8, 1.0]), bytes(&[-1e8, 2.0]), bytes(&[1.0, 6.0])];
        let ranks: Vec<&[u8]> = ranks.iter().map(Vec::as_slice).collect();
        // In another order the one would be lost in the large numbers.
        assert_eq!(reduce(DataType::F32, Operator::Sum, &ranks), bytes(&[1.0, 9.0]));
        assert_eq!(reduce(DataType::F32, Operator::Average, &ranks), bytes(&[1.0 / 3.0, 3.0]));
        assert_eq!(reduce(DataType::F32, Operator::Max, &ranks), bytes(&[1e8, 6.0]));
        assert_eq!(reduce(DataType::I8, Operator::Product, &[&[3, 255], &[5, 2]]), [15, 254]);
    }

    #[test]
    fn sixteen_bit_floats_are_rounded_once() {
        let value = |x: f32| bf16::from_f32(x).to_le_bytes();
        // 256 + 1 + 1 is 258 in f32; rounding after each addition would stay at 256.
        let sum = reduce(DataType::Bf16, Operator::Sum, &[&value(256.0), &value(1.0), &value(1.0)]);
        assert_eq!(sum, value(258.0));
    }
}
