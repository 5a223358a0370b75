//! The broker checks codes for applications that are not root, or that see /var read-only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backupcodes_tests::level::ERROR;
use backupcodes_tests::patience::wait_until;
use backupcodes_tests::postbox::Postbox;
use backupcodes_tests::scene::{Scene, USER};
use backupcodes_tests::{Attempt, CHEAP, as_nobody, built, pam, race_in, sandbox, sheet};
use serde_json::json;

#[test]
fn a_code_works_once_in_an_application_that_is_not_root() {
    let Some(scene) = Scene::new("") else { return };
    let [first, second] = [&scene.sheet.codes[0], &scene.sheet.codes[1]];
    // The prompt, and that the code is used up.
    assert_eq!(scene.try_as_user(first), (pam::SUCCESS, 2));
    assert_eq!(scene.try_as_user(first), (pam::AUTH_ERR, 1));
    assert_eq!(scene.try_as_user("no code"), (pam::AUTH_ERR, 1));
    let pasted =
        format!("\u{feff}\u{1b}[200~3) {}\u{1b}[201~\r\n", scene.sheet.codes[2].replace('-', "\u{2013}"));
    assert_eq!(scene.try_as_user(&pasted), (pam::SUCCESS, 2));
    assert_eq!(scene.status()["left"], 8);
    assert_eq!(scene.status()["codes"][0]["service"], scene.world.service);
    let log = scene.log();
    assert!(log[0].text.contains("accepted code 1 of set"), "{log:#?}");
    assert!(log[1].text.contains("code 1 was used before") && log.len() == 4, "{log:#?}");
    assert_eq!(scene.attempt(second).run().codes, [pam::SUCCESS], "root needs no broker");
    assert_eq!(scene.try_as_user(second).0, pam::AUTH_ERR);
}

#[test]
fn without_a_broker_nobody_is_asked_and_the_log_says_how_to_enable_it() {
    let Some(mut scene) = Scene::new("nullok") else { return };
    scene.broker.kill().unwrap();
    scene.broker.wait().unwrap();
    let code = scene.sheet.codes[0].clone();
    assert_eq!(scene.try_as_user(&code), (pam::AUTHINFO_UNAVAIL, 0));
    let line = scene.world.last_line();
    assert!(line.text.contains("no broker") && line.text.contains("systemctl enable"), "{line:?}");
    assert_eq!(line.level, ERROR);
    assert_eq!(scene.attempt(&code).run().codes, [pam::SUCCESS]);
}

#[test]
fn with_nullok_the_broker_proves_that_there_is_no_set() {
    let Some(scene) = Scene::new("nullok") else { return };
    assert_eq!(scene.try_as_user("no code"), (pam::AUTH_ERR, 1));
    assert!(scene.world.admin(&["revoke", USER]).status.success());
    // Where every module of a stack returns PAM_IGNORE, libpam says PAM_PERM_DENIED.
    assert_eq!(scene.try_as_user("no code"), (pam::PERM_DENIED, 0));
}

fn application_with_read_only_store(scene: &Scene) -> Command {
    let read_only = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && exec \"$2\"";
    let mut application = Command::new("unshare");
    application.args(["--mount", "--propagation", "private", "sh", "-c", read_only, "sh"]);
    application.arg(scene.world.store()).arg(built("pam-application"));
    application
}

#[test]
fn without_a_broker_and_with_a_read_only_store_the_log_says_how_to_get_one() {
    let Some(mut scene) = Scene::new("") else { return };
    scene.broker.kill().unwrap();
    scene.broker.wait().unwrap();
    let attempts = [scene.attempt(&scene.sheet.codes[0])];
    let outcomes = race_in(&mut application_with_read_only_store(&scene), &attempts);
    let outcome = outcomes[0].as_ref().unwrap();
    assert_eq!((&outcome.codes[..], outcome.said.len()), (&[pam::AUTHINFO_UNAVAIL][..], 0));
    let log = scene.world.log();
    assert!(
        log.iter().any(|line| line.text.contains("no broker") && line.text.contains("systemctl enable")),
        "{log:#?}"
    );
}

/// Else nobody could log in any more where a disk went read-only.
#[test]
fn without_a_broker_and_with_a_read_only_store_root_still_skips_users_without_a_set() {
    let Some(mut scene) = Scene::new("nullok") else { return };
    scene.broker.kill().unwrap();
    scene.broker.wait().unwrap();
    let attempt = || {
        race_in(&mut application_with_read_only_store(&scene), &[scene.attempt("x")]).remove(0).unwrap().codes
    };
    assert_eq!(attempt(), [pam::AUTHINFO_UNAVAIL]);
    assert!(scene.world.admin(&["revoke", USER]).status.success());
    assert_eq!(attempt(), [pam::PERM_DENIED]);
}

/// What wants no reply gets none: whoever waits for the next one would take it for that.
#[test]
fn a_call_that_wants_no_reply_gets_none() {
    let Some(scene) = Scene::new("") else { return };
    let call = |method: &str, oneway: bool| {
        let method = format!("org.backupcodes.Broker.{method}");
        let parameters = json!({ "user": USER, "directory": scene.world.store() });
        format!("{}\0", json!({ "method": method, "oneway": oneway, "parameters": parameters }))
    };
    let reply = scene.send(65534, &(call("HasSet", true) + &call("Status", false)));
    assert!(reply.contains("\"total\":10") && !reply.contains("has_set"), "{reply}");
}

#[test]
fn root_asks_the_broker_if_the_store_is_read_only() {
    let Some(scene) = Scene::new("") else { return };
    let code = &scene.sheet.codes[0];
    let mut application = application_with_read_only_store(&scene);
    let attempts = [Attempt { rhost: Some("192.0.2.7".into()), ..scene.attempt(code) }];
    let outcomes = race_in(&mut application, &attempts);
    assert_eq!(outcomes[0].as_ref().unwrap().codes, [pam::SUCCESS], "{:?}", scene.world.last_line());
    assert_eq!(scene.status()["codes"][0]["source"], "192.0.2.7", "root is believed");
    assert_eq!(race_in(&mut application, &attempts)[0].as_ref().unwrap().codes, [pam::AUTH_ERR]);
}

/// "No set" in a directory is no proof about another one.
#[test]
fn a_broker_of_another_directory_proves_nothing_and_checks_nothing() {
    let Some(mut scene) = Scene::new("nullok") else { return };
    let other = scene.world.path("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    let own = scene.world.store();
    let conf = scene.world.path("other.conf");
    let text = fs::read_to_string(scene.world.path("conf")).unwrap();
    fs::write(&conf, text.replace(own.to_str().unwrap(), other.to_str().unwrap())).unwrap();
    scene.restart_with(&conf);
    let code = scene.sheet.codes[0].clone();
    // With `nullok` that shows before anybody is asked.
    for (options, said) in [("nullok", 0), ("", 1)] {
        scene.world.stack(options);
        assert_eq!(scene.try_as_user(&code), (pam::AUTHINFO_UNAVAIL, said), "{options}");
        let line = scene.world.last_line();
        for told in [own.to_str().unwrap(), other.to_str().unwrap(), "conf=", "--config"] {
            assert!(line.text.contains(told), "{told}: {line:?}");
        }
        assert_eq!(line.level, ERROR);
    }
    let replies = |directory: &serde_json::Value| {
        let with = |mut parameters: serde_json::Value| {
            parameters["user"] = json!(USER);
            parameters["directory"] = directory.clone();
            parameters
        };
        [
            ("HasSet", with(json!({}))),
            ("Check", with(json!({ "response": code, "service": "x" }))),
            ("Verify", with(json!({ "response": code }))),
            ("Status", with(json!({}))),
            ("Renew", with(json!({}))),
        ]
        .map(|(method, parameters)| scene.call(65534, method, parameters))
    };
    let link = scene.world.path("link");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let other = other.to_str().unwrap();
    let name = other.rsplit('/').next().unwrap();
    for directory in [
        own.to_str().unwrap(),
        link.to_str().unwrap(),
        &format!("{other}/../{name}"),
        &format!("{other}/.."),
        &format!("{other}x"),
        &other[1..],
        "/",
        "",
    ] {
        for reply in replies(&json!(directory)) {
            assert_eq!(reply["error"], "org.backupcodes.Broker.OtherDirectory", "{directory}: {reply}");
            assert_eq!(reply["parameters"]["directory"], other);
        }
    }
    // A slash is no other directory.
    for directory in [other, &format!("{other}/"), &format!("/{other}//")] {
        assert_eq!(replies(&json!(directory))[0]["parameters"]["has_set"], false, "{directory}");
    }
    // Who asks for a proof or a verdict says of what.
    let [has_set, check, verify, status, _] = replies(&json!(null));
    for reply in [has_set, check] {
        assert_eq!(reply["error"], "org.varlink.service.InvalidParameter", "{reply}");
    }
    for reply in [verify, status] {
        assert_eq!(reply["error"], "org.backupcodes.Broker.NoSet", "{reply}");
    }
    assert_eq!(scene.status()["left"], 10);
}

#[test]
fn each_account_acts_for_itself_alone_and_root_for_any() {
    let Some(scene) = Scene::new("") else { return };
    let code = &scene.sheet.codes[0];
    let store = scene.world.store();
    let calls = [
        ("Check", json!({ "user": USER, "directory": store, "response": code, "service": "x" })),
        ("Verify", json!({ "user": USER, "response": code })),
        ("HasSet", json!({ "user": USER, "directory": store })),
        ("Status", json!({ "user": USER })),
    ];
    // Of those who exist, with what the store or the user database might take for the same name, and of those who do not.
    let long = "x".repeat(10_000);
    let names = [
        USER,
        "root",
        "NOBODY",
        "nobody ",
        " nobody",
        "nobody/",
        "nobody\0",
        "nobody\n",
        "nobody%00",
        "%6eobody",
        "../store/nobody",
        "nobody.toml",
        "65534",
        "%unknown",
        "no-such-user",
        "",
        &long,
    ];
    const NOT_YOURS: &str = "{\"error\":\"org.backupcodes.Broker.NotYours\"}\0";
    for (method, parameters) in &calls {
        for user in names {
            let mut parameters = parameters.clone();
            parameters["user"] = json!(user);
            let method = format!("org.backupcodes.Broker.{method}");
            let call = json!({ "method": method, "parameters": parameters });
            assert_eq!(scene.send(2, &format!("{call}\0")), NOT_YOURS, "{method} {user}");
        }
    }
    assert_eq!(scene.status()["left"], 10);
    assert_eq!(scene.status()["throttled"], json!([]));
    assert!(scene.world.path("run/throttle").read_dir().map_or(true, |mut files| files.next().is_none()));
    for uid in [65534, 0] {
        assert_eq!(scene.call(uid, "Verify", calls[1].1.clone())["parameters"]["accepted"], true);
        assert_eq!(scene.call(uid, "HasSet", calls[2].1.clone())["parameters"]["has_set"], true);
        assert_eq!(scene.call(uid, "Status", calls[3].1.clone())["parameters"]["left"], 10);
    }
    assert_eq!(scene.call(0, "Check", calls[0].1.clone())["parameters"]["verdict"], "accepted");
    assert_eq!(scene.call(0, "Check", calls[0].1.clone())["parameters"], json!({ "verdict": "refused" }));
}

#[test]
fn failures_of_a_user_make_nobody_else_wait_whatever_service_they_claim() {
    let Some(scene) = Scene::new("") else { return };
    let wrong = sheet(scene.world.admin(&["generate", "--yes", "--format", "json", USER])).codes[0].clone();
    let right = sheet(scene.world.admin(&["generate", "--yes", "--format", "json", USER])).codes[0].clone();
    let socket = scene.socket();
    scene.world.configure(&format!("broker = {socket:?}\n{}", CHEAP.replace("free = 1000000", "free = 1")));
    for service in ["login", "sshd", &scene.world.service] {
        let directory = scene.world.store();
        let check = json!({ "user": USER, "directory": directory, "response": wrong, "service": service, "host": "192.0.2.7" });
        assert_eq!(scene.call(65534, "Check", check)["parameters"]["verdict"], "refused");
    }
    let throttled = scene.status()["throttled"].clone();
    assert_eq!(throttled.as_array().unwrap().len(), 1, "{throttled}");
    assert_eq!((&throttled[0]["service"], &throttled[0]["source"]), (&json!("broker"), &json!("local")));
    assert_eq!(scene.try_as_user(&right).0, pam::AUTH_ERR, "it waits");
    assert_eq!(scene.attempt(&right).run().codes, [pam::SUCCESS]);
}

#[test]
fn of_64_simultaneous_logins_with_one_code_by_root_and_by_the_broker_exactly_one_gets_in() {
    let Some(scene) = Scene::new("") else { return };
    for code in &scene.sheet.codes[..3] {
        let attempt = &scene.attempt(code);
        // A user has 16 places, and each login takes two.
        let mut applications = [
            (as_nobody(), 6),
            (application_with_read_only_store(&scene), 26),
            (Command::new(built("pam-application")), 32),
        ];
        applications[0].0.arg(built("pam-application"));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let race = |(application, count): &mut (Command, usize)| {
                race_in(application, &vec![attempt.clone(); *count])
            };
            let races: Vec<_> =
                applications.iter_mut().map(|application| scope.spawn(move || race(application))).collect();
            races.into_iter().flat_map(|race| race.join().unwrap()).collect()
        });
        let codes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().codes[0]).collect();
        let count = |wanted| codes.iter().filter(|&&code| code == wanted).count();
        assert_eq!((count(pam::SUCCESS), count(pam::AUTH_ERR)), (1, 63), "{codes:?}");
    }
    assert_eq!(scene.status()["left"], 7);
}

#[test]
fn invalid_calls_are_refused_and_others_are_served() {
    let Some(scene) = Scene::new("") else { return };
    let large = format!("{{\"method\":\"{}\"", "x".repeat(1 << 20));
    let deep =
        format!("{{\"method\":\"org.backupcodes.Broker.HasSet\",\"parameters\":{}\0", "[".repeat(10_000));
    for bytes in [&large, &deep, "\0", "{}\0", "not JSON\0", "[1]\0", "{\"method\":7}\0"] {
        let reply = scene.send(65534, bytes);
        assert!(reply.is_empty() || reply.contains("error"), "{reply}");
    }
    let reply = scene.call(65534, "Check", json!({ "user": USER, "response": 7 }));
    assert_eq!(reply["error"], "org.varlink.service.InvalidParameter");
    let reply = scene.call(65534, "NoSuchMethod", json!({}));
    assert_eq!(reply["error"], "org.varlink.service.MethodNotFound");
    assert_eq!(scene.try_as_user(&scene.sheet.codes[0]).0, pam::SUCCESS);
}

#[test]
fn callers_that_send_nothing_or_little_are_dropped() {
    let Some(scene) = Scene::new("") else { return };
    let start = Instant::now();
    let mut silent = UnixStream::connect(scene.socket()).unwrap();
    let mut slow = UnixStream::connect(scene.socket()).unwrap();
    let end = |stream: &mut UnixStream| stream.read(&mut [0; 1]).map_or(0, |length| length);
    slow.set_nonblocking(true).unwrap();
    while start.elapsed() < Duration::from_secs(9) {
        let _ = slow.write_all(b"{");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(end(&mut silent), 0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(slow.write_all(b"{").is_err(), "it is closed");
    assert!(start.elapsed() < Duration::from_secs(60), "not after minutes");
}

#[test]
fn a_use_by_the_broker_is_told() {
    let Some(scene) = Scene::new("") else { return };
    let postbox = Postbox::of(&scene.world);
    assert_eq!(scene.try_as_user(&scene.sheet.codes[0]).0, pam::SUCCESS);
    scene.world.deliver();
    let subjects = postbox.subjects();
    assert!(
        subjects.iter().any(|subject| subject.contains("Backup code 1 of nobody was used")),
        "{subjects:#?}"
    );
}

/// All of one account's, and all held as long as the broker lets them be.
#[test]
fn of_10000_connections_of_one_account_16_are_served_and_delay_nobody_else() {
    const FLOOD: &str = "import select, socket, sys, time\n\
        flood = []\n\
        for _ in range(10000):\n    \
            s = socket.socket(socket.AF_UNIX)\n    s.connect(sys.argv[1])\n    flood.append(s)\n\
        poll = select.poll()\n\
        for s in flood:\n    poll.register(s, select.POLLIN)\n\
        open = 10000\n\
        while open > 16:\n    \
            time.sleep(0.02)\n    open = len(flood) - len(poll.poll(0))\n\
        print(open, flush=True)\n\
        sys.stdin.read()\n";
    let Some(scene) = Scene::new("") else { return };
    let mut flood = Command::new("prlimit");
    flood.args([
        "--nofile=10100",
        "setpriv",
        "--reuid",
        "2",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        FLOOD,
    ]);
    let mut flood = flood.arg(scene.socket()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let mut logins = 0;
    let mut held = String::new();
    std::thread::scope(|scope| {
        let stdout = flood.stdout.take().unwrap();
        let read = scope.spawn(|| BufReader::new(stdout).read_line(&mut held).unwrap());
        while !read.is_finished() {
            // With codes as long as there are any.
            let code = scene.sheet.codes.get(logins).map_or("no code", String::as_str);
            let expected = if logins < 10 { pam::SUCCESS } else { pam::AUTH_ERR };
            assert_eq!(scene.try_as_user(code).0, expected, "login {logins}");
            logins += 1;
        }
    });
    assert_eq!(held, "16\n", "after {:?}", start.elapsed());
    assert!(logins > 1, "{logins} logins in {:?}", start.elapsed());
    drop(flood.stdin.take());
    assert!(flood.wait().unwrap().success());
    assert_eq!(scene.status()["left"], 10 - logins.min(10));
}

#[test]
fn everyone_reaches_a_broker_with_any_umask() {
    if sandbox().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("made/broker");
    let mut broker = Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" --socket \"$1\""])
        .args([built("backupcodes-broker"), socket.clone()])
        .spawn()
        .unwrap();
    wait_until("a broker", || UnixStream::connect(&socket).is_ok());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    // The socket has its mode a moment after it is there.
    wait_until("mode 0666", || mode(&socket) == 0o666);
    assert_eq!(mode(socket.parent().unwrap()), 0o755);
    broker.kill().unwrap();
    broker.wait().unwrap();
}
