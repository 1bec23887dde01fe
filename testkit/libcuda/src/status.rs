//! What a driver call returns: a code, its name and a sentence.
//!
//! Codes and names are those of `cuda.h`; the sentences are ours.

use std::ffi::CStr;

/// A driver result code. Zero is success and never stands in an `Err`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Status(pub(crate) i32);

/// What the model's functions return.
pub(crate) type Outcome<T = ()> = Result<T, Status>;

macro_rules! statuses {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Status {
            $(#[allow(dead_code, reason = "the table is complete, so that names can be looked up")]
            pub(crate) const $name: Self = Self($code);)*
        }

        const TABLE: &[(i32, &str, &str)] = &[$(($code, concat!("CUDA_", stringify!($name), "\0"), concat!($text, "\0"))),*];
    };
}

statuses! {
    SUCCESS = 0, "no error";
    ERROR_INVALID_VALUE = 1, "an argument is outside its range";
    ERROR_OUT_OF_MEMORY = 2, "the modelled device has no memory left for this";
    ERROR_NOT_INITIALIZED = 3, "cuInit was not called";
    ERROR_DEINITIALIZED = 4, "the driver is shutting down";
    ERROR_NO_DEVICE = 100, "no device is modelled";
    ERROR_INVALID_DEVICE = 101, "no device has this ordinal";
    ERROR_INVALID_IMAGE = 200, "this is no device code";
    ERROR_INVALID_CONTEXT = 201, "no context is current, or the context does not exist";
    ERROR_NO_BINARY_FOR_GPU = 209, "device code for another device; the stand-in executes PTX only";
    ERROR_UNSUPPORTED_LIMIT = 215, "this limit does not exist";
    ERROR_PEER_ACCESS_UNSUPPORTED = 217, "these devices cannot reach each other's memory";
    ERROR_INVALID_PTX = 218, "the PTX was refused; stderr and the error log say why";
    ERROR_UNSUPPORTED_PTX_VERSION = 222, "the PTX is of a newer ISA than this driver's";
    ERROR_INVALID_SOURCE = 300, "the device source is invalid";
    ERROR_FILE_NOT_FOUND = 301, "the file was not found";
    ERROR_OPERATING_SYSTEM = 304, "a call of the operating system failed";
    ERROR_INVALID_HANDLE = 400, "the handle is of no living object";
    ERROR_ILLEGAL_STATE = 401, "a resource is not in the state that this call needs";
    ERROR_NOT_FOUND = 500, "the named symbol was not found";
    ERROR_NOT_READY = 600, "the work is not complete";
    ERROR_ILLEGAL_ADDRESS = 700, "a kernel or copy reached memory that is not allocated; stderr says where";
    ERROR_LAUNCH_OUT_OF_RESOURCES = 701, "the launch needs more than the device or the kernel allows";
    ERROR_LAUNCH_TIMEOUT = 702, "the kernel made no progress";
    ERROR_PEER_ACCESS_ALREADY_ENABLED = 704, "peer access is already enabled";
    ERROR_PEER_ACCESS_NOT_ENABLED = 705, "peer access is not enabled";
    ERROR_PRIMARY_CONTEXT_ACTIVE = 708, "the primary context is in use";
    ERROR_CONTEXT_IS_DESTROYED = 709, "the context was destroyed";
    ERROR_ASSERT = 710, "a device-side assertion failed";
    ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712, "this host memory is already registered";
    ERROR_HOST_MEMORY_NOT_REGISTERED = 713, "this host memory is not registered";
    ERROR_ILLEGAL_INSTRUCTION = 715, "a kernel executed an illegal instruction";
    ERROR_MISALIGNED_ADDRESS = 716, "a kernel used a misaligned address; stderr says where";
    ERROR_LAUNCH_FAILED = 719, "a kernel failed; stderr says why";
    ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720, "the grid of a cooperative launch does not fit the device at once";
    ERROR_NOT_PERMITTED = 800, "not permitted here";
    ERROR_NOT_SUPPORTED = 801, "not modelled by the stand-in, or not supported by the modelled device";
    ERROR_STREAM_CAPTURE_UNSUPPORTED = 900, "not permitted while a stream is capturing";
    ERROR_STREAM_CAPTURE_INVALIDATED = 901, "an earlier error invalidated the capture";
    ERROR_STREAM_CAPTURE_MERGE = 902, "this would merge two captures";
    ERROR_STREAM_CAPTURE_UNMATCHED = 903, "the capture did not begin in this stream";
    ERROR_STREAM_CAPTURE_UNJOINED = 904, "the capture has work that was not joined to its first stream";
    ERROR_STREAM_CAPTURE_ISOLATION = 905, "captured work would depend on work outside the capture";
    ERROR_STREAM_CAPTURE_IMPLICIT = 906, "the legacy stream would wait for a capturing stream";
    ERROR_CAPTURED_EVENT = 907, "the event was last recorded in a capture";
    ERROR_STREAM_CAPTURE_WRONG_THREAD = 908, "the capture began in another thread";
    ERROR_TIMEOUT = 909, "a wait took too long";
    ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910, "the executable graph cannot take this change";
    ERROR_UNKNOWN = 999, "the stand-in itself failed; stderr says where";
}

impl Status {
    fn row(self) -> Option<&'static (i32, &'static str, &'static str)> {
        TABLE.iter().find(|row| row.0 == self.0)
    }

    /// The name in `cuda.h`; `None` for a code that is not in the table.
    pub(crate) fn name(self) -> Option<&'static CStr> {
        self.row().map(|row| terminated(row.1))
    }

    /// One sentence; `None` for a code that is not in the table.
    pub(crate) fn text(self) -> Option<&'static CStr> {
        self.row().map(|row| terminated(row.2))
    }
}

fn terminated(text: &'static str) -> &'static CStr {
    CStr::from_bytes_with_nul(text.as_bytes()).expect("the table ends every text with a zero")
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({})", name.to_string_lossy(), self.0),
            None => write!(f, "driver error {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_and_a_text() {
        for &(code, ..) in TABLE {
            assert!(Status(code).name().is_some_and(|name| name.to_bytes().starts_with(b"CUDA_")));
            assert!(Status(code).text().is_some_and(|text| !text.is_empty()));
        }
        assert_eq!(format!("{:?}", Status::ERROR_ILLEGAL_ADDRESS), "CUDA_ERROR_ILLEGAL_ADDRESS (700)");
        assert!(Status(12345).name().is_none());
    }
}
