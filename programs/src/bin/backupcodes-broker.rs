//! `backupcodes-broker`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    backupcodes_broker::main()
}
