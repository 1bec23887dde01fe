//! What exists under its name but is not modelled: `ERROR_NOT_SUPPORTED`, said once on stderr.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::status::{Outcome, Status};

static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

fn refuse(name: &'static str) -> Outcome {
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
        eprintln!("[libcuda] {name} is not modelled by the stand-in");
    }
    Err(Status::ERROR_NOT_SUPPORTED)
}

macro_rules! missing {
    ($($name:ident)*) => {
        super::exports! { $(fn $name() { refuse(stringify!($name)) })* }
    };
}

// Managed and external memory, user-made pools, clusters, arrays and textures, graphs built by hand, sharing
// between processes, virtual addresses.
missing! {
    cuMemAllocManaged cuMemPrefetchAsync_v2 cuMemAdvise_v2 cuStreamAttachMemAsync
    cuImportExternalMemory cuDestroyExternalMemory cuExternalMemoryGetMappedBuffer
    cuMemPoolCreate cuMemPoolDestroy cuMemPoolSetAccess cuMemPoolGetAccess
    cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialClusterSize
    cuMemHostGetDevicePointer_v2 cuPointerGetAttribute cuPointerGetAttributes
    cuMemcpy2D_v2 cuMemcpy2DAsync_v2 cuMemcpy3D_v2 cuMemcpy3DAsync_v2
    cuMemsetD2D8_v2 cuMemsetD2D32_v2 cuMemsetD2D8Async cuMemsetD2D32Async
    cuArrayCreate_v2 cuArrayDestroy cuTexObjectCreate cuTexObjectDestroy
    cuGraphAddKernelNode_v2 cuGraphAddMemcpyNode cuGraphAddMemsetNode cuGraphAddHostNode cuGraphAddEmptyNode
    cuGraphAddChildGraphNode cuGraphAddDependencies_v2 cuGraphInstantiateWithParams cuGraphExecKernelNodeSetParams_v2
    cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuIpcCloseMemHandle cuIpcGetEventHandle cuIpcOpenEventHandle
    cuMemCreate cuMemRelease cuMemMap cuMemUnmap cuMemAddressReserve cuMemAddressFree cuMemSetAccess
    cuMemGetAllocationGranularity cuStreamWriteValue32_v2 cuStreamWaitValue32_v2
    cuLinkCreate_v2 cuLinkAddData_v2 cuLinkComplete cuLinkDestroy cuStreamAddCallback
    cuTensorMapEncodeIm2col cuTensorMapReplaceAddress cuDeviceGetP2PAttribute cuDeviceGetLuid
}

super::exports! {
    fn cuProfilerStart() {
        Ok(()) // there is no profiler to start
    }

    fn cuProfilerStop() {
        Ok(())
    }
}
