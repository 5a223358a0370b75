//! Replays all seeds and past findings of the fuzzer, with any compiler.

use std::fs;
use std::path::Path;

/// All seeds reach the code that matters, such as a spent code or a closed counter, except `but`: they test earlier refusals.
fn replay(target: fn(&[u8]) -> bool, name: &str, but: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let seeds = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    target(b"");
    let shallow = seeds.filter(|seed| !target(&fs::read(seed).unwrap()));
    let mut shallow: Vec<_> = shallow.map(|seed| seed.file_name().unwrap().to_owned()).collect();
    shallow.sort_unstable();
    assert_eq!(shallow, but, "seeds of {name} that do not get deep");
}

macro_rules! replay {
    ($($target:ident but $but:tt)*) => {$(
        #[test]
        fn $target() {
            replay(backupcodes_fuzz::$target, stringify!($target), &$but);
        }
    )*};
}

replay! {
    call but ["deep", "elsewhere", "looks", "others", "renewal"]
    code but ["verification", "verification_wide"]
    set but ["used"]
    throttle but ["hostile_names", "in_its_place"]
    configuration but ["escaped_key", "refused"]
    arguments but ["unknown"]
    attempt but ["cut", "new_account", "of_bob", "throttled"]
}
