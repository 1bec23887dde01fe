//! Kernels ready to launch: compiled on first use, kept in memory and, compiled, on disk.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs};

use cudarc::driver::sys::{CUfunction_attribute_enum as Attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;

use super::nvrtc::{Form, Nvrtc, Target};
use super::signature::{self, Parameter};
use super::sources::{Source, Sources};
use super::{Entry, failed};
use crate::base::{Result, files, hash};

/// The modules of one device.
#[derive(Debug)]
pub(super) struct Modules {
    context: Arc<CudaContext>,
    nvrtc: Nvrtc,
    form: Form,
    capability: u32,
    sources: Sources,
    cache: Option<PathBuf>,
    files: Mutex<HashMap<&'static str, Arc<File>>>,
    functions: Mutex<HashMap<Entry, Arc<Function>>>,
}

/// A loaded `.cu` file.
#[derive(Debug)]
struct File {
    source: Source,
    module: Arc<CudaModule>,
}

/// An entry that can be launched.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) handle: CudaFunction,
    pub(super) parameters: Vec<Parameter>,
    /// Bytes of dynamic shared memory that launches may ask for so far.
    shared: AtomicU32,
}

impl Modules {
    pub(super) fn new(
        context: Arc<CudaContext>,
        nvrtc: Nvrtc,
        (form, capability): (Form, u32),
        sources: Sources,
        cache: Option<PathBuf>,
    ) -> Result<Self> {
        let (files, functions) = Default::default();
        let mut modules = Self { context, nvrtc, form, capability, sources, cache, files, functions };
        if form == Form::Cubin && !modules.takes_machine_code()? {
            modules.form = Form::Ptx;
        }
        Ok(modules)
    }

    /// Whether the driver takes machine code for its own device; one that executes PTX only does not. A kernel that
    /// does nothing asks: the others take seconds to compile.
    fn takes_machine_code(&self) -> Result<bool> {
        let text = Cow::Borrowed("extern \"C\" __global__ void nothing() {}");
        match self.load(&Source { path: "nothing.cu".into(), text, headers: Vec::new() })? {
            Err(DriverError(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU)) => Ok(false),
            loaded => loaded.map(|_| true).map_err(|e| failed("load a module", e)),
        }
    }

    /// The entry, compiled and loaded if need be.
    pub(super) fn function(&self, entry: Entry) -> Result<Arc<Function>> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = functions.get(&entry) {
            return Ok(Arc::clone(found));
        }
        let file = self.file(entry.file)?;
        let in_file = |e: crate::base::Error| e.file(&file.source.path).key(entry.name);
        let parameters = signature::parameters(&file.source.text, entry.name).map_err(in_file)?;
        let handle = file.module.load_function(entry.name);
        let handle = handle.map_err(|e| in_file(failed("find the entry", e)))?;
        let function = Arc::new(Function { handle, parameters, shared: AtomicU32::new(0) });
        functions.insert(entry, Arc::clone(&function));
        Ok(function)
    }

    fn file(&self, name: &'static str) -> Result<Arc<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = files.get(name) {
            return Ok(Arc::clone(found));
        }
        let source = self.sources.read(name)?;
        let module = self.load(&source)?.map_err(|e| failed("load the module", e).file(&source.path))?;
        let file = Arc::new(File { source, module });
        files.insert(name, Arc::clone(&file));
        Ok(file)
    }

    /// Compiles a file and hands it to the driver, whose answer is the inner result.
    fn load(&self, source: &Source) -> Result<std::result::Result<Arc<CudaModule>, DriverError>> {
        let target = Target::new(self.form, self.capability, source);
        let image = compile(&self.nvrtc, source, target, self.cache.as_deref())?;
        Ok(self.context.load_module(Ptx::from_binary(image)))
    }
}

/// The compiled file, from the folder `cache` if it is there; else compiled, and kept there.
pub fn compile(nvrtc: &Nvrtc, source: &Source, target: Target, cache: Option<&Path>) -> Result<Vec<u8>> {
    let key = hash::sha256_lines([source.hash().as_str(), &nvrtc.recipe(target)]);
    let path = cache.map(|folder| folder.join(key));
    if let Some(found) = path.as_ref().and_then(|path| fs::read(path).ok()) {
        return Ok(found);
    }
    let image = nvrtc.compile(source, target, &[])?.bytes;
    // A cache that cannot be written costs time, not the run.
    if let (Some(path), Some(folder)) = (&path, cache) {
        let written = files::create_folder(folder).and_then(|()| files::write_atomic(path, &image));
        if let Err(e) = written {
            tracing::warn!("compiled kernels are not kept: {e}");
        }
    }
    Ok(image)
}

impl Function {
    /// Lets launches use `bytes` of dynamic shared memory; beyond 48 KiB a kernel must be told.
    pub(super) fn allow_shared(&self, bytes: u32) -> std::result::Result<(), DriverError> {
        if bytes > self.shared.load(Ordering::Relaxed) {
            let which = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.handle.set_attribute(which, bytes.cast_signed())?;
            self.shared.fetch_max(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Where compiled kernels are kept: `$XDG_CACHE_HOME/preceptor/kernels`, or under `~/.cache`.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("preceptor/kernels"))
}
