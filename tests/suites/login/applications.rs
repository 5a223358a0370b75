//! Real programs that behave in ways of their own: sudo's tickets, login shells, sshd's special cases, clients that go away, and
//! many logins at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use backupcodes_tests::machine::{Account, Machine, Sshd};
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Sheet, readme, sheets};
use nix::fcntl::{Flock, FlockArg};

const PROMPT: &str = "Backup code: ";

fn prompts(terminal: &Terminal) -> usize {
    terminal.screen.matches(PROMPT).count()
}

fn left(machine: &Machine, account: &Account) -> u64 {
    machine.status(account)["left"].as_u64().unwrap()
}

#[test]
fn sudo_with_this_module_alone_asks_only_for_the_code() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sudo", "ssh-key");
    let (caller, sheet) = machine.user();
    machine.sudoer(&caller);
    let sudo = |answers: &[&str]| {
        let mut terminal =
            Terminal::start(caller.command().args(["sudo", "-k", "sh", "-c", "echo now $(id -un)"]));
        for answer in answers {
            terminal.expect(PROMPT);
            terminal.send(answer);
        }
        (terminal.end(), terminal.screen.clone())
    };
    let (status, screen) = sudo(&[&sheet.codes[0]]);
    assert!(status == 0 && screen.contains("now root") && !screen.contains("assword"), "{screen}");
    // sudo asks three times; the account's password is no code.
    let (status, screen) = sudo(&[&sheet.codes[0], &caller.password, ""]);
    assert!(status == 1 && screen.contains("3 incorrect password attempts"), "{screen}");
    assert!(!screen.contains("now root"), "{screen}");
    assert_eq!(left(&machine, &caller), 9);
}

#[test]
fn sudo_asks_nothing_while_its_ticket_holds_and_for_a_fresh_code_after_k() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sudo", "ssh-key");
    let caller = machine.account();
    let codes = machine.generate(&caller).codes;
    machine.sudoer(&caller);
    // A ticket holds for one terminal and session.
    let mut shell = Terminal::start(caller.command().args(["bash", "--norc"]));
    let mut sudo = |options: &str, answers: &[&str]| {
        let before = prompts(&shell);
        shell.expect("$ ");
        shell.send(&format!("sudo {options} sh -c 'echo now $(id -un)'"));
        for answer in answers {
            shell.expect(PROMPT);
            shell.send(answer);
        }
        shell.expect("now root");
        assert_eq!(prompts(&shell) - before, answers.len(), "{}", shell.screen);
    };
    sudo("", &[&codes[0]]);
    sudo("", &[]);
    // With a command, `sudo -k` ignores the ticket, and the spent code is refused.
    sudo("-k", &[&codes[0], &codes[1]]);
    sudo("", &[]);
    // Without one, it is gone.
    sudo("-k; sudo", &[&codes[2]]);
    sudo("", &[]);
    assert_eq!(left(&machine, &caller), 7);
}

#[test]
fn su_with_a_login_shell_asks_for_the_code_of_the_target() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("su", "console");
    let (caller, target) = (machine.account(), machine.account());
    let (callers, targets) = (machine.generate(&caller), machine.generate(&target));
    let su = |code: &str| {
        let mut terminal = Terminal::start(caller.command().args(["su", "-", &target.name]));
        terminal.expect("Password: ");
        terminal.send(&target.password);
        terminal.expect(PROMPT);
        terminal.send(code);
        terminal
    };
    let refused = |mut terminal: Terminal| {
        terminal.expect("Authentication failure");
        assert_eq!(terminal.end(), 1);
    };
    refused(su(&callers.codes[0]));
    let mut terminal = su(&targets.codes[0]);
    terminal.expect("$ ");
    terminal.send("echo now $(id -un) in $PWD; exit");
    terminal.expect(&format!("now {} in /home/{0}", target.name));
    assert_eq!(terminal.end(), 0);
    refused(su(&targets.codes[0]));
    assert_eq!(left(&machine, &caller), 10);
    // Debian gives a login shell a service of its own, whose file includes that of su.
    let first = machine.status(&target)["codes"][0].clone();
    assert_eq!((left(&machine, &target), first["service"].as_str()), (9, Some("su-l")));
}

/// sshd's settings for a stack of this module alone, without a key, and more settings.
fn code_alone(settings: &str) -> String {
    readme::block("sshd-password") + settings
}

/// What a client sees that gives these answers, and how it ends.
fn try_ssh(sshd: &Sshd, account: &Account, key: Option<&PathBuf>, answers: &[&str]) -> (i32, Terminal) {
    let mut terminal = Terminal::start(&mut sshd.client(account, key, "echo logged in as $USER"));
    for answer in answers {
        terminal.expect(PROMPT);
        terminal.send(answer);
    }
    (terminal.end(), terminal)
}

#[test]
fn sshd_shows_the_same_whether_a_user_exists_has_a_set_or_is_root() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "ssh-key");
    let (root, with, without) = (Account::root(), machine.account(), machine.account());
    let unknown = Account { name: format!("{}-unknown", with.name), password: String::new() };
    let codes = machine.generate(&root).codes;
    machine.generate(&with);
    let sshd = machine.sshd_with(&code_alone("PermitRootLogin prohibit-password\n"));
    let seen = |account: &Account| {
        let (status, terminal) = try_ssh(&sshd, account, None, &[&codes[0], "hunter2", ""]);
        (status, prompts(&terminal), terminal.screen.replace(&account.name, "USER"))
    };
    let known = seen(&with);
    assert!(known.0 == 255 && known.1 == 3 && known.2.contains("Permission denied"), "{known:?}");
    for account in [&without, &unknown, &root] {
        assert_eq!(seen(account), known, "{}", account.name);
    }
    // It was the right code of root's, and a wrong one of the other's.
    assert_eq!((machine.failures_at_sshd(&root), left(&machine, &root)), (0, 10));
    assert_eq!((machine.failures_at_sshd(&with), left(&machine, &with)), (1, 10));
    let sshd = machine.sshd_with(&code_alone("PermitRootLogin yes\n"));
    let (status, terminal) = try_ssh(&sshd, &root, None, &[&codes[0]]);
    assert!(status == 0 && terminal.screen.contains("logged in as root"), "{}", terminal.screen);
}

#[test]
fn sshd_takes_no_code_of_root_behind_a_key_unless_root_may_log_in_by_other_means() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "ssh-key");
    let root = Account::root();
    let codes = machine.generate(&root).codes;
    let (key, setting) = machine.shared_key();
    let sshd = |permit: &str| {
        let settings = format!("{setting}PermitRootLogin {permit}\n");
        machine.sshd_with(&(readme::block("sshd-key") + &settings))
    };
    let strict = sshd("prohibit-password");
    let (status, terminal) = try_ssh(&strict, &root, Some(&key), &[&codes[0], &codes[1], &codes[2]]);
    assert!(status == 255 && !terminal.screen.contains("logged in"), "{}", terminal.screen);
    assert_eq!((machine.failures_at_sshd(&root), left(&machine, &root)), (0, 10));
    let (status, terminal) = try_ssh(&sshd("yes"), &root, Some(&key), &[&codes[0]]);
    assert!(status == 0 && terminal.screen.contains("logged in as root"), "{}", terminal.screen);
}

#[test]
fn sshd_ends_a_connection_after_its_most_tries_and_each_wrong_code_is_counted() {
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "ssh-key");
    let (account, other) = (machine.account(), machine.account());
    let (codes, wrong) = (machine.generate(&account).codes, machine.generate(&other).codes);
    let sshd = machine.sshd_with(&code_alone("MaxAuthTries 2\n"));
    for connection in 1..=2 {
        let (status, terminal) = try_ssh(&sshd, &account, None, &[&wrong[0], &wrong[1]]);
        let screen = &terminal.screen;
        assert!(status == 255 && screen.contains("Too many authentication failures"), "{screen}");
        assert_eq!((prompts(&terminal), machine.failures_at_sshd(&account)), (2, 2 * connection), "{screen}");
    }
    let (status, terminal) = try_ssh(&sshd, &account, None, &[&codes[0]]);
    assert!(status == 0 && terminal.screen.contains("logged in"), "{}", terminal.screen);
    assert_eq!(machine.failures_at_sshd(&account), 0, "a right code forgets the wrong ones");
}

/// A stack of the code alone, an account with as many codes, and sshd.
fn with_codes(count: usize) -> Option<(Machine, Account, Sheet, Sshd)> {
    let machine = Machine::new()?;
    machine.stack("sshd", "ssh-key");
    let account = machine.account();
    let sheet = machine.generate_count(&account, count);
    let sshd = machine.sshd_with(&code_alone(""));
    Some((machine, account, sheet, sshd))
}

/// A client that was killed at its prompt, or so long after it sent an answer.
fn drop_connection(sshd: &Sshd, account: &Account, answer: Option<&str>, wait: impl FnOnce()) {
    let mut terminal = Terminal::start(&mut sshd.client(account, None, "echo logged in"));
    terminal.expect(PROMPT);
    if let Some(answer) = answer {
        terminal.send(answer);
        wait();
    }
    drop(terminal);
}

/// Nothing is left of whoever went away: no process, no lock, no hash permit, no half of a spent record.
fn assert_whole(machine: &Machine, account: &Account, sshd: &Sshd) {
    sshd.wait_until_idle();
    let permits = fs::read_dir("/run/backupcodes/hash-permits").unwrap().map(|entry| entry.unwrap().path());
    for path in permits.chain([account.file(), "/var/lib/backupcodes".into()]) {
        assert!(try_lock(&path).is_ok(), "{path:?} is still locked");
    }
    let status = machine.status(account);
    let states: Vec<_> =
        status["codes"].as_array().unwrap().iter().map(|code| code["state"].as_str().unwrap()).collect();
    assert!(states.iter().all(|state| ["unspent", "spent"].contains(state)), "{status}");
}

fn try_lock(path: &Path) -> Result<Flock<File>, (File, nix::errno::Errno)> {
    Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock)
}

/// How often a code was accepted.
fn accepted(machine: &Machine, account: &Account, number: usize) -> usize {
    let what = format!("accepted code {number} ");
    let log = machine.log();
    log.iter().filter(|line| line.text.contains(&what) && line.text.contains(&account.name)).count()
}

/// A further login with a code works if the code is unspent, and only then.
fn assert_works_if_unspent(
    machine: &Machine,
    account: &Account,
    sshd: &Sshd,
    (number, code): (usize, &String),
) {
    let was = machine.status(account)["codes"][number - 1]["state"].clone();
    let mut terminal = Terminal::start(&mut sshd.client(account, None, "echo logged in"));
    terminal.expect(PROMPT);
    terminal.send(code);
    if was == "unspent" {
        terminal.expect("logged in");
    } else {
        terminal.expect(PROMPT);
    }
    drop(terminal);
    let accepted = accepted(machine, account, number);
    assert!(accepted == 1 || (accepted == 0 && was == "spent"), "code {number}, {was}: {accepted}");
}

#[test]
fn a_client_that_goes_away_at_the_prompt_spends_and_counts_nothing() {
    let Some((machine, account, sheet, sshd)) = with_codes(2) else { return };
    // So that there is a permit to look at.
    assert_works_if_unspent(&machine, &account, &sshd, (1, &sheet.codes[0]));
    sshd.wait_until_idle();
    let before = fs::read(account.file()).unwrap();
    for _ in 0..3 {
        drop_connection(&sshd, &account, None, || ());
    }
    assert_whole(&machine, &account, &sshd);
    assert_eq!(fs::read(account.file()).unwrap(), before);
    assert_eq!(machine.failures_at_sshd(&account), 0);
    assert_works_if_unspent(&machine, &account, &sshd, (2, &sheet.codes[1]));
    assert_eq!(left(&machine, &account), 0);
}

#[test]
fn a_client_that_leaves_after_its_response_leaves_a_whole_set() {
    let delays = [0, 1, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 400];
    let Some((machine, account, sheet, sshd)) = with_codes(delays.len() + 2) else { return };
    assert_works_if_unspent(&machine, &account, &sshd, (1, &sheet.codes[0]));
    let codes = || (1..).zip(&sheet.codes).skip(1);
    for (delay, (number, code)) in delays.into_iter().zip(codes()) {
        drop_connection(&sshd, &account, Some(code), || {
            std::thread::sleep(Duration::from_millis(delay));
        });
        assert_whole(&machine, &account, &sshd);
        assert!(accepted(&machine, &account, number) <= 1);
        // Those that were cut off while they were hashed have counted.
        assert!(machine.admin(&["unlock", &account.name]).status.success());
    }
    // The last one is a code that nobody tried before.
    for code in codes() {
        assert_works_if_unspent(&machine, &account, &sshd, code);
        assert!(machine.admin(&["unlock", &account.name]).status.success());
    }
    assert_eq!(left(&machine, &account), 0);
}

#[test]
fn a_client_that_goes_away_while_its_code_is_spent_leaves_it_spent_and_nothing_locked() {
    let Some((machine, account, sheet, sshd)) = with_codes(2) else { return };
    let spender = try_lock(&account.file()).unwrap();
    drop_connection(&sshd, &account, Some(&sheet.codes[0]), || {
        // Counted before it is hashed; the hash takes far less than a second, and then the lock is waited for.
        wait_until("the answer", || machine.failures_at_sshd(&account) > 0);
        std::thread::sleep(Duration::from_secs(2));
    });
    drop(spender);
    assert_whole(&machine, &account, &sshd);
    // sshd lets the check do what it has begun before it looks after the client.
    assert_eq!(machine.status(&account)["codes"][0]["state"], "spent");
    for code in (1..).zip(&sheet.codes) {
        assert_works_if_unspent(&machine, &account, &sshd, code);
    }
}

#[test]
fn of_100_logins_at_once_all_get_in_and_spend_their_codes() {
    const LOGINS: usize = 100;
    let start = Instant::now();
    let Some(machine) = Machine::new() else { return };
    machine.stack("sshd", "ssh-key");
    let accounts = machine.accounts(LOGINS);
    let names = || accounts.iter().map(|account| account.name.as_str());
    // The costs are the usual ones, so that the hashes have to wait for each other.
    let arguments = ["generate", "--count", "1", "--format", "json"].into_iter().chain(names());
    let output = machine.admin(&arguments.collect::<Vec<_>>());
    let sheets = sheets(output);
    assert!(sheets.iter().map(|sheet| sheet.user.as_str()).eq(names()));
    let (key, setting) = machine.shared_key();
    let sshd = machine.sshd_with(&(readme::block("sshd-key") + &setting + "MaxStartups 200\n"));
    let prepared = start.elapsed();

    let barrier = Barrier::new(LOGINS);
    let (all_asked, all_in) = std::thread::scope(|scope| {
        let logins = accounts.iter().zip(&sheets).map(|(account, sheet)| {
            let mut client = sshd.client(account, Some(&key), "echo logged in as $USER");
            let barrier = &barrier;
            scope.spawn(move || {
                let mut terminal = Terminal::start(&mut client);
                let asked = terminal.find(PROMPT);
                // All must come here, or the others would wait for ever.
                barrier.wait();
                let all_asked = start.elapsed();
                assert!(asked, "{}", terminal.screen);
                terminal.send(&sheet.codes[0]);
                terminal.expect(&format!("logged in as {}", account.name));
                assert_eq!(terminal.end(), 0, "{}", terminal.screen);
                (all_asked, start.elapsed())
            })
        });
        let logins: Vec<_> = logins.collect();
        let times: Vec<_> = logins.into_iter().map(|login| login.join().unwrap()).collect();
        (times[0].0, times.into_iter().map(|(_, done)| done).max().unwrap())
    });

    assert_eq!(accounts.iter().map(|account| left(&machine, account)).sum::<u64>(), 0);
    let log = machine.log();
    let accepted = |account: &Account| {
        let place = format!("user={} service=sshd ", account.name);
        log.iter().filter(|line| line.text.contains("accepted code 1 ") && line.text.contains(&place)).count()
    };
    assert!(accounts.iter().all(|account| accepted(account) == 1));
    // They waited for each other, in no more permits than there are.
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let processors = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let permits = fs::read_dir("/run/backupcodes/hash-permits").unwrap().count();
    assert!((1..=(2 * processors).max(4)).contains(&permits), "{permits} permits, {processors} processors");
    println!(
        "{LOGINS} logins: prepared after {prepared:.1?}, all asked after {all_asked:.1?}, all in after {all_in:.1?}"
    );
}
