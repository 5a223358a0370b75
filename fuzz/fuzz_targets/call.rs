#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backupcodes_fuzz::call(bytes);
});
