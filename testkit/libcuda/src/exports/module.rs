//! Modules, libraries and functions.

use super::pointers::{ImagePointer, In, Out, Text, put_text};
use crate::driver::Driver;
use crate::modules::Image;
use crate::run::lock;
use crate::status::{Outcome, Status};

/// `CU_JIT_ERROR_LOG_BUFFER` and its size among the options of `cuModuleLoadDataEx`.
const ERROR_LOG: u32 = 5;
const ERROR_LOG_BYTES: u32 = 6;

/// Loads an image; a refusal goes to stderr and, if there is one, to the program's error log.
fn load(image: Image<'_>, log: (*mut u8, usize)) -> Outcome<usize> {
    lock().module_load(image).map_err(|(status, text)| {
        if !text.is_empty() {
            eprintln!("[libcuda] module refused: {text}");
            put_text(log.0, log.1, &text);
        }
        status
    })
}

fn load_pointer(module: Out<usize>, image: &ImagePointer, log: (*mut u8, usize)) -> Outcome {
    let text = image.text()?;
    module.set(load(text.as_deref().map_or(Image::Binary, Image::Text), log)?)
}

const NO_LOG: (*mut u8, usize) = (std::ptr::null_mut(), 0);

fn error_log(count: u32, options: &In<u32>, values: &In<usize>) -> Outcome<(*mut u8, usize)> {
    let (options, values) = (options.slice(count as usize)?, values.slice(count as usize)?);
    let value = |wanted| options.iter().position(|&option| option == wanted).map(|index| values[index]);
    Ok((value(ERROR_LOG).unwrap_or(0) as *mut u8, value(ERROR_LOG_BYTES).unwrap_or(0) & 0xffff_ffff))
}

/// A kernel's parameter: offset and bytes.
fn parameter(driver: &Driver, function: usize, index: usize) -> Outcome<(usize, usize)> {
    let kernel = driver.functions.get(function)?.kernel();
    let parameter = kernel.parameters.get(index).ok_or(Status::ERROR_INVALID_VALUE)?;
    Ok((parameter.offset as usize, parameter.bytes as usize))
}

super::exports! {
    fn cuModuleLoad(module: Out<usize>, path: Text) {
        let bytes = std::fs::read(path.get()?).map_err(|_| Status::ERROR_FILE_NOT_FOUND)?;
        let text = String::from_utf8(bytes).ok();
        module.set(load(text.as_deref().map_or(Image::Binary, Image::Text), NO_LOG)?)
    }

    fn cuModuleLoadData(module: Out<usize>, image: ImagePointer) {
        load_pointer(module, &image, NO_LOG)
    }

    fn cuModuleLoadDataEx(module: Out<usize>, image: ImagePointer, count: u32, options: In<u32>, values: In<usize>) {
        load_pointer(module, &image, error_log(count, &options, &values)?)
    }

    fn cuModuleLoadFatBinary(module: Out<usize>, image: ImagePointer) {
        load_pointer(module, &image, NO_LOG)
    }

    fn cuModuleUnload(module: usize) {
        lock().module_unload(module)
    }

    fn cuModuleGetFunction(function: Out<usize>, module: usize, name: Text) {
        function.set(lock().module_function(module, &name.get()?)?)
    }

    fn cuModuleGetFunctionCount(count: Out<u32>, module: usize) {
        count.set(lock().modules.get(module)?.code.kernels.len() as u32)
    }

    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: usize, name: Text) {
        let (start, size) = lock().module_variable(module, &name.get()?)?;
        address.set_optional(start);
        bytes.set_optional(size);
        Ok(())
    }

    fn cuLibraryLoadData(
        library: Out<usize>, image: ImagePointer, options: In<u32>, values: In<usize>, count: u32,
        _library_options: usize, _library_values: usize, _library_count: u32,
    ) {
        load_pointer(library, &image, error_log(count, &options, &values)?)
    }

    fn cuLibraryUnload(library: usize) {
        lock().module_unload(library)
    }

    fn cuLibraryGetKernel(kernel: Out<usize>, library: usize, name: Text) {
        kernel.set(lock().module_function(library, &name.get()?)?)
    }

    fn cuLibraryGetModule(module: Out<usize>, library: usize) {
        lock().modules.get(library)?;
        module.set(library)
    }

    fn cuKernelGetFunction(function: Out<usize>, kernel: usize) {
        lock().functions.get(kernel)?;
        function.set(kernel)
    }

    fn cuKernelGetAttribute(value: Out<i32>, number: i32, kernel: usize, _device: i32) {
        value.set(lock().function_attribute(kernel, number)?)
    }

    fn cuKernelSetAttribute(number: i32, value: i32, kernel: usize, _device: i32) {
        lock().set_function_attribute(kernel, number, value)
    }

    fn cuKernelGetParamInfo(kernel: usize, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let (start, size) = parameter(&lock(), kernel, index)?;
        offset.set(start)?;
        bytes.set_optional(size);
        Ok(())
    }

    fn cuFuncGetAttribute(value: Out<i32>, number: i32, function: usize) {
        value.set(lock().function_attribute(function, number)?)
    }

    fn cuFuncSetAttribute(function: usize, number: i32, value: i32) {
        lock().set_function_attribute(function, number, value)
    }

    fn cuFuncGetParamInfo(function: usize, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let (start, size) = parameter(&lock(), function, index)?;
        offset.set(start)?;
        bytes.set_optional(size);
        Ok(())
    }

    fn cuFuncSetCacheConfig(function: usize, _config: u32) {
        lock().functions.get(function).map(drop)
    }

    fn cuFuncGetModule(module: Out<usize>, function: usize) {
        let driver = lock();
        let code = &driver.functions.get(function)?.code;
        let found = driver.modules.iter().find(|(_, candidate)| std::sync::Arc::ptr_eq(&candidate.code, code));
        module.set(found.map(|(handle, _)| handle).ok_or(Status::ERROR_INVALID_HANDLE)?)
    }
}
