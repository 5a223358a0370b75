//! The memory of the application after an attempt, with its stack and what it has freed, holds nothing of the code.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use backupcodes_tests::stopped::Stopped;
use backupcodes_tests::{Answer, CHEAP, World, built, mistyped, pam, scrambled};
use nix::unistd::Pid;

/// So many bytes in a row are no chance: 40 bits of a code.
const PART: usize = 8;

/// Every way that an answer may stand in memory: as typed, in capitals, without dashes and what else is no part of it, and
/// as values of its digits.
fn forms(answer: &str) -> Vec<Vec<u8>> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let capitals = answer.to_uppercase();
    let narrow = |c: char| match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xfee0).unwrap(),
        _ => c,
    };
    let bare: String = capitals.chars().map(narrow).filter(char::is_ascii_alphanumeric).collect();
    let values = bare.bytes().filter_map(|byte| Some(DIGITS.iter().position(|&digit| digit == byte)? as u8));
    let mut forms = vec![answer.into(), answer.to_lowercase().into(), values.collect()];
    forms.extend([bare.to_lowercase().into(), capitals.into(), bare.into()]);
    forms
}

/// Mappings of the kernel's own, whose pages cannot be read.
const OF_THE_KERNEL: [&str; 3] = ["[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// Where a part of the answer stands in the memory of a process: which part, and in which mapping.
fn found(process: Pid, answer: &str) -> Vec<String> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let memory = File::open(folder.join("mem")).unwrap();
    let forms = forms(answer);
    let parts: HashSet<&[u8]> = forms.iter().flat_map(|form| form.windows(PART)).collect();
    let mut is_first = [false; 256];
    parts.iter().for_each(|part| is_first[usize::from(part[0])] = true);
    let (mut found, mut searched) = (Vec::new(), Vec::new());
    for line in fs::read_to_string(folder.join("maps")).unwrap().lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let name = line.split_whitespace().nth(5).unwrap_or_default();
        if rest.starts_with("---") || OF_THE_KERNEL.contains(&name) {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut content = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut content, start).unwrap_or_else(|error| panic!("{line}: {error}"));
        searched.push(line.to_owned());
        // The first byte is looked at alone: that is much faster.
        let windows = content.windows(PART).enumerate();
        let places = windows.filter(|(_, part)| is_first[usize::from(part[0])] && parts.contains(part));
        found.extend(
            places.map(|(at, part)| format!("{:?} at {at:x} of {line}", part.escape_ascii().to_string())),
        );
    }
    for name in ["[heap]", "[stack]", "/libpam_backupcodes.so"] {
        let is_it = |line: &String| line.contains(" rw") && line.ends_with(name);
        assert!(searched.iter().any(is_it), "{name} was not searched: {searched:#?}");
    }
    found
}

/// Makes an attempt in an application that has the answer nowhere but in its response, and looks for `secret` in it afterwards.
fn residues(world: &World, answer: Answer, secret: &str, code: i32) -> Vec<String> {
    let mut attempt = world.attempt(&[answer]);
    attempt.calls.push("stop".into());
    let stopped = Stopped::start(&mut Command::new(built("pam-application")), &attempt);
    let found = found(stopped.process, secret);
    assert_eq!(stopped.go_on().codes, [code, 0], "{:?}", world.last_line());
    found
}

/// Of a short piece that is freed libc itself writes over the first 16 bytes: a long code has more.
const LONG: &str = "[codes]\nlength = 26\n";

/// A world with long codes, whose stack is that of [`World::stack_behind`].
fn world(front: &str, options: &str) -> Option<World> {
    let world = World::of_root("")?;
    world.configure(&format!("{CHEAP}{LONG}"));
    world.stack_behind(front, options);
    Some(world)
}

/// A line for a module that asks, and leaves the answer to ours.
fn asks_first() -> String {
    format!("auth optional {}\n", built("examples/libasks_first.so").display())
}

/// Tries codes of all kinds, the way that `world` asks for them. Nothing of any of them is left.
fn nothing_is_left(world: &World) {
    let old = world.generate();
    let sheet = world.generate();
    let right = &sheet.codes[0];
    for (answer, code) in [
        (right.clone(), pam::SUCCESS),
        (right.clone(), pam::AUTH_ERR),
        (sheet.codes[1].to_lowercase(), pam::SUCCESS),
        (sheet.codes[2].replace('-', ""), pam::SUCCESS),
        (old.codes[3].clone(), pam::AUTH_ERR),
        (format!("4) \u{201c}{}\u{201d}\r\n", sheet.codes[3].replace('-', "\u{2013}")), pam::SUCCESS),
        (sheet.codes[4].chars().map(wide).collect(), pam::SUCCESS),
    ] {
        nothing_is_left_of(world, &answer, code);
    }
}

fn wide(c: char) -> char {
    if c.is_ascii_alphanumeric() { char::from_u32(u32::from(c) + 0xfee0).unwrap() } else { c }
}

fn nothing_is_left_of(world: &World, answer: &str, code: i32) {
    let found = residues(world, Answer::Scrambled(scrambled(answer.as_bytes())), answer, code);
    assert!(found.is_empty(), "{answer}, {code}: {found:#?}");
}

/// What is no code, mistyped or something else.
fn no_codes(world: &World) -> [String; 3] {
    let codes = world.generate().codes;
    let of_another = format!("\u{1b}[200~3) {}\u{1b}[201~", codes[4].replace('-', "\u{2013}"));
    [mistyped(&codes[3]), "xyzzy-Tr0ub4dor&3-plugh".into(), of_another]
}

#[test]
fn after_an_attempt_nothing_of_the_response_is_left_in_the_memory_of_the_application() {
    let Some(world) = world("", "") else { return };
    nothing_is_left(&world);
    for answer in no_codes(&world) {
        nothing_is_left_of(&world, &answer, pam::AUTH_ERR);
    }
}

#[test]
fn nothing_is_left_where_one_prompt_serves_two_kinds_of_code() {
    let Some(world) = world("", "forward_pass") else { return };
    nothing_is_left(&world);
    for answer in no_codes(&world) {
        nothing_is_left_of(&world, &answer, pam::AUTH_ERR);
    }
    // Handed on: when the attempt is over, libpam has wiped what it kept for the next module.
    nothing_is_left_of(&world, "7 - 3 - 9 - 0 - 5 - 1 - 8 - 2", pam::AUTH_ERR);
    nothing_is_left_of(&world, "７３９０ ５１８２", pam::AUTH_ERR);
}

#[test]
fn nothing_is_left_of_a_code_that_another_module_asked_for() {
    for options in ["try_first_pass", "use_first_pass", "use_first_pass forward_pass"] {
        let Some(world) = world(&asks_first(), options) else { return };
        nothing_is_left(&world);
        if options != "try_first_pass" {
            for answer in no_codes(&world) {
                nothing_is_left_of(&world, &answer, pam::AUTH_ERR);
            }
        }
    }
}

#[test]
fn the_search_above_finds_a_response_that_the_application_keeps() {
    let Some(world) = World::of_root("") else { return };
    let sheet = world.generate();
    let answer = &sheet.codes[0];
    assert!(!residues(&world, answer.into(), answer, pam::SUCCESS).is_empty());
}

#[test]
#[ignore = "needs a module that wipes nothing: tests/long unwiped"]
fn the_search_above_finds_answer_and_secret_where_the_module_wipes_nothing() {
    let unwiped = std::env::var("BACKUPCODES_UNWIPED").expect("set by tests/long");
    let mut all = Vec::new();
    for (front, options) in [("", ""), ("", "forward_pass"), (&asks_first(), "use_first_pass")] {
        let Some(world) = world(front, options) else { return };
        let stack = world.path("pam.d").join(&world.service);
        let wiping = built("libpam_backupcodes.so");
        let lines = fs::read_to_string(&stack).unwrap().replace(wiping.to_str().unwrap(), &unwiped);
        fs::write(stack, lines).unwrap();
        let code = &world.generate().codes[0];
        for result in [pam::SUCCESS, pam::AUTH_ERR] {
            let found = residues(&world, Answer::Scrambled(scrambled(code.as_bytes())), code, result);
            assert!(!found.is_empty(), "{options}, {result}");
            all.extend(found);
        }
    }
    // As it is typed, each part of a code has a dash. What is hashed has none.
    let (typed, secret): (Vec<_>, Vec<_>) =
        all.iter().partition(|found| found.split(" at ").next().unwrap().contains('-'));
    assert!(!typed.is_empty() && !secret.is_empty(), "{all:#?}");
}
