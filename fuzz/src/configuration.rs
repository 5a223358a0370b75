use std::fs;

use backupcodes_core::config::Config;
use backupcodes_core::hash::CodeHash;

use crate::folder::Folder;

/// Separates the file and its up to two drop-ins.
const DROP_IN: &[u8] = b"\n#### drop-in\n";

thread_local! {
    static FOLDER: Folder = {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        folder
    };
}

/// Loads any configuration. An accepted one is within all limits, and the error of any other is one line.
pub fn configuration(text: &[u8]) -> bool {
    let mut parts = parts(text).into_iter();
    FOLDER.with(|folder| {
        let file = folder.write("conf", parts.next().unwrap_or_default());
        for (name, part) in ["conf.d/1.conf", "conf.d/2.conf"].into_iter().zip(parts) {
            folder.write(name, part);
        }
        match Config::load(Some(&file)) {
            Ok(config) => {
                keeps_its_bounds(&config);
                config != Config::default()
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!error.chars().any(char::is_control), "{error:?}");
                false
            }
        }
    })
}

/// The file and two drop-ins, any of which may be empty.
fn parts(text: &[u8]) -> [&[u8]; 3] {
    let split = |text| match find(text) {
        Some(at) => (&text[..at], &text[at + DROP_IN.len()..]),
        None => (text, [].as_slice()),
    };
    let (file, rest) = split(text);
    let (first, second) = split(rest);
    [file, first, second]
}

fn find(text: &[u8]) -> Option<usize> {
    text.windows(DROP_IN.len()).position(|window| window == DROP_IN)
}

fn keeps_its_bounds(config: &Config) {
    let Config { directory, runtime_directory, broker, codes, hash, throttle, notify, fleet } = config;
    assert!([directory, runtime_directory, broker].iter().all(|path| path.is_absolute()));
    assert!((1..=31).contains(&codes.count) && (13..=26).contains(&codes.length));
    // Only a valid cost reads back.
    assert!(CodeHash::parse(&CodeHash::decoy(hash.cost).phc()).is_some());
    assert!(hash.concurrent <= 1024);
    assert!(throttle.first_delay <= throttle.longest_delay && throttle.most <= 4096);
    assert!(fleet.endpoints.iter().all(|url| url.starts_with("https://")) && fleet.prefix.ends_with('/'));
    assert!((1..=6).contains(&fleet.timeout.as_secs()));
    assert!(notify.sendmail[0].starts_with('/'));
    let addresses = notify.copy_to.iter().chain([&notify.from, &notify.domain]);
    assert!(
        addresses
            .into_iter()
            .all(|address| !address.starts_with('-') && !address.chars().any(char::is_control))
    );
}
