//! A stand-in for NVIDIA's driver library: unmodified CUDA programs run on the CPU, with checks.
//!
//! Loaded by absolute path before a program's first driver call, this library answers to the name
//! `libcuda.so`. It executes PTX through [`ptx`]; it never looks for a real driver. What a driver may do, it
//! does in the worst way that the documentation allows: work waits until something needs it, and overtakes
//! what it does not wait for.
//!
//! ```text
//! exports   what a program calls: thin, and the only place of `unsafe`
//!    |
//! run       the lock; waits of the host, which make work run
//!    |
//! driver    the state ── copies, modules, graphs, events: what calls do when they are made
//!    |                   execute: what operations do when they run
//! streams, capture, memory, pinned, devices, context, launch: the model, plain data with unit tests
//! ```
//!
//! Two exported functions are not a driver's: `preceptor_testkit_configure` chooses the modelled device, and
//! `preceptor_testkit_take_report` gives findings and counters as JSON.

mod capture;
mod config;
mod context;
mod copies;
mod devices;
mod driver;
mod events;
mod execute;
mod exports;
mod graphs;
mod handles;
mod host;
mod launch;
mod memory;
mod modules;
mod nccl;
mod pinned;
mod report;
mod run;
mod status;
mod streams;
mod work;
