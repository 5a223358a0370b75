//! Each event is told to the right people, and a delivery with nothing to tell leaves no trace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backupcodes_tests::postbox::{Handed, Postbox};
use backupcodes_tests::{Sheet, World, feed, me, pam, sheet, strace, text};

const OLD: &str = "old@example.org";
const NEW: &str = "new@example.org";

/// A world whose notices go into a postbox, and its words for what happened.
struct Scene {
    world: World,
    postbox: Postbox,
}

impl Scene {
    fn new(settings: &str) -> Option<Self> {
        let world = World::new("")?;
        let postbox = Postbox::of(&world);
        world.notify(&(postbox.settings() + "\n" + settings));
        Some(Self { world, postbox })
    }

    /// A scene with a set whose notices go to [`OLD`], and have gone out so far.
    fn with_set() -> Option<(Self, Sheet)> {
        let scene = Self::new("")?;
        let sheet = scene.generate(&["--email", OLD]);
        scene.told();
        Some((scene, sheet))
    }

    fn generate(&self, options: &[&str]) -> Sheet {
        sheet(self.world.admin(&[&["generate", "--yes", "--format", "json", &me()], options].concat()))
    }

    fn admin(&self, arguments: &[&str]) {
        let output = self.world.admin(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn use_code(&self, code: &String) {
        assert_eq!(self.world.try_answer(code), pam::SUCCESS);
    }

    /// Delivers what is due, and takes it out of the postbox: recipients, and in front of them subjects without the host.
    fn told(&self) -> Vec<(String, String)> {
        let mut told: Vec<_> = self.deliver().iter().map(|handed| (short(handed), to(handed))).collect();
        told.sort_unstable();
        told
    }

    fn deliver(&self) -> Vec<Handed> {
        // Clocks of a host far away.
        let output = feed(self.world.admin_command().arg("notify").env("TZ", "XYZ-5:30"), "");
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        let handed = self.postbox.handed();
        self.postbox.empty();
        handed
    }

    /// The one notice that is due.
    fn deliver_one(&self) -> Handed {
        let mut handed = self.deliver();
        assert_eq!(handed.len(), 1, "{handed:#?}");
        handed.remove(0)
    }
}

fn to(handed: &Handed) -> String {
    assert_eq!(handed.arguments[0], "--", "a recipient is no option");
    assert!(handed.message.contains(&format!("\nTo: <{}>\n", handed.arguments[1])), "{}", handed.message);
    handed.arguments[1].clone()
}

/// `used`, `new`, `replaced`, `revoked` or `readdressed`.
fn short(handed: &Handed) -> String {
    let (user, host) = (me(), host());
    let subjects = [
        (format!("New backup codes for {user} on {host}"), "new"),
        (format!("Backup codes of {user} on {host} were replaced"), "replaced"),
        (format!("Backup codes of {user} on {host} were revoked"), "revoked"),
        (format!("Notices about backup codes of {user} on {host} go to other addresses"), "readdressed"),
        (format!("Backup code 1 of {user} was used on {host}"), "used"),
    ];
    let subject = handed.subject();
    let short = subjects.iter().find(|(whole, _)| *whole == subject);
    short.unwrap_or_else(|| panic!("another subject: {subject}")).1.into()
}

fn host() -> String {
    nix::unistd::gethostname().unwrap().into_string().unwrap()
}

fn pairs(told: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = told.iter().map(|&(what, to)| (what.into(), to.into())).collect();
    pairs.sort_unstable();
    pairs
}

fn assert_says(handed: &Handed, parts: &[&str]) {
    for part in parts {
        assert!(handed.message.contains(part), "{part}: {}", handed.message);
    }
}

#[test]
fn a_use_is_told_with_time_and_place_refusals_before_it_and_what_is_left() {
    let Some(scene) = Scene::new("") else { return };
    let old = scene.generate(&["--email", OLD]);
    let sheet = scene.generate(&["--count", "5"]);
    scene.told();
    let refused = |times: usize| {
        for _ in 0..times {
            assert_eq!(scene.world.try_answer(&old.codes[0]), pam::AUTH_ERR);
        }
    };
    refused(2);
    scene.use_code(&sheet.codes[0]);
    let used = scene.deliver_one();
    assert_eq!(used.subject(), format!("Backup code 1 of {} was used on {}", me(), host()));
    assert_says(
        &used,
        &[
            &format!("  User:      {}\n  Host:      {}\n  Time:      ", me(), host()),
            " UTC+05:30\n  From:      192.0.2.7\n",
            &format!("  Service:   {}\n  Set:       {}\n", scene.world.service, sheet.set),
            "  Code:      number 1 of the sheet\n  Left:      4 of 5\n",
            "  Before it: 2 codes in a row from there were refused\n",
            "If this was not you",
            &format!("Tell the administrator of {} at once", host()),
            &format!("\n  backupcodes-admin revoke -- {}  ends", me()),
        ],
    );
    // One refused code, and not two: the notice of the accepted code already told of the first.
    refused(1);
    scene.use_code(&sheet.codes[1]);
    let used = scene.deliver_one();
    assert!(used.subject().ends_with(": only 3 left"), "{}", used.subject());
    assert_says(&used, &["  Before it: 1 code from there was refused\n", "Get a new sheet soon"]);
    for (code, words) in sheet.codes[2..].iter().zip(["only 2 left", "only 1 left", "none is left"]) {
        scene.use_code(code);
        let used = scene.deliver_one();
        assert!(used.subject().ends_with(&format!(": {words}")), "{}", used.subject());
        assert!(!used.message.contains("refused"), "{}", used.message);
    }
}

#[test]
fn who_is_told_and_whom_to_tell_is_what_the_configuration_and_the_set_say() {
    let user = me();
    let at_domain = format!("{user}@corp.example");
    let by_root = "From: \"Backup codes\" <root>\n";
    for (settings, options, recipients, from, contact) in [
        ("", &[][..], vec![user.as_str()], by_root, ""),
        (
            "domain = 'corp.example'",
            &[],
            vec![&at_domain],
            "From: \"Backup codes\" <root@corp.example>\n",
            "",
        ),
        (
            "domain = 'corp.example'\nfrom = 'pam@a.example'",
            &["--email", OLD],
            vec![OLD],
            "<pam@a.example>",
            "",
        ),
        (
            "copy_to = ['audit@a.example', 'old@example.org']\ncontact = 'the help desk, 5550'",
            &["--email", OLD, "--email", NEW],
            vec!["audit@a.example", NEW, OLD],
            by_root,
            "the help desk, 5550",
        ),
    ] {
        let Some(scene) = Scene::new(settings) else { return };
        let sheet = scene.generate(options);
        let contact =
            if contact.is_empty() { format!("the administrator of {}", host()) } else { contact.into() };
        for what in ["new", "used", "revoked"] {
            match what {
                "used" => scene.use_code(&sheet.codes[0]),
                "revoked" => scene.admin(&["revoke", &user]),
                _ => {}
            }
            let handed = scene.deliver();
            let mut told: Vec<_> = handed.iter().map(to).collect();
            told.sort_unstable();
            assert_eq!(told, recipients, "{settings}: {what}");
            for handed in handed {
                assert_eq!(short(&handed), what);
                assert_says(&handed, &[from, &format!("\nTell {contact} at once.")]);
            }
        }
    }
}

#[test]
fn a_set_that_replaces_another_is_told_to_the_old_and_the_new_addresses() {
    let Some((scene, old)) = Scene::with_set() else { return };
    let new = scene.generate(&[]);
    let replaced = scene.deliver_one();
    assert_eq!((short(&replaced).as_str(), to(&replaced).as_str()), ("replaced", OLD));
    assert_says(
        &replaced,
        &[
            &format!("  Set:       {}\n  Left:      10 of 10\n", new.set),
            &format!("  Old set:   {}, with 10 unspent\n", old.set),
        ],
    );
    scene.generate(&["--email", NEW]);
    let both = [("replaced", OLD), ("replaced", NEW), ("readdressed", OLD), ("readdressed", NEW)];
    assert_eq!(scene.told(), pairs(&both));
    // What can no longer be read as a set has no addresses to tell.
    fs::write(scene.world.file(), "rubbish").unwrap();
    scene.generate(&["--email", NEW]);
    assert_eq!(scene.told(), pairs(&[("new", NEW)]));
}

#[test]
fn a_revoked_set_and_other_addresses_are_told() {
    let Some((scene, sheet)) = Scene::with_set() else { return };
    scene.admin(&["email", &me(), NEW, "other@example.org"]);
    let told = scene.deliver();
    let mut recipients: Vec<_> = told.iter().map(to).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, [NEW, OLD, "other@example.org"]);
    for handed in told {
        assert_eq!(short(&handed), "readdressed");
        let facts =
            format!("  Before:    {OLD}\n  Now:       {NEW}, other@example.org\n  Left:      10 of 10\n");
        assert_says(&handed, &[&facts, &sheet.set, &format!("backupcodes-admin email -- {}", me())]);
    }
    // The same ones are no news.
    scene.admin(&["email", &me(), NEW, "other@example.org"]);
    assert_eq!(scene.told(), []);
    scene.use_code(&sheet.codes[0]);
    scene.told();
    scene.admin(&["revoke", &me()]);
    let revoked = scene.deliver();
    assert_eq!(revoked.len(), 2);
    for handed in revoked {
        assert_eq!(short(&handed), "revoked");
        assert_says(&handed, &["  Left:      none; 9 were unspent\n", &sheet.set]);
    }
}

#[test]
fn a_use_that_is_due_is_told_to_those_who_were_to_be_told_whatever_becomes_of_its_set() {
    type Change = fn(&Scene);
    let changes: [(Change, &[(&str, &str)]); 5] = [
        (|scene| drop(scene.generate(&[])), &[("replaced", OLD)]),
        (
            |scene| drop(scene.generate(&["--email", NEW])),
            &[("replaced", OLD), ("replaced", NEW), ("readdressed", OLD), ("readdressed", NEW)],
        ),
        (|scene| scene.admin(&["revoke", &me()]), &[("revoked", OLD)]),
        // Here the set that holds the use goes on, and tells the new address too.
        (
            |scene| scene.admin(&["email", &me(), NEW]),
            &[("readdressed", OLD), ("readdressed", NEW), ("used", NEW)],
        ),
        // A thief may do several things.
        (
            |scene| {
                scene.admin(&["email", &me(), NEW]);
                scene.admin(&["revoke", &me()]);
                scene.generate(&["--email", NEW]);
            },
            &[("readdressed", OLD), ("readdressed", NEW), ("used", NEW), ("revoked", NEW), ("new", NEW)],
        ),
    ];
    for (change, others) in changes {
        let Some((scene, sheet)) = Scene::with_set() else { return };
        scene.use_code(&sheet.codes[0]);
        change(&scene);
        assert_eq!(scene.told(), pairs(&[others, &[("used", OLD)]].concat()));
    }
}

#[test]
fn a_set_of_an_account_that_is_created_again_is_told_to_nobody_who_had_the_name_before() {
    let Some((scene, sheet)) = Scene::with_set() else { return };
    scene.use_code(&sheet.codes[0]);
    let uid = nix::unistd::geteuid().as_raw();
    let file = fs::read_to_string(scene.world.file()).unwrap();
    let of_another = file.replace(&format!("\nuid = {uid}\n"), &format!("\nuid = {}\n", uid + 1));
    fs::write(scene.world.file(), of_another).unwrap();
    scene.generate(&[]);
    // But of the use, which was of the set of whoever had it.
    assert_eq!(scene.told(), pairs(&[("used", OLD), ("new", &me())]));
}

#[test]
fn no_notice_holds_a_code_a_hash_or_a_link() {
    let Some(scene) = Scene::new("copy_to = ['audit@example.org']") else { return };
    let mut secrets = Vec::new();
    let mut keep = |sheet: &Sheet| {
        for code in &sheet.codes {
            // As it is printed, and as it may be typed: without its number and without dashes.
            secrets.extend([code.clone(), code.replace('-', ""), code.replace('-', "")[1..].into()]);
        }
        let file = fs::read_to_string(scene.world.file()).unwrap();
        let hashes = file.split('"').filter(|word| word.starts_with("$argon2"));
        secrets.extend(hashes.flat_map(|hash| hash.split('$').skip(4).map(Into::into)));
    };
    let first = scene.generate(&["--email", OLD]);
    keep(&first);
    scene.use_code(&first.codes[0]);
    scene.use_code(&first.codes[1]);
    scene.admin(&["email", &me(), NEW]);
    let second = scene.generate(&["--email", OLD]);
    keep(&second);
    scene.use_code(&second.codes[0]);
    let mut handed = scene.deliver();
    scene.admin(&["revoke", &me()]);
    handed.extend(scene.deliver());
    assert!(handed.len() > 15 && secrets.len() > 80, "{} {}", handed.len(), secrets.len());
    for Handed { message, .. } in handed {
        let plain = message.to_ascii_uppercase();
        let found: Vec<_> =
            secrets.iter().filter(|secret| plain.contains(&secret.to_ascii_uppercase())).collect();
        assert!(found.is_empty(), "{found:?} in {message}");
        assert!(!["ARGON2", "://", "HREF", "WWW."].iter().any(|word| plain.contains(word)), "{message}");
    }
}

#[test]
fn a_delivery_with_nothing_due_runs_no_sendmail_and_writes_nothing() {
    let Some(scene) = Scene::new("") else { return };
    let quiet = |when: &str| {
        let before = state(&scene.world.store());
        let changes = scene.changes();
        assert!(changes.is_empty(), "{when}: {changes:#?}");
        assert_eq!(state(&scene.world.store()), before, "{when}");
    };
    quiet("no set");
    let sheet = scene.generate(&["--email", OLD]);
    // A notice that is due shows that changes would be seen.
    assert!(scene.changes().len() > 2);
    quiet("a set whose notice is out");
    scene.use_code(&sheet.codes[0]);
    scene.told();
    quiet("a use that is told");
    scene.use_code(&sheet.codes[1]);
    scene.postbox.before("exit 70");
    // What sendmail refuses is tried again, and noted where nobody watches.
    let refused = || assert!(!scene.world.admin(&["notify"]).status.success());
    let watched = || {
        let mut state = state(&scene.world.store());
        state.retain(|path, _| !path.starts_with(scene.world.store().join("outbox")));
        state
    };
    refused();
    let before = watched();
    refused();
    assert_eq!(watched(), before, "a use that was refused");
}

impl Scene {
    /// What a delivery runs, and asks of the kernel that could change the directory of the sets or wake who watches it.
    fn changes(&self) -> Vec<String> {
        let mut command = self.world.admin_command();
        let (calls, output) = strace::calls(command.arg("notify"), "", "%desc,%file");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let store = self.world.store().display().to_string();
        let reads = "fstat newfstatat statx getdents64 read pread64 lseek close flock fcntl faccessat2";
        calls
            .into_iter()
            .filter(|call| call.starts_with("execve") || call.contains(&store))
            // The first one is the delivery itself.
            .skip(1)
            .filter(|call| {
                let name = call.split('(').next().unwrap();
                let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.contains(flag));
                !reads.split(' ').any(|read| read == name) && (writes || name != "openat")
            })
            .collect()
    }
}

/// All files below a directory, with their contents and times.
fn state(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, [i64; 4])> {
    let mut state = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(path) = folders.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
        if data.is_dir() {
            folders.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            state.insert(path, (Vec::new(), times));
        } else if data.is_symlink() {
            let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
            state.insert(path, (target, times));
        } else {
            state.insert(path.clone(), (fs::read(path).unwrap(), times));
        }
    }
    state
}
