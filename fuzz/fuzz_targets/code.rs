#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _ = backupcodes_fuzz::code(bytes));
