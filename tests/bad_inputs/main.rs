//! Every bad input ends in words: what was found, what was needed, where, and what to do.
//!
//! Each row makes one thing wrong in a folder where everything else is right (`sandbox`), runs the binary
//! there, and says the exit code and what stderr must hold. The first text must stand right after
//! `error: `, so every row pins the place: the file, its line and the key where there are such.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod adapter;
mod bench;
mod config;
mod data;
mod gguf;
mod model;
mod output;
mod weights;

use sandbox::{Ran, Sandbox};

/// What is wrong, how to make it so, the command, and what stderr says.
type Row = (&'static str, fn(&Sandbox), &'static str, &'static [&'static str]);

/// Runs the rows, all of which end with the exit code `code`.
fn check(code: i32, rows: &[Row]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|&(name, make, command, says)| {
            let sandbox = Sandbox::new();
            make(&sandbox);
            complaint(&sandbox.run(command), code, says)
                .map(|why| format!("## {name}\n$ preceptor {command}\n{why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// What is wrong with how a command failed.
fn complaint(ran: &Ran, code: i32, says: &[&str]) -> Option<String> {
    let missing = |text: &&&str| !ran.stderr.contains(**text);
    let what = if ran.code != Some(code) {
        format!("exit code {:?}, needed {code}", ran.code)
    } else if !ran.stderr.contains(&format!("error: {}", says[0])) {
        format!("it does not begin with {:?}", says[0])
    } else if let Some(text) = says.iter().find(missing) {
        format!("it does not say {text:?}")
    } else if !ran.stdout.is_empty() {
        format!("it prints {:?}", ran.stdout)
    } else {
        return None;
    };
    Some(format!("{what}\n{}", ran.stderr))
}
