//! Studies, labels and their statistics: the binary on a tiny model, the arithmetic against other libraries'.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod kmeans;
mod label;
mod statistics;
mod study;

use sandbox::Ran;

fn finished(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

/// The error of a command that must refuse its input.
fn refused(ran: Ran) -> String {
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    ran.stderr
}
