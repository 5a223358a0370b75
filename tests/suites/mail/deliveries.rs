//! Deliveries at the same time, stopped deliveries, and deliveries on a full disk: each notice goes out once, and none is lost.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use backupcodes_tests::disk::{Disk, FileSystem, Lack};
use backupcodes_tests::machine::{Account, Machine};
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::strace::tampering;
use backupcodes_tests::{Attempt, Sheet, World, built, me, pam, race, set_mode, sheet, text};

fn notify(world: &World) -> Output {
    world.admin(&["notify"])
}

fn start_notify(world: &World) -> Child {
    let mut command = world.admin_command();
    command.arg("notify").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sets of 31 codes of so many users, whose first notices are out.
fn sets(machine: &Machine, world: &World, postbox: &Postbox, count: usize) -> Vec<(Account, Sheet)> {
    let generate = |account: Account| {
        let output = world.admin(&["generate", "--count", "31", "--format", "json", &account.name]);
        (account, sheet(output))
    };
    let sets: Vec<_> = machine.accounts(count).into_iter().map(generate).collect();
    world.deliver();
    postbox.expect(count);
    postbox.empty();
    sets
}

fn login(world: &World, account: &Account, code: &String) -> Attempt {
    Attempt { user: account.name.clone().into(), ..world.attempt(&[code.into()]) }
}

/// All of them at once. Each gets in.
fn log_in(attempts: &[Attempt]) {
    for outcome in race(attempts) {
        assert_eq!(outcome.expect("no application dies").codes, [pam::SUCCESS]);
    }
}

/// Notices that are due, of all sets of the world.
fn due(world: &World) -> u64 {
    let output = world.admin(&["status", "--format", "json"]);
    let sets: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    sets.iter().map(|set| set["due"].as_u64().unwrap()).sum()
}

/// How often the use of each code was told, by the beginning of the subject, which is all before the host.
fn told(postbox: &Postbox) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for subject in postbox.subjects() {
        *told.entry(subject.split(" on ").next().unwrap().to_owned()).or_default() += 1;
    }
    told
}

/// The same if each was told once.
fn all_once(sets: &[(Account, Sheet)], codes: usize) -> BTreeMap<String, usize> {
    let of_set = |(account, _): &(Account, Sheet)| {
        let name = account.name.clone();
        (1..=codes).map(move |code| (format!("Backup code {code} of {name} was used"), 1))
    };
    sets.iter().flat_map(of_set).collect()
}

#[test]
fn of_16_deliveries_at_once_each_notice_goes_out_once() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let postbox = Postbox::of(&world);
    let sets = sets(&machine, &world, &postbox, 3);
    let attempts: Vec<_> = sets
        .iter()
        .zip([11, 10, 10])
        .flat_map(|((account, sheet), count)| {
            sheet.codes[..count].iter().map(|code| login(&world, account, code))
        })
        .collect();
    log_in(&attempts);
    assert_eq!(due(&world), 31);
    let deliveries: Vec<_> = (0..16).map(|_| start_notify(&world)).collect();
    deliveries.into_iter().for_each(end);
    let mut expected = all_once(&sets[..1], 11);
    expected.extend(all_once(&sets[1..], 10));
    assert_eq!(told(&postbox), expected);
    assert_eq!(due(&world), 0);
}

#[test]
fn of_logins_in_a_storm_beside_deliveries_each_is_told_once() {
    let Some((machine, world)) = World::on_machine("") else { return };
    let postbox = Postbox::of(&world);
    let sets = sets(&machine, &world, &postbox, 4);
    for at in (0..31).step_by(4) {
        let codes = at..31.min(at + 4);
        let attempts: Vec<_> = sets
            .iter()
            .flat_map(|(account, sheet)| {
                sheet.codes[codes.clone()].iter().map(|code| login(&world, account, code))
            })
            .collect();
        let deliveries: Vec<_> = (0..4).map(|_| start_notify(&world)).collect();
        log_in(&attempts);
        deliveries.into_iter().for_each(end);
    }
    world.deliver();
    assert_eq!(told(&postbox), all_once(&sets, 31));
    assert_eq!(due(&world), 0);
}

#[test]
fn a_use_that_comes_while_a_delivery_is_ending_is_told_without_a_third_one() {
    const ROUNDS: usize = 200;
    let Some((machine, world)) = World::on_machine("") else { return };
    let postbox = Postbox::of(&world);
    let sets = sets(&machine, &world, &postbox, ROUNDS / 31 + 1);
    let mut codes =
        sets.iter().flat_map(|(account, sheet)| sheet.codes.iter().map(move |code| (account, code)));
    for round in 0..ROUNDS {
        let (account, code) = codes.next().unwrap();
        let attempt = login(&world, account, code);
        std::thread::scope(|scope| {
            // From before the login to after it, over the rounds.
            let ending = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(300 * (round as u64 % 50)));
                world.deliver();
            });
            log_in(&[attempt]);
            world.deliver();
            ending.join().unwrap();
        });
        assert_eq!(due(&world), 0, "round {round}");
    }
    let told = told(&postbox);
    assert!(told.values().all(|&times| times == 1) && told.len() == ROUNDS, "{told:#?}");
}

#[test]
fn a_use_that_comes_between_the_last_look_of_a_delivery_and_its_end_is_told_by_it() {
    let Some(world) = World::new("") else { return };
    let (postbox, sheet) = Postbox::with_set(&world);
    // It looks, finds nothing, and takes two seconds to let go: the first call takes the lock, the second gives it back.
    let mut strace = tampering("flock:delay_enter=2000000:when=2");
    strace.arg("-P").arg(world.path("run/notify/lock")).arg(built("backupcodes-admin"));
    strace.arg("--config").arg(world.path("conf")).arg("notify");
    strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ending = strace.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    world.deliver();
    assert!(ending.try_wait().unwrap().is_none() && due(&world) == 1, "the first one still has the lock");
    end(ending);
    postbox.expect(1);
    assert_eq!(due(&world), 0);
}

#[test]
fn a_set_that_ends_during_a_delivery_is_reported_once() {
    let Some(world) = World::new("") else { return };
    let (postbox, sheet) = Postbox::with_set(&world);
    (0..3).for_each(|code| assert_eq!(world.try_answer(&sheet.codes[code]), pam::SUCCESS));
    postbox.hold("first");
    let delivery = start_notify(&world);
    let _ = postbox.held("first");
    assert!(world.admin(&["revoke", &me()]).status.success());
    postbox.release("first");
    end(delivery);
    assert!(world.other_files().is_empty(), "nothing is due");
    let mut times: Vec<_> = told(&postbox).into_iter().collect();
    let mut expected: Vec<_> = [(1, 2), (2, 1), (3, 1)]
        .map(|(code, times)| (format!("Backup code {code} of {} was used", me()), times))
        .into();
    expected.push((format!("Backup codes of {}", me()), 1));
    times.sort_unstable();
    // What was in hand had to be kept, since sendmail had not taken it yet.
    assert_eq!(times, expected);
}

fn end(delivery: Child) {
    let output = delivery.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn without_a_usable_runtime_directory_notices_go_out_with_a_warning() {
    let Some(world) = World::new("") else { return };
    let postbox = Postbox::of(&world);
    let sheet = world.generate();
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    set_mode(&world.path("run"), 0o777);
    let output = notify(&world);
    assert!(output.status.success(), "{output:?}");
    let complaint = text(&output.stderr);
    assert_eq!(complaint.matches("notices may be sent twice").count(), 1, "{complaint}");
    assert!(
        complaint.contains("0777") && complaint.contains(world.path("run").to_str().unwrap()),
        "{complaint}"
    );
    postbox.expect(2);
    assert_eq!(due(&world), 0);
}

#[test]
fn on_a_full_disk_the_login_works_and_its_notice_waits_for_sendmail_alone() {
    let Some(world) = World::of_root("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Ext4);
    let (postbox, sheet) = Postbox::with_set(&world);
    disk.fill(Lack::Bytes);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{:?}", world.last_line());
    postbox.before("exit 75");
    for _ in 0..2 {
        let output = notify(&world);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(text(&output.stderr).contains("stays due"), "{output:?}");
        assert_eq!(due(&world), 1);
    }
    postbox.before("");
    world.deliver();
    postbox.expect(1);
    assert_eq!(due(&world), 0);
    world.deliver();
    postbox.expect(1);
}

#[test]
fn on_a_full_disk_a_notice_that_one_of_two_got_goes_to_the_other_once_there_is_room() {
    let Some(world) = World::of_root("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Ext4);
    let postbox = Postbox::of(&world);
    let arguments =
        ["generate", "--format", "json", "--email", "one@example.org", "--email", "two@example.org"];
    let sheet = sheet(world.admin(&[&arguments[..], &[&me()]].concat()));
    world.deliver();
    postbox.empty();
    disk.fill(Lack::Bytes);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS, "{:?}", world.last_line());
    postbox.before("[ \"$3\" != two@example.org ] || exit 75");
    let output = notify(&world);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("will be sent again"), "{output:?}");
    assert_eq!(due(&world), 1, "for want of room to note who has it");
    disk.make_room();
    postbox.empty();
    postbox.before("");
    world.deliver();
    let recipients = postbox.handed().into_iter().map(|handed| handed.arguments[1].clone());
    let mut recipients: Vec<_> = recipients.collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["one@example.org", "two@example.org"]);
    assert_eq!(due(&world), 0);
}

#[test]
fn on_a_full_disk_a_change_whose_notice_cannot_be_written_does_not_happen() {
    let Some(world) = World::of_root("") else { return };
    let disk = Disk::with_store(&world, FileSystem::Ext4);
    let (postbox, sheet) = Postbox::with_set(&world);
    disk.fill(Lack::Bytes);
    let before = fs::read(world.file()).unwrap();
    for change in [&["revoke", &me()][..], &["email", &me(), "other@example.org"]] {
        let output = world.admin(change);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()), "{output:?}");
        assert!(text(&output.stderr).contains("ENOSPC"), "{output:?}");
        assert_eq!(fs::read(world.file()).unwrap(), before, "{change:?}");
    }
    assert_eq!(world.other_files(), [""; 0], "nothing is queued, and nothing is left over");
    world.deliver();
    postbox.expect(0);
    assert_eq!(world.try_answer(&sheet.codes[0]), pam::SUCCESS);
    disk.make_room();
    assert!(world.admin(&["revoke", &me()]).status.success());
    world.deliver();
    let subjects = postbox.subjects();
    assert_eq!(subjects.len(), 2, "{subjects:#?}");
    assert!(
        subjects[0].starts_with("Backup code 1 of ") && subjects[1].ends_with(" were revoked"),
        "{subjects:#?}"
    );
}
