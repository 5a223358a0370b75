//! `backupcodes-fleet`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    backupcodes_fleet::main()
}
