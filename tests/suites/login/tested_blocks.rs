//! Every stack and setting that README shows as tested is run by a test.

use std::fs;
use std::path::Path;

use backupcodes_tests::readme::{block, names};

#[test]
fn every_block_of_readme_is_used_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = list(&folder.join("suites")).flat_map(|suite| list(&suite).collect::<Vec<_>>());
    let files = files.chain([folder.join("system/booted")]);
    let tests: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
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

#[test]
fn every_stack_in_the_manual_is_one_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut compared = 0;
    for page in ["pam_backupcodes.8", "backupcodes-broker.8"] {
        let text = fs::read_to_string(root.join("man").join(page)).unwrap();
        for (before, example) in manual_pages::examples(&text) {
            // The comment in front of it says where it is from.
            if let Some(name) = before.strip_prefix(".\\\" Guide: ") {
                assert_eq!(example, block(name), "{page}: {name}");
            } else if let Some(file) = before.strip_prefix(".\\\" File: ") {
                let shipped = fs::read_to_string(root.join(file)).unwrap();
                let lines = shipped.lines().filter(|line| !line.starts_with('#'));
                assert!(example.lines().eq(lines), "{page}: {file}");
            } else {
                assert!(!example.contains("pam_") && !example.contains("=yes"), "{page}: {example}");
                continue;
            }
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
}
