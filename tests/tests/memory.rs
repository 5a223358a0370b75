//! What stands in the memory of the host after an attempt, its stack and what it has freed included.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backupcodes_tests::{Answer, CHEAP, Outcome, World, built, mistyped, pam, sandbox_of_root, scrambled};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// So many bytes in a row are no chance: 40 bits of a code.
const PART: usize = 8;

/// Every way that an answer may stand in memory: as typed, in capitals, without dashes, and as values of its digits.
fn forms(answer: &str) -> Vec<Vec<u8>> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let capitals = answer.to_uppercase();
    let bare = capitals.replace('-', "");
    let values = bare.bytes().map(|byte| DIGITS.iter().position(|&digit| digit == byte).unwrap_or(0) as u8);
    let mut forms = vec![answer.into(), answer.to_lowercase().into(), values.collect()];
    forms.extend([bare.to_lowercase().into(), capitals.into(), bare.into()]);
    forms
}

/// Where a part of the answer stands in the memory of a process: which mapping, and which part.
fn found(process: Pid, answer: &str) -> Vec<String> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let memory = File::open(folder.join("mem")).unwrap();
    let mut found = Vec::new();
    let mut searched = 0;
    for line in fs::read_to_string(folder.join("maps")).unwrap().lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut content = vec![0; (end - start) as usize];
        // Some pages of the kernel's own cannot be read.
        if !rest.starts_with('r') || memory.read_exact_at(&mut content, start).is_err() {
            continue;
        }
        searched += content.len();
        for form in forms(answer) {
            for part in form.windows(PART) {
                // The first byte is looked for alone: that is much faster.
                let starts = content.iter().enumerate().filter(|&(_, byte)| *byte == part[0]);
                let places = starts.filter(|&(at, _)| content[at..].starts_with(part));
                found.extend(
                    places
                        .map(|(at, _)| format!("{:?} at {at:x} of {line}", part.escape_ascii().to_string())),
                );
            }
        }
    }
    assert!(searched > 1 << 20, "a process has more memory than {searched} bytes");
    found
}

/// Makes an attempt in a host that does not have the answer but in its response, and looks for `secret` in it afterwards.
fn residues(world: &World, answer: Answer, secret: &str, code: i32) -> Vec<String> {
    let mut attempt = world.attempt(&[answer]);
    attempt.calls.push("stop".into());
    let mut host = Command::new(built("pamhost"));
    let mut host = host.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(host.stdin.take().unwrap(), &[attempt]).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", host.id());
    let start = Instant::now();
    let stopped = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "no host stops");
        std::thread::sleep(Duration::from_millis(5));
        let Ok(child) = fs::read_to_string(&children).unwrap_or_default().trim().parse() else { continue };
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')) {
            break Pid::from_raw(child);
        }
    };
    let found = found(stopped, secret);
    kill(stopped, Signal::SIGCONT).unwrap();
    let output = host.wait_with_output().unwrap();
    let outcomes: Vec<Option<Outcome>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes[0].as_ref().expect("the host lives on").codes, [code, 0], "{:?}", world.last_line());
    found
}

#[test]
fn after_an_attempt_nothing_of_the_answer_is_left_in_the_memory_of_the_host() {
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(world) = World::new("") else { return };
    // Of a short piece that is freed libc itself writes over the first 16 bytes.
    world.configure(&format!("{CHEAP}[codes]\nlength = 26\n"));
    let old = world.generate();
    let sheet = world.generate();
    let right = &sheet.codes[0];
    for (answer, code) in [
        (right.clone(), pam::SUCCESS),
        (right.clone(), pam::AUTH_ERR),
        (sheet.codes[1].to_lowercase(), pam::SUCCESS),
        (sheet.codes[2].replace('-', ""), pam::SUCCESS),
        (old.codes[3].clone(), pam::AUTH_ERR),
        (mistyped(&sheet.codes[3]), pam::AUTH_ERR),
        ("xyzzy-Tr0ub4dor&3-plugh".into(), pam::AUTH_ERR),
    ] {
        let scrambled = Answer::Scrambled(scrambled(answer.as_bytes()));
        let found = residues(&world, scrambled, &answer, code);
        assert!(found.is_empty(), "{answer}, {code}: {found:#?}");
    }
}

#[test]
fn the_search_above_finds_an_answer_that_the_host_keeps() {
    if sandbox_of_root().is_none() {
        return;
    }
    let Some(world) = World::new("") else { return };
    let sheet = world.generate();
    let answer = &sheet.codes[0];
    assert!(!residues(&world, answer.into(), answer, pam::SUCCESS).is_empty());
}
