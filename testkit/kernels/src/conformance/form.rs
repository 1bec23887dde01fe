//! One instruction form: its kernel on a device and in the interpreter.

use preceptor::base::{Error, Result};
use preceptor::device::cuda::nvrtc::{Form as Code, Target};
use preceptor::device::cuda::signature::{self, Parameter, Type};
use preceptor::device::cuda::{Arg, Cuda, Element, Entry, Grid, Nvrtc, Slice};

use super::closeness::Closeness;
use super::{FILES, SOURCES, inputs};

/// Blocks and threads of every form: whole warps, several blocks.
const BLOCKS: u32 = 8;
const THREADS: u32 = 128;
/// Values of each buffer: a thread has at most four.
const VALUES: usize = 4 * (BLOCKS * THREADS) as usize;

/// One entry of a file of `conformance/`.
pub struct Form {
    /// The file, without `.cu`.
    pub file: &'static str,
    /// The entry.
    pub name: &'static str,
    parameters: Vec<(Type, bool)>,
}

/// What a device computed for one form, beside the interpreter.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The output, raw.
    pub found: Vec<u8>,
    /// Values that differ by more than allowed.
    pub wrong: usize,
    /// The largest difference, as a part of what is allowed.
    pub worst: f64,
}

/// The interpreter's modules of all files.
pub struct Expected(Vec<(&'static str, ptx::Module)>);

impl Expected {
    /// Compiles the files to PTX of compute_80 and reads them.
    pub fn new(nvrtc: &Nvrtc) -> Result<Self> {
        let module = |&file: &&'static str| {
            let source = SOURCES.read(file)?;
            let image = nvrtc.compile(&source, Target::new(Code::Ptx, 80, &source), &[])?;
            let text = String::from_utf8_lossy(&image.bytes);
            let module = ptx::Module::parse(text.trim_end_matches('\0'))
                .map_err(|e| Error::input(format!("{file}.cu: {e}")))?;
            Ok((file, module))
        };
        FILES.iter().map(module).collect::<Result<_>>().map(Self)
    }
}

/// All forms.
pub fn forms() -> Result<Vec<Form>> {
    let mut forms = Vec::new();
    for file in FILES {
        let text = SOURCES.read(file)?.text;
        for name in signature::entries(&text) {
            let parameter = |parameter| match parameter {
                Parameter::Pointer { to, writable } => Ok((to, writable)),
                Parameter::Value(_) | Parameter::TensorMap => {
                    Err(Error::input(format!("`{name}` of {file}.cu takes a value; forms take buffers")))
                }
            };
            let parameters =
                signature::parameters(&text, &name)?.into_iter().map(parameter).collect::<Result<_>>()?;
            // entries are named for the life of the program, and there is one list of forms
            forms.push(Form { file, name: name.leak(), parameters });
        }
    }
    Ok(forms)
}

impl Form {
    /// Runs it on a device and in the interpreter.
    pub fn run(&self, cuda: &Cuda, expected: &Expected) -> Result<Outcome> {
        let inputs: Vec<Vec<u8>> = self.inputs();
        let found = self.on_device(cuda, &inputs)?;
        let expected = self.interpreted(expected, &inputs)?;
        let (wrong, worst) = Closeness::of(self.name).compare(self.parameters[0].0, &found, &expected);
        Ok(Outcome { found, wrong, worst })
    }

    /// The first content of each buffer; outputs are zero, so that what a form leaves alone is known.
    fn inputs(&self) -> Vec<Vec<u8>> {
        let content = |(index, &(ty, writable)): (usize, &(Type, bool))| {
            let values = inputs::random(ty, VALUES, self.name, index);
            if writable { vec![0; values.len()] } else { values }
        };
        self.parameters.iter().enumerate().map(content).collect()
    }

    fn on_device(&self, cuda: &Cuda, inputs: &[Vec<u8>]) -> Result<Vec<u8>> {
        let pairs = self.parameters.iter().zip(inputs);
        let mut buffers =
            pairs.map(|((ty, _), bytes)| Buffer::new(cuda, *ty, bytes)).collect::<Result<Vec<_>>>()?;
        let arguments: Vec<Arg<'_>> = buffers
            .iter_mut()
            .zip(&self.parameters)
            .map(|(buffer, (_, writable))| buffer.arg(*writable))
            .collect();
        cuda.launch(Entry::new(self.file, self.name), Grid::line(BLOCKS as usize, THREADS), &arguments)?;
        drop(arguments);
        buffers[0].bytes(cuda)
    }

    fn interpreted(&self, expected: &Expected, inputs: &[Vec<u8>]) -> Result<Vec<u8>> {
        let wrong = |what: String| Error::input(format!("`{}` of {}.cu: {what}", self.name, self.file));
        let module = expected.0.iter().find(|(file, _)| *file == self.file).map(|(_, module)| module);
        let kernel = module.and_then(|module| Some((module, module.kernel(self.name)?)));
        let (module, kernel) = kernel.ok_or_else(|| wrong("the PTX has no such entry".into()))?;
        let memory = ptx::Memory::new();
        let mut addresses = Vec::new();
        for bytes in inputs {
            let address = memory.allocate(bytes.len(), "buffer");
            memory.write(address, bytes).map_err(|e| wrong(e.to_string()))?;
            addresses.push(address);
        }
        let parameters: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
        let launch = ptx::Launch {
            kernel,
            grid: [BLOCKS, 1, 1],
            block: [THREADS, 1, 1],
            dynamic_shared: 0,
            parameters: &parameters,
        };
        let report = ptx::launch(module, &launch, &memory, &ptx::Options::default());
        if let Some(finding) = report.findings.first() {
            return Err(wrong(finding.to_string()));
        }
        let mut out = vec![0; inputs[0].len()];
        memory.read(addresses[0], &mut out).map_err(|e| wrong(e.to_string()))?;
        Ok(out)
    }
}

/// Device memory of a type that is known at run time.
enum Buffer {
    F32(Slice<f32>),
    F64(Slice<f64>),
    I32(Slice<i32>),
    U32(Slice<u32>),
    U64(Slice<u64>),
}

/// Runs `$body` with `$slice` bound to whatever the buffer holds.
macro_rules! each {
    ($buffer:expr, $slice:ident => $body:expr) => {
        match $buffer {
            Buffer::F32($slice) => $body,
            Buffer::F64($slice) => $body,
            Buffer::I32($slice) => $body,
            Buffer::U32($slice) => $body,
            Buffer::U64($slice) => $body,
        }
    };
}

impl Buffer {
    fn new(cuda: &Cuda, ty: Type, bytes: &[u8]) -> Result<Self> {
        fn upload<T: Element>(cuda: &Cuda, bytes: &[u8]) -> Result<Slice<T>> {
            let values: Vec<T> =
                bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
            cuda.upload(&values)
        }
        Ok(match ty {
            Type::F32 => Self::F32(upload(cuda, bytes)?),
            Type::F64 => Self::F64(upload(cuda, bytes)?),
            Type::I32 => Self::I32(upload(cuda, bytes)?),
            Type::U32 => Self::U32(upload(cuda, bytes)?),
            Type::U64 => Self::U64(upload(cuda, bytes)?),
            other => return Err(Error::input(format!("a conformance buffer of {other:?}"))),
        })
    }

    fn arg(&mut self, writable: bool) -> Arg<'_> {
        each!(self, slice => if writable { Arg::from(slice) } else { Arg::from(&*slice) })
    }

    fn bytes(&self, cuda: &Cuda) -> Result<Vec<u8>> {
        each!(self, slice => Ok(bytemuck::cast_slice(&cuda.download(slice)?).to_vec()))
    }
}
