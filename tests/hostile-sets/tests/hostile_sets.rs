//! Set files that were torn, or changed by a hostile hand, in whole attempts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backupcodes_core::hash::{CodeHash, Cost};
use backupcodes_core::set::{CodeSet, State};
use backupcodes_core::set::{Mail, SpentRecord};
use hostile_sets::{Answer, CODES, Change, Scene, World};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The property stands at [`World::play`].
#[test]
fn no_change_of_a_set_file_accepts_a_spent_code_or_another_users_without_their_hash() {
    let world = World::new();
    let accepted = Cell::new([0, 0]);
    let play = |scene: Scene| {
        let count = world.play(&scene);
        let [whole, changed] = accepted.get();
        accepted.set(if scene.changes.is_empty() {
            [whole + count, changed]
        } else {
            [whole, changed + count]
        });
        Ok(())
    };
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&scenes(), play).unwrap();
    let [whole, changed] = accepted.get();
    assert!(whole > 100 && changed > 20, "in vain: {whole} and {changed} answers were accepted");
}

fn scenes() -> impl Strategy<Value = Scene> {
    let mail = prop_oneof![Just(Mail::Due), Just(Mail::Ok)];
    let uses = proptest::array::uniform4(option::of(mail));
    let answer = prop_oneof![
        4 => (0..CODES).prop_map(Answer::Alices),
        2 => (0..CODES).prop_map(Answer::Bobs),
        1 => vec(any::<u8>(), 0..40).prop_map(Answer::Other),
    ];
    let file = (proptest::bool::weighted(0.2), uses, vec(changes(), 0..4));
    let failures = prop_oneof![4 => 0..8_u16, 1 => any::<u16>()];
    let counter = option::weighted(0.3, (failures, times()));
    let attempts = (proptest::bool::weighted(0.1), vec(answer, 1..8), counter);
    (file, attempts, times(), ".{0,40}").prop_map(
        |((of_bob, uses, changes), (is_new_account, answers, counter), now, source)| Scene {
            of_bob,
            uses,
            changes,
            is_new_account,
            answers,
            counter,
            now,
            source,
        },
    )
}

fn changes() -> impl Strategy<Value = Change> {
    let at = || 0..1000_usize;
    // Most bytes make a file no text.
    let bytes = || prop_oneof![vec(any::<u8>(), 0..120), "[ -~]{0,120}".prop_map(String::into_bytes)];
    prop_oneof![
        at().prop_map(Change::Cut),
        (at(), any::<u8>()).prop_map(|(at, bit)| Change::Flip { at, bit }),
        (at(), bytes()).prop_map(|(at, bytes)| Change::Overwrite { at, bytes }),
        (at(), bytes()).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        (at(), 0..120_usize).prop_map(|(at, length)| Change::Remove { at, length }),
        (at(), at(), 0..120_usize).prop_map(|(at, with, length)| Change::Swap { at, with, length }),
        (0..20_usize, 0..20_usize).prop_map(|(a, b)| Change::SwapLines(a, b)),
        (0..20_usize, 0..20_usize).prop_map(|(line, before)| Change::RepeatLine { line, before }),
        (at(), at(), at()).prop_map(|(at, from, length)| Change::Splice { at, from, length }),
        // At the same place of both files.
        (at(), at()).prop_map(|(at, length)| Change::Splice { at, from: at, length }),
    ]
}

/// 1970, 2038, 2106, today and anywhere.
fn times() -> impl Strategy<Value = SystemTime> {
    let around = |middle: i64| (-100_000..100_000_i64).prop_map(move |seconds| middle + seconds);
    let today = 1_795_000_000;
    let anywhere = any::<i32>().prop_map(|years| i64::from(years) * 31_557_600);
    prop_oneof![around(0), around(i32::MAX.into()), around(u32::MAX.into()), around(today), anywhere]
        .prop_map(|seconds| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
        })
}

fn scene(changes: Vec<Change>, answers: Vec<Answer>) -> Scene {
    Scene {
        of_bob: false,
        uses: [None; CODES],
        changes,
        is_new_account: false,
        answers,
        counter: None,
        now: UNIX_EPOCH + Duration::from_secs(1_795_000_000),
        source: "192.0.2.7".into(),
    }
}

/// User and uid protect a set as a whole. An entry is bound to nothing but its number, which is part of what is hashed:
/// root, who alone can put bob's hash into alice's file, could as well put in one of their own.
#[test]
fn a_set_of_bobs_is_refused_as_alices_but_bobs_hash_in_her_own_file_counts_in_its_own_slot_alone() {
    let world = World::new();
    let bobs = || (0..CODES).map(Answer::Bobs).collect::<Vec<_>>();
    assert_eq!(world.play(&Scene { of_bob: true, ..scene(vec![], bobs()) }), 0);
    assert_eq!(world.play(&scene(vec![], bobs())), 0);
    let [alices, others] = [&world.alice, &world.bob].map(|owner| owner.file(&[None; CODES]));
    let place = |file: &str, hash| file.find(hash).unwrap();
    for number in 0..CODES {
        let from = place(&others, &world.bob.hashes[number]);
        let put = |into: usize| {
            let at = place(&alices, &world.alice.hashes[into]);
            Change::Splice { at, from, length: world.bob.hashes[number].len() }
        };
        for into in 0..CODES {
            let accepted = world.play(&scene(vec![put(into)], bobs()));
            assert_eq!(accepted, usize::from(into == number), "{number} in {into}");
        }
    }
}

/// A power cut may leave any part of a record and the rest of the hash. Whatever that is, it is no hash of the code.
#[test]
fn a_mark_torn_at_any_byte_leaves_nothing_that_takes_its_code() {
    let world = World::new();
    let mut looks = 0;
    for (at, hash) in world.alice.hashes.iter().enumerate() {
        for (time, fails, service, source) in MARKS {
            let record =
                SpentRecord::new(time.parse().unwrap(), fails, service, source).padded_to(hash.len());
            let place = world.alice.file(&[None; CODES]).find(hash.as_str()).unwrap();
            for cut in 0..=hash.len() {
                let (begun, ended) = (&record[..cut], &record[cut..]);
                for (torn_at, part) in [(place, begun), (place + cut, ended)] {
                    let change = Change::Overwrite { at: torn_at, bytes: part.into() };
                    let accepted =
                        world.play(&scene(vec![change], vec![Answer::Alices(at), Answer::Alices(at)]));
                    assert_eq!(accepted, usize::from(part.is_empty()), "{cut} of {record}");
                    looks += 1;
                }
            }
        }
    }
    assert!(looks > 2000);
}

const MARKS: [(&str, u32, &str, &str); 4] = [
    ("2026-11-25T07:12:44Z", 0, "sshd", "192.0.2.7"),
    ("1970-01-01T00:00:00Z", 17, "login", "local"),
    (
        "2106-02-07T06:28:16Z",
        u32::MAX,
        "a-service-with-a-name-that-is-long",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    ),
    // All of a record that could pass for the end of a hash.
    (
        "9999-12-31T23:59:59Z",
        0,
        "s",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ),
];

/// The same for hashes of every width, in the entry itself: it reads as spent where all of the record is there, else as
/// damaged. And where only the word of the notice is torn, it is never a hash again.
#[test]
fn a_torn_entry_of_any_width_reads_as_damaged() {
    for (memory, passes, lanes) in
        [(8, 1, 1), (64, 10, 1), (19_456, 2, 1), (65_536, 100, 64), (4 << 20, 1000, 64)]
    {
        let hash = CodeHash::decoy(Cost::new(memory, passes, lanes).unwrap()).phc();
        for (time, fails, service, source) in MARKS {
            let record = SpentRecord::new(time.parse().unwrap(), fails, service, source);
            let due = record.padded_to(hash.len());
            assert_eq!(due.len(), hash.len());
            for cut in 1..hash.len() {
                for torn in [[&due[..cut], &hash[cut..]].concat(), [&hash[..cut], &due[cut..]].concat()] {
                    assert!(matches!(state(&torn), State::Damaged), "{torn}");
                }
            }
            assert!(matches!(state(&due), State::Spent(_)) && matches!(state(&hash), State::Unspent(_)));
            let notified = SpentRecord { mail: Mail::Ok, ..record.clone() }.padded_to(hash.len());
            for cut in 0..=due.len() {
                for torn in
                    [[&due[..cut], &notified[cut..]].concat(), [&notified[..cut], &due[cut..]].concat()]
                {
                    assert!(!matches!(state(&torn), State::Unspent(_)), "{torn}");
                }
            }
        }
    }
}

/// What an entry of a set reads as.
fn state(entry: &str) -> State {
    let text = format!(
        "format = 1\nset = \"a\"\nuser = \"a\"\nuid = 1\ncreated = 2026-11-24T02:00:00Z\nemail = []\ncodes = [\"{entry}\"]\n"
    );
    CodeSet::parse(&text).ok().unwrap().entries().next().unwrap().1.state.clone()
}

proptest! {
    #![proptest_config(Config { cases: 2000, failure_persistence: None, ..Config::default() })]

    /// Whatever the clock says and the network sends.
    #[test]
    fn every_mark_that_is_written_reads_back_as_spent(
        now in times(), fails: u32, service in ".*", source in ".*", memory in 8..=4_u32 << 20, is_due: bool,
    ) {
        let width = CodeHash::decoy(Cost::new(memory, 1, 1).unwrap()).phc().len();
        let mail = if is_due { Mail::Due } else { Mail::Ok };
        let record = SpentRecord { mail, ..SpentRecord::new(now.into(), fails, &service, &source) };
        let text = record.padded_to(width);
        prop_assert_eq!(text.len(), width);
        let State::Spent(read) = state(&text) else { return Err(TestCaseError::fail(text)) };
        prop_assert_eq!((read.time, read.mail, read.fails), (record.time, mail, fails.min(9999)));
        for (read, whole) in [(read.service, record.service), (read.source, record.source)] {
            let is_cut =
                |at: usize| read[at..].starts_with("..") && whole.starts_with(&read[..at]) && whole.ends_with(&read[at + 2..]);
            prop_assert!(read == whole || (0..read.len()).any(is_cut), "{} of {}", read, whole);
        }
    }
}
