//! A code in clear reaches the terminal and nothing else.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use backupcodes_tests::{World, caught, me, pam, sandbox};

/// Every way that a code may be written.
fn forms(code: &str) -> [String; 5] {
    let bare = code.replace('-', "");
    [code.into(), code.to_lowercase(), bare.to_lowercase(), bare[1..bare.len() - 1].into(), bare]
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    // A link to the names of a uid leads to no file.
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.exists());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn no_code_stands_in_any_log_or_file_whatever_became_of_it() {
    let Some(world) = World::new("debug") else { return };
    let old = world.generate();
    let sheet = world.generate();
    // Accepted, used twice, wrong, mistyped, of nobody's, without a store: each with the module's debug log.
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::AUTH_ERR);
    assert_eq!(world.try_answer(&old.codes[1]), pam::AUTH_ERR);
    assert_eq!(world.try_answer(&format!("{}X", sheet.codes[2])), pam::AUTH_ERR);
    let mut nobodys = world.attempt(&[(&sheet.codes[3]).into()]);
    nobodys.user = b"no-such-user".to_vec();
    assert_eq!(nobodys.run().codes, [pam::USER_UNKNOWN]);
    let aside = world.path("aside");
    fs::rename(world.store(), &aside).unwrap();
    assert_eq!(world.try_answer(&sheet.codes[4]), pam::AUTHINFO_UNAVAIL);
    fs::rename(&aside, world.store()).unwrap();
    world.admin_with_input(&["verify", &me()], &sheet.codes[5]);

    let log: String = caught(&sandbox().unwrap()).into_iter().map(|line| line.text + "\n").collect();
    assert!(log.contains("; looking in "), "debug is on");
    let files = files_below(world.folder.path());
    assert!(files.contains(&world.file()), "the search finds the set: {files:?}");
    for code in old.codes.iter().chain(&sheet.codes) {
        for form in forms(code) {
            assert!(!log.contains(&form), "{form} in the log");
            for file in &files {
                let content = fs::read(file).unwrap();
                let found = content.windows(form.len()).any(|window| window == form.as_bytes());
                assert!(!found, "{form} in {}", file.display());
            }
        }
    }
}

#[test]
fn the_search_above_finds_an_existing_code() {
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    fs::write(world.path("leak"), format!("x{}x", sheet.codes[0])).unwrap();
    let found = files_below(world.folder.path())
        .iter()
        .any(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(&sheet.codes[0]));
    assert!(found);
}

#[test]
fn no_two_codes_share_a_secret_and_no_two_sets_an_id() {
    let Some(world) = World::new("") else { return };
    let sheets: Vec<_> = (0..3).map(|_| world.generate()).collect();
    let sets: HashSet<_> = sheets.iter().map(|sheet| &sheet.set).collect();
    let codes = sheets.iter().flat_map(|sheet| &sheet.codes);
    let secrets: HashSet<String> = codes.map(|code| code.replace('-', "")[1..14].into()).collect();
    assert_eq!((sets.len(), secrets.len()), (3, 30));
}
