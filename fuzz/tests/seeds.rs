//! Every seed, and whatever the fuzzer once found, by any compiler.

use std::fs;
use std::path::Path;

fn replay(target: fn(&[u8]) -> bool, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    target(b"");
    let deep = seeds.iter().filter(|seed| target(&fs::read(seed).unwrap())).count();
    assert!(deep > 0, "{name}: none of {} seeds gets to the heart of the matter any more", seeds.len());
}

macro_rules! replay {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            replay(backupcodes_fuzz::$target, stringify!($target));
        }
    )*};
}

replay! { code set throttle configuration arguments attempt }
