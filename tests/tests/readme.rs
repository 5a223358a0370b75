//! Every stack and setting that README shows as tested is run by a test.

use std::fs;
use std::path::Path;

use backupcodes_tests::readme::{block, names};

#[test]
fn every_block_of_readme_is_used_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(folder.join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.chain([folder.join("booted")]).map(|file| fs::read_to_string(file).unwrap());
    let tests: Vec<String> = files.collect();
    // The name, where it is given to a machine or a scene, or a machine that is booted: `nullok` is an option as well.
    let is_used = |name: &str| {
        let quoted = format!("\"{name}\"");
        tests.iter().flat_map(|test| test.lines()).any(|line| {
            let is_given = line.contains("machine") || line.contains("scene");
            is_given && line.contains(&quoted) || line.contains(&format!("(readme_block {name})"))
        })
    };
    let unused: Vec<_> = names().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "no test runs README's {unused:?}");
    assert!(names().count() >= 10 && names().all(|name| !block(name).is_empty()));
}
