//! Launching kernels, safely enough to be called from `ops`.
//!
//! What makes a launch sound, and who sees to it:
//! - every pointer is a live, borrowed device buffer, and memory is freed in stream order: the types here;
//! - arguments have the number, the types and the constness that the kernel's source declares: checked here,
//!   at every launch;
//! - the buffers are as long, and as aligned, as the head of the kernel's file says: the op checks that before it
//!   launches, and the test kit finds every access that leaves its buffer.
//!
//! Device memory is never seen through a Rust reference, so a faulty kernel spoils results or stops the
//! device with an error. Only where a GPU may address all of the host's memory (coherent systems) could a wild
//! pointer reach Rust's own; that no kernel of ours leaves its buffers is what the test kit is for.

use std::ffi::c_void;
use std::marker::PhantomData;

use cudarc::driver::result;

use super::buffer::{Element, Slice, View, ViewMut};
use super::signature::{Parameter, Type};
use super::tensor_map::TensorMap;
use super::{Cuda, failed};
use crate::base::Result;

/// A kernel: a file under `kernels/`, without `.cu`, and an entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Such as `attention/forward`.
    pub file: &'static str,
    /// Such as `attention_forward_bf16`.
    pub name: &'static str,
}

impl Entry {
    /// The entry `name` of the file `file`.
    pub const fn new(file: &'static str, name: &'static str) -> Self {
        Self { file, name }
    }
}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z. If one is 0, nothing is launched.
    pub blocks: [u32; 3],
    /// Threads of a block, all along x.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
}

impl Grid {
    /// `blocks` blocks in a line.
    pub fn line(blocks: usize, threads: u32) -> Self {
        Self::of([blocks, 1, 1], threads)
    }

    /// Blocks along x, y and z.
    pub fn of(blocks: [usize; 3], threads: u32) -> Self {
        let blocks = blocks.map(|n| u32::try_from(n).expect("a grid of fewer than 2^32 blocks"));
        Self { blocks, threads, shared: 0 }
    }

    /// The same with `bytes` of dynamic shared memory.
    #[must_use]
    pub fn shared(self, bytes: usize) -> Self {
        Self { shared: u32::try_from(bytes).expect("shared memory below 4 GiB"), ..self }
    }
}

/// An argument of a kernel: a borrowed buffer or a value.
#[derive(Debug)]
pub struct Arg<'a> {
    kind: Kind,
    value: Value<'a>,
    life: PhantomData<&'a mut ()>,
}

/// What the parameter's bytes are.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    /// The address or the value, as its low bytes.
    Bits(u64),
    Map(&'a TensorMap<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The pointer that is no buffer: fits every pointer.
    Null,
    Is(Parameter),
}

impl<'a> Arg<'a> {
    fn new(kind: Kind, bits: u64) -> Self {
        Self { kind, value: Value::Bits(bits), life: PhantomData }
    }

    fn pointer<T: Element>(address: u64, writable: bool) -> Self {
        Self::new(Kind::Is(Parameter::Pointer { to: T::TYPE, writable }), address)
    }

    /// No buffer, where the kernel takes one or none.
    pub fn null() -> Self {
        Self::new(Kind::Null, 0)
    }

    /// The buffer, or none.
    pub fn optional<T: Element>(view: Option<View<'a, T>>) -> Self {
        view.map_or_else(Self::null, Self::from)
    }

    /// A dimension or a count, as the kernel's `int`.
    pub fn int(n: usize) -> Self {
        i32::try_from(n).expect("a dimension below 2^31").into()
    }

    /// The memory of an output once more, for a kernel that reads it as an input before it writes.
    #[must_use]
    pub fn as_input(&self) -> Self {
        let kind = match self.kind {
            Kind::Is(Parameter::Pointer { to, .. }) => Kind::Is(Parameter::Pointer { to, writable: false }),
            kind => kind,
        };
        Self { kind, ..*self }
    }

    /// Where its bytes lie.
    fn pointer_to(&self) -> *mut c_void {
        let bytes: *const c_void = match &self.value {
            Value::Bits(bits) => (&raw const *bits).cast(),
            Value::Map(map) => (&raw const map.map).cast(),
        };
        bytes.cast_mut()
    }

    fn fits(&self, parameter: Parameter) -> bool {
        match self.kind {
            Kind::Null => matches!(parameter, Parameter::Pointer { .. }),
            Kind::Is(kind) => kind == parameter,
        }
    }
}

impl<'a, T: Element> From<&'a Slice<T>> for Arg<'a> {
    fn from(slice: &'a Slice<T>) -> Self {
        slice.view().into()
    }
}

impl<'a, T: Element> From<&'a mut Slice<T>> for Arg<'a> {
    fn from(slice: &'a mut Slice<T>) -> Self {
        slice.view_mut().into()
    }
}

impl<'a, T: Element> From<View<'a, T>> for Arg<'a> {
    fn from(view: View<'a, T>) -> Self {
        Self::pointer::<T>(view.address, false)
    }
}

impl<'a, T: Element> From<ViewMut<'a, T>> for Arg<'a> {
    fn from(view: ViewMut<'a, T>) -> Self {
        Self::pointer::<T>(view.address, true)
    }
}

impl<'a> From<&'a TensorMap<'a>> for Arg<'a> {
    fn from(map: &'a TensorMap<'a>) -> Self {
        Self { kind: Kind::Is(Parameter::TensorMap), value: Value::Map(map), life: PhantomData }
    }
}

macro_rules! values {
    ($($rust:ty => $name:ident, $bits:expr);+ $(;)?) => { $(
        impl From<$rust> for Arg<'_> {
            fn from(value: $rust) -> Self {
                Self::new(Kind::Is(Parameter::Value(Type::$name)), $bits(value))
            }
        }
    )+ };
}
values! {
    f32 => F32, |value: f32| value.to_bits().into();
    f64 => F64, f64::to_bits;
    i32 => I32, |value: i32| value.cast_unsigned().into();
    u32 => U32, u64::from;
    i64 => I64, i64::cast_unsigned;
    u64 => U64, |value: u64| value;
}

impl Cuda {
    /// Queues a kernel. Arguments that do not fit its declaration are a panic: a bug of the op.
    pub fn launch(&self, entry: Entry, grid: Grid, arguments: &[Arg<'_>]) -> Result<()> {
        let Entry { file, name } = entry;
        let function = self.modules.function(entry)?;
        let declared = &function.parameters;
        assert_eq!(arguments.len(), declared.len(), "{file}.cu: `{name}`: number of arguments");
        for (i, (argument, &parameter)) in arguments.iter().zip(declared).enumerate() {
            let kind = argument.kind;
            assert!(
                argument.fits(parameter),
                "{file}.cu: `{name}`: argument {i} is {kind:?}, needed {parameter:?}"
            );
        }
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let fail = |e| failed(&format!("launch `{name}`"), e);
        self.context.bind_to_thread().map_err(fail)?;
        function.allow_shared(grid.shared).map_err(fail)?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(Arg::pointer_to).collect();
        let [x, y, z] = grid.blocks;
        // SAFETY: the function belongs to a module that `self.modules` keeps loaded; the arguments were just
        // held against its declaration: 8 bytes or a tensor map where it wants one; the driver copies them
        // before it returns; buffers live as the module's head says.
        #[expect(unsafe_code, reason = "runs code that Rust does not see")]
        let launched = unsafe {
            result::launch_kernel(
                function.handle.cu_function(),
                (x, y, z),
                (grid.threads, 1, 1),
                grid.shared,
                self.stream.cu_stream(),
                &mut pointers,
            )
        };
        launched.map_err(fail)
    }
}
