//! Every stack and setting that README shows as tested is run by a test.

use std::fs;
use std::path::Path;

use backupcodes_tests::readme::{block, names};

#[test]
fn every_block_of_readme_is_used_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let tests: Vec<String> = files.collect();
    // The name, where it is given to a machine or a scene: `nullok` is an option as well.
    let is_used = |name: &str| {
        let quoted = format!("\"{name}\"");
        tests
            .iter()
            .flat_map(|test| test.lines())
            .any(|line| ["machine", "scene"].iter().any(|it| line.contains(it)) && line.contains(&quoted))
    };
    let unused: Vec<_> = names().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "no test runs README's {unused:?}");
    assert!(names().count() >= 10 && names().all(|name| !block(name).is_empty()));
}
