//! NVRTC, the compiler that NVIDIA ships as a library: CUDA C++ in, CUBIN or PTX out. It needs no GPU.
//!
//! The library is found at run time, and its functions are bound here by name: so a missing library or an old
//! one is an error with a hint, and an explicit path means that file and no other.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::{fmt, fs};

use libloading::Library;

use super::library;
use super::sources::Source;
use crate::base::{Error, Result};

/// The names that are tried, newest first.
const NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/// Options of every compilation. `-lineinfo` costs nothing at run time and gives profilers, and the checks
/// of the test kit, the line of each instruction.
const OPTIONS: &[&str] = &["--std=c++17", "-default-device", "-lineinfo"];

/// The version of the compiler that the system's loader finds.
pub fn compiler() -> Option<(u32, u32)> {
    Nvrtc::open(None).ok().map(|nvrtc| nvrtc.version)
}

/// What to compile for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// What comes out.
    pub form: Form,
    /// The compute capability, 10 major + minor.
    pub capability: u32,
    /// Whether instructions may be used that this capability alone has.
    pub alone: bool,
}

/// What a compilation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Machine code for one compute capability; the assembler checks every instruction.
    Cubin,
    /// PTX, for this capability and later ones. Inline assembly passes through unchecked.
    Ptx,
}

impl Target {
    /// For a file that needs the capability [`Source::only`], or any.
    pub fn new(form: Form, capability: u32, source: &Source) -> Self {
        Self { form, capability, alone: source.only() == Some(capability) }
    }
}

/// As NVRTC's `--gpu-architecture` wants it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.form == Form::Cubin { "sm" } else { "compute" };
        write!(f, "{form}_{}{}", self.capability, if self.alone { "a" } else { "" })
    }
}

/// A compiled file.
#[derive(Clone, Debug)]
pub struct Image {
    /// An ELF file for [`Form::Cubin`]; text that ends in a zero byte for [`Form::Ptx`].
    pub bytes: Vec<u8>,
    /// What the compiler had to say.
    pub log: String,
}

type Status = c_int;
type Program = *mut c_void;
type Texts = *const *const c_char;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> Status;
type GetBytes = unsafe extern "C" fn(Program, *mut c_char) -> Status;

/// The compiler.
#[derive(Debug)]
pub struct Nvrtc {
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, Texts) -> Status,
    log: (GetSize, GetBytes),
    cubin: (GetSize, GetBytes),
    ptx: (GetSize, GetBytes),
    version: (u32, u32),
    capabilities: Vec<u32>,
    // Last: the functions above live in it.
    _library: Library,
}

impl Nvrtc {
    /// Opens the library at `path`, or the newest that the system's loader finds.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let found = NAMES.iter().find_map(|name| library::open(name).ok());
            let library = found.ok_or_else(|| {
                Error::environment(format!("NVRTC was not found, needed one of {NAMES:?}"))
                    .hint("install the CUDA toolkit or its NVRTC package, where the loader finds it")
            })?;
            return Self::bind(library).map_err(|e| Error::environment(format!("NVRTC: {e}")));
        };
        // The compiler asks for its built-ins by name alone, also where the loader does not look beside it.
        let folder = path.parent().and_then(|folder| fs::read_dir(folder).ok());
        for file in folder.into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so.") {
                library::preload(&file.path())?;
            }
        }
        let bound = library::open(path).and_then(|library| Self::bind(library).map_err(|e| e.to_string()));
        bound.map_err(|e| Error::input(e).file(path))
    }

    #[expect(unsafe_code, reason = "a symbol's type is what the caller says it is")]
    fn bind(library: Library) -> std::result::Result<Self, libloading::Error> {
        // SAFETY: the names and types are those of nvrtc.h, unchanged since CUDA 11.2; the two calls write
        // what they are given room for: two ints, one int, and as many ints as the second call said.
        unsafe {
            let (mut major, mut minor) = (0, 0);
            let version =
                library.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status>(b"nvrtcVersion\0")?;
            version(&mut major, &mut minor);
            let mut count = 0;
            library.get::<unsafe extern "C" fn(*mut c_int) -> Status>(b"nvrtcGetNumSupportedArchs\0")?(
                &mut count,
            );
            let mut capabilities: Vec<c_int> = vec![0; count.unsigned_abs() as usize];
            let list =
                library.get::<unsafe extern "C" fn(*mut c_int) -> Status>(b"nvrtcGetSupportedArchs\0")?;
            list(capabilities.as_mut_ptr());
            Ok(Self {
                error_string: *library.get(b"nvrtcGetErrorString\0")?,
                create: *library.get(b"nvrtcCreateProgram\0")?,
                destroy: *library.get(b"nvrtcDestroyProgram\0")?,
                compile: *library.get(b"nvrtcCompileProgram\0")?,
                log: (*library.get(b"nvrtcGetProgramLogSize\0")?, *library.get(b"nvrtcGetProgramLog\0")?),
                cubin: (*library.get(b"nvrtcGetCUBINSize\0")?, *library.get(b"nvrtcGetCUBIN\0")?),
                ptx: (*library.get(b"nvrtcGetPTXSize\0")?, *library.get(b"nvrtcGetPTX\0")?),
                version: (major.unsigned_abs(), minor.unsigned_abs()),
                capabilities: capabilities.into_iter().map(c_int::unsigned_abs).collect(),
                _library: library,
            })
        }
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// What to compile for a device: its machine code or, if it is newer than this compiler, the newest PTX.
    pub fn target(&self, capability: u32) -> Result<(Form, u32)> {
        if self.capabilities.contains(&capability) {
            return Ok((Form::Cubin, capability));
        }
        let older = self.capabilities.iter().copied().filter(|&known| known < capability).max();
        older.map(|older| (Form::Ptx, older)).ok_or_else(|| {
            let (major, minor) = self.version;
            let what = format!("NVRTC {major}.{minor} does not compile for compute capability {capability}");
            Error::environment(what).hint("install an older NVRTC")
        })
    }

    /// All that decides what an image is, but for the source.
    pub(super) fn recipe(&self, target: Target) -> String {
        let (major, minor) = self.version;
        format!("NVRTC {major}.{minor} {target} {}", OPTIONS.join(" "))
    }

    /// Compiles `source`, with `extra` options after the usual ones. The error holds the compiler's log.
    pub fn compile(&self, source: &Source, target: Target, extra: &[&str]) -> Result<Image> {
        let text = |text: &str| CString::new(text).map_err(|_| failed(source, "its text holds a zero byte"));
        let texts = |texts: Vec<&str>| texts.into_iter().map(text).collect::<Result<Vec<CString>>>();
        let architecture = format!("--gpu-architecture={target}");
        let options = texts([OPTIONS, &[architecture.as_str()], extra].concat())?;
        let headers = texts(source.headers.iter().map(|(_, text)| &**text).collect())?;
        let names = texts(source.headers.iter().map(|(path, _)| *path).collect())?;
        let (body, name) = (text(&source.text)?, text(&source.path)?);
        let program =
            Compilation::start(self, &body, &name, &headers, &names).map_err(|e| failed(source, &e))?;
        let done = program.run(&options);
        let log = program.get(self.log).map_err(|e| failed(source, &e))?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        done.map_err(|e| failed(source, &format!("it does not compile for {target}: {e}\n{log}")))?;
        let getters = if target.form == Form::Cubin { self.cubin } else { self.ptx };
        Ok(Image { bytes: program.get(getters).map_err(|e| failed(source, &e))?, log })
    }

    fn check(&self, status: Status) -> std::result::Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the function takes any number and returns a string that is never freed.
        #[expect(unsafe_code, reason = "a foreign string")]
        let words = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(words.to_string_lossy().into_owned())
    }
}

fn failed(source: &Source, what: &str) -> Error {
    Error::input(what).file(&source.path)
}

/// One program of NVRTC, destroyed when dropped.
struct Compilation<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

#[expect(unsafe_code, reason = "NVRTC takes C strings and fills buffers")]
impl<'a> Compilation<'a> {
    fn start(
        nvrtc: &'a Nvrtc,
        text: &CStr,
        name: &CStr,
        headers: &[CString],
        names: &[CString],
    ) -> std::result::Result<Self, String> {
        let (headers, names) = (pointers(headers), pointers(names));
        let mut program = ptr::null_mut();
        // SAFETY: all strings end in zero and live through the call, which copies them; there are as many
        // headers as names.
        nvrtc.check(unsafe {
            let count = headers.len() as c_int;
            (nvrtc.create)(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                count,
                headers.as_ptr(),
                names.as_ptr(),
            )
        })?;
        Ok(Self { nvrtc, program })
    }

    fn run(&self, options: &[CString]) -> std::result::Result<(), String> {
        let options = pointers(options);
        // SAFETY: the program is alive, and so are the options during the call.
        self.nvrtc
            .check(unsafe { (self.nvrtc.compile)(self.program, options.len() as c_int, options.as_ptr()) })
    }

    fn get(&self, (size, bytes): (GetSize, GetBytes)) -> std::result::Result<Vec<u8>, String> {
        let mut length = 0;
        // SAFETY: the program is alive; it writes one usize.
        self.nvrtc.check(unsafe { size(self.program, &mut length) })?;
        let mut out = vec![0; length];
        // SAFETY: it writes as many bytes as it has just said.
        self.nvrtc.check(unsafe { bytes(self.program, out.as_mut_ptr().cast()) })?;
        Ok(out)
    }
}

impl Drop for Compilation<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `start`, and destroyed here only.
        #[expect(unsafe_code, reason = "frees what NVRTC made")]
        unsafe {
            (self.nvrtc.destroy)(&mut self.program);
        }
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}
