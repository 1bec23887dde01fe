//! Modules of PTX text and their functions.

use std::sync::Arc;

use crate::devices::{Device, SHARED_PER_BLOCK, THREADS_PER_BLOCK};
use crate::driver::Driver;
use crate::launch::{self, Allowed, KernelLaunch, Shape};
use crate::status::{Outcome, Status};
use crate::streams::StreamId;
use crate::work::Work;

/// A loaded module.
pub(crate) struct Module {
    pub(crate) code: Arc<ptx::Module>,
    pub(crate) context: usize,
}

/// A kernel that the program looked up.
pub(crate) struct Function {
    pub(crate) code: Arc<ptx::Module>,
    /// Index in the module's kernels.
    pub(crate) index: usize,
    pub(crate) context: usize,
    /// `MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    pub(crate) dynamic_shared: u32,
}

impl Function {
    pub(crate) fn kernel(&self) -> &ptx::Kernel {
        &self.code.kernels[self.index]
    }

    fn allowed(&self) -> Allowed {
        let kernel = self.kernel();
        Allowed {
            static_shared: kernel.static_shared,
            dynamic_shared: self.dynamic_shared,
            threads: kernel.max_threads,
            exact_block: kernel.required_threads,
        }
    }
}

/// What a module's image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image<'a> {
    Text(&'a str),
    /// A CUBIN or a fat binary.
    Binary,
}

/// Refuses an image that the device cannot run; the text is the JIT compiler's error log.
pub(crate) fn compile(device: &Device, image: Image<'_>) -> Result<ptx::Module, (Status, String)> {
    let Image::Text(text) = image else {
        let log = "the image is machine code; the stand-in executes PTX".to_owned();
        return Err((Status::ERROR_NO_BINARY_FOR_GPU, log));
    };
    let invalid = |log: String| (Status::ERROR_INVALID_PTX, log);
    let module = ptx::Module::parse(text).map_err(invalid)?;
    if module.target.is_empty() {
        return Err(invalid("the text has no .target: it is no PTX".to_owned()));
    }
    if !device.runs(&module.target) {
        let (major, minor) = device.capability;
        let log =
            format!(".target {} does not run on {}, which is sm_{major}{minor}", module.target, device.name);
        return Err(invalid(log));
    }
    Ok(module)
}

impl Driver {
    /// Loads a module into the current context.
    pub(crate) fn module_load(&mut self, image: Image<'_>) -> Result<usize, (Status, String)> {
        let device = || -> Outcome<_> {
            let context = self.contexts.healthy()?;
            Ok((context, self.device(self.contexts.get(context)?.ordinal)?))
        };
        let (context, device) = device().map_err(|status| (status, String::new()))?;
        let mut code = compile(device, image)?;
        code.place(&self.memory.bytes).map_err(|log| (Status::ERROR_OUT_OF_MEMORY, log))?;
        Ok(self.modules.insert(Module { code: Arc::new(code), context }))
    }

    /// Address and bytes of a variable.
    pub(crate) fn module_variable(&self, module: usize, name: &str) -> Outcome<(u64, usize)> {
        let Module { code, .. } = self.modules.get(module)?;
        let variable =
            code.variables.iter().find(|variable| variable.name == name).ok_or(Status::ERROR_NOT_FOUND)?;
        Ok((variable.address.expect("variables are placed when a module is loaded"), variable.bytes as usize))
    }

    /// Ends a module and its functions; queued launches keep their code.
    pub(crate) fn module_unload(&mut self, module: usize) -> Outcome {
        let Module { code, .. } = self.modules.remove(module)?;
        self.functions.retain(|function| !Arc::ptr_eq(&function.code, &code));
        for variable in &code.variables {
            let address = variable.address.expect("variables are placed when a module is loaded");
            self.memory.bytes.free(address).map_err(|_| Status::ERROR_UNKNOWN)?;
        }
        Ok(())
    }

    pub(crate) fn module_function(&mut self, module: usize, name: &str) -> Outcome<usize> {
        let Module { code, context } = self.modules.get(module)?;
        let index =
            code.kernels.iter().position(|kernel| kernel.name == name).ok_or(Status::ERROR_NOT_FOUND)?;
        let dynamic_shared = SHARED_PER_BLOCK.saturating_sub(code.kernels[index].static_shared);
        let function = Function { code: Arc::clone(code), index, context: *context, dynamic_shared };
        Ok(self.functions.insert(function))
    }

    /// `CUfunction_attribute` by number. Registers are unknown: PTX has no allocation, so their number is
    /// zero.
    pub(crate) fn function_attribute(&self, function: usize, number: i32) -> Outcome<i32> {
        let function = self.functions.get(function)?;
        let (major, minor) = self.config.device.capability;
        let kernel = function.kernel();
        let value = match number {
            0 => {
                let exact = kernel.required_threads.map(|block| block.iter().product());
                exact.or(kernel.max_threads).unwrap_or(THREADS_PER_BLOCK)
            }
            1 => kernel.static_shared,
            3 => kernel.local_bytes,
            5 | 6 => major * 10 + minor,
            8 => function.dynamic_shared,
            2 | 4 | 7 | 9..=15 => 0,
            _ => return Err(Status::ERROR_INVALID_VALUE),
        };
        Ok(value as i32)
    }

    pub(crate) fn set_function_attribute(&mut self, function: usize, number: i32, value: i32) -> Outcome {
        let optin = self.config.device.shared_per_block_optin;
        let function = self.functions.get_mut(function)?;
        match number {
            8 => {
                let room = optin.saturating_sub(function.kernel().static_shared);
                let value = u32::try_from(value).map_err(|_| Status::ERROR_INVALID_VALUE)?;
                if value > room {
                    let name = &function.kernel().name;
                    let text = format!("{value} bytes of dynamic shared memory for {name}; at most {room}");
                    self.log.finding("launch", &text);
                    return Err(Status::ERROR_INVALID_VALUE);
                }
                function.dynamic_shared = value;
                Ok(())
            }
            9 if (-1..=100).contains(&value) => Ok(()), // the carve-out is a hint
            14 => Ok(()),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// How many blocks of the function fit one multiprocessor.
    pub(crate) fn resident_blocks(
        &self,
        function: usize,
        threads: i32,
        dynamic_shared: usize,
    ) -> Outcome<i32> {
        let function = self.functions.get(function)?;
        let threads = u32::try_from(threads).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        let shared = u32::try_from(dynamic_shared).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        let shared = shared.saturating_add(function.kernel().static_shared);
        Ok(self.config.device.resident_blocks(threads, shared) as i32)
    }

    /// Queues a kernel, or refuses it as the device would. `parameters` has the size that the kernel
    /// declares.
    pub(crate) fn launch(
        &mut self,
        function: usize,
        shape: &Shape,
        cooperative: bool,
        parameters: Vec<u8>,
        stream: StreamId,
    ) -> Outcome {
        let device = self.config.device;
        let function = self.functions.get(function)?;
        let mut checked = launch::check(device, function.allowed(), shape);
        if cooperative {
            checked = checked
                .and_then(|()| launch::check_cooperative(device, function.kernel().static_shared, shape));
        }
        if let Err((status, text)) = checked {
            let text = format!("kernel {}: {text}", function.kernel().name);
            self.log.finding("launch", &text);
            return Err(status);
        }
        let (module, index) = (Arc::clone(&function.code), function.index);
        let Shape { grid, block, dynamic_shared } = *shape;
        let launch = KernelLaunch { module, index, grid, block, dynamic_shared, parameters };
        self.submit(stream, Work::Launch(Arc::new(launch)))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::DEVICES;

    #[test]
    fn images_that_cannot_run_are_refused_by_name() {
        let status = |image| compile(&DEVICES[0], image).map(drop).expect_err("refused");
        assert_eq!(status(Image::Binary).0, Status::ERROR_NO_BINARY_FOR_GPU);
        assert_eq!(status(Image::Text("hello")).0, Status::ERROR_INVALID_PTX);
        let (code, log) = status(Image::Text(".version 8.0\n.target sm_90a\n.address_size 64\n"));
        assert_eq!(code, Status::ERROR_INVALID_PTX);
        assert!(log.contains("sm_90a") && log.contains("sm_80"), "{log}");
    }
}
