//! `kernels check`: see [`USAGE`].

use std::path::PathBuf;
use std::process::ExitCode;

use kernels::bench::Bench;
use kernels::cases;
use preceptor::base::Result;
use preceptor::device::cuda::{Cuda, Options, Sources};
use preceptor::device::{Device, Settings};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let nvrtc = std::env::args().nth(1).map(PathBuf::from);
    let cuda = Cuda::open(&Options { nvrtc, cache: None, sources: Sources::Embedded, index: 0 })?;
    eprintln!("{:?}", cuda.gpu());
    let bench = Bench { cuda, cpu: Device::open(&Settings::default())? };
    for case in cases::all() {
        let outcome = case.run(&bench)?;
        for c in outcome.comparisons {
            eprintln!(
                "{} {} {}: {:.3e} limit {:.3e} nf {} {}",
                case.kernel,
                case.name,
                c.what,
                c.error,
                c.limit(),
                c.non_finite,
                c.passes()
            );
        }
    }
    Ok(())
}
