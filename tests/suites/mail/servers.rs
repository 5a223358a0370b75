//! Notices through real mail servers, read in the mailbox. `tests/run mail-servers` runs these with each server in a root of its
//! own; elsewhere they are ignored.

use std::fs;

use backupcodes_tests::machine::Account;
use backupcodes_tests::mail::{DOMAIN, HOST, PostOffice, Server, WIDE_DOMAIN};
use backupcodes_tests::postbox::{HEADERS, Message};
use backupcodes_tests::{Sheet, level, sheet, text};
use serde_json::json;

/// A set of `count` codes whose notices go to these addresses.
fn generate(office: &PostOffice, account: &Account, count: usize, addresses: &[&str]) -> Sheet {
    let count = count.to_string();
    let mut arguments = vec!["generate", "--yes", "--format", "json", "--count", &count, &account.name];
    arguments.extend(addresses.iter().flat_map(|address| ["--email", address]));
    sheet(office.machine.admin(&arguments))
}

fn admin(office: &PostOffice, arguments: &[&str]) {
    let output = office.machine.admin(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

/// All that each notice has, whatever it tells of.
fn check(office: &PostOffice, message: &Message, to: &str) {
    assert_eq!(message.names(), HEADERS);
    assert_eq!(message.from, [("Backup codes".into(), format!("root@{DOMAIN}"))]);
    assert_eq!(message.to, [to]);
    let envelope = if office.server == Server::Exim { "Envelope-to" } else { "Delivered-To" };
    assert_eq!(message.header(envelope), to);
    assert_eq!(message.header("Auto-Submitted"), "auto-generated");
    assert_eq!(message.kind, ("text/plain".into(), Some("utf-8".into())));
}

/// Whether a code of these sheets is in there, in any way of writing it.
fn tells_a_code(message: &Message, sheets: &[&Sheet]) -> bool {
    let plain = |text: &str| text.replace(['-', ' ', '=', '\n'], "").to_uppercase();
    let all = [plain(&message.raw), plain(&message.text)];
    sheets
        .iter()
        .flat_map(|sheet| &sheet.codes)
        .any(|code| all.iter().any(|text| text.contains(&plain(code))))
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn whatever_happens_to_a_set_is_told_in_the_mailbox() {
    let Some(office) = PostOffice::new() else { return };
    let (user, other) = (office.machine.account(), office.machine.account());
    let name = &user.name;
    let first = generate(&office, &user, 4, &[&user.address()]);
    office.deliver();
    office.spend(&user, &first.codes[0]);
    office.deliver();
    office.spend(&user, &first.codes[1]);
    office.deliver();
    let time = office.machine.status(&user)["codes"][0]["time"].clone();
    let second = generate(&office, &user, 10, &[]);
    office.deliver();
    let messages = office.mailbox(&user, 4);
    let subjects = [
        format!("New backup codes for {name} on {HOST}"),
        format!("Backup code 1 of {name} was used on {HOST}: only 3 left"),
        format!("Backup code 2 of {name} was used on {HOST}: only 2 left"),
        format!("Backup codes of {name} on {HOST} were replaced"),
    ];
    for subject in &subjects {
        let message = messages.iter().find(|message| message.subject() == subject);
        let message = message.unwrap_or_else(|| panic!("{subject} is not among {messages:#?}"));
        check(&office, message, &user.address());
        assert!(!tells_a_code(message, &[&first, &second]), "{message:#?}");
    }
    let used = messages.iter().find(|message| message.subject() == subjects[1]).unwrap();
    for line in [
        format!("  User:      {name}\n"),
        format!("  Host:      {HOST}\n"),
        format!("  Set:       {}\n", first.set),
        "  From:      192.0.2.7\n".into(),
        "  Service:   mailed\n".into(),
        "  Code:      number 1 of the sheet\n".into(),
        "  Left:      3 of 4\n".into(),
    ] {
        assert!(used.text.contains(&line), "{line} is not in {}", used.text);
    }
    assert_eq!(used.time, time);
    let [start, end] = [format!("<{}.used-1.", first.set), format!(".backupcodes@{HOST}>")];
    let id = used.header("Message-ID");
    assert!(id.starts_with(&start) && id.ends_with(&end), "{id}");

    admin(&office, &["email", name, &other.address()]);
    office.deliver();
    let subject = format!("Notices about backup codes of {name} on {HOST} go to other addresses");
    for account in [&user, &other] {
        let message = &office.mailbox(account, 1)[0];
        check(&office, message, &account.address());
        assert_eq!(message.subject(), subject);
        assert!(message.text.contains(&format!("  Before:    {}\n", user.address())), "{}", message.text);
        assert!(message.text.contains(&format!("  Now:       {}\n", other.address())), "{}", message.text);
    }
    admin(&office, &["revoke", name]);
    office.deliver();
    let message = &office.mailbox(&other, 1)[0];
    check(&office, message, &other.address());
    assert_eq!(message.subject(), format!("Backup codes of {name} on {HOST} were revoked"));
    office.mailbox(&user, 0);
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn every_address_gets_one_message_of_its_own() {
    let Some(office) = PostOffice::new() else { return };
    let [user, second, guard] = std::array::from_fn(|_| office.machine.account());
    // Whoever is named twice gets one as well.
    let copies = [guard.address(), second.address()];
    office.notify_settings(&format!("copy_to = {copies:?}"));
    let sheet = generate(&office, &user, 10, &[&user.address(), &second.address()]);
    office.spend(&user, &sheet.codes[2]);
    office.deliver();
    for account in [&user, &second, &guard] {
        let messages = office.mailbox(account, 2);
        messages.iter().for_each(|message| check(&office, message, &account.address()));
        let subject = format!("Backup code 3 of {} was used on {HOST}", user.name);
        assert!(messages.iter().any(|message| message.subject() == subject), "{messages:#?}");
    }
    office.deliver();
    office.mailbox(&user, 0);
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn without_an_address_the_account_itself_is_told() {
    let Some(office) = PostOffice::new() else { return };
    for domain in ["", DOMAIN] {
        let user = office.machine.account();
        office.notify_settings(&format!("domain = {domain:?}"));
        let sheet = generate(&office, &user, 10, &[]);
        office.spend(&user, &sheet.codes[0]);
        office.deliver();
        for message in office.mailbox(&user, 2) {
            // The server puts its own domain where there is none.
            check(&office, &message, &user.address());
        }
    }
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn names_beyond_ascii_arrive_as_they_are() {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let (host, contact) = ("größer-日本", "Jürgen Große <jürgen@exämple.org>, „Zimmer 7“");
    fs::write("/proc/sys/kernel/hostname", host).unwrap();
    office.notify_settings(&format!("contact = {contact:?}"));
    let sheet = generate(&office, &user, 10, &[&user.address()]);
    office.spend(&user, &sheet.codes[0]);
    office.deliver();
    let messages = office.mailbox(&user, 2);
    let subjects = [
        format!("New backup codes for {} on {host}", user.name),
        format!("Backup code 1 of {} was used on {host}", user.name),
    ];
    for subject in &subjects {
        let message = messages.iter().find(|message| message.subject() == subject);
        let message = message.unwrap_or_else(|| panic!("{subject} is not among {messages:#?}"));
        check(&office, message, &user.address());
        assert!(message.text.contains(&format!("Tell {contact} at once. ")), "{}", message.text);
        assert!(message.text.contains(&format!("  Host:      {host}\n")), "{}", message.text);
        // Any server can carry it.
        let header = message.raw.split("\n\n").next().unwrap();
        assert!(header.is_ascii(), "{header}");
    }
}

/// What becomes of a notice for an address that is not to be had.
enum Fate {
    /// sendmail takes it, and root gets it back.
    Bounces,
    /// sendmail ends with this status, and says this.
    Refused(i32, &'static str),
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn an_address_that_nobody_has_keeps_the_notice_from_nobody_else() {
    refused_beside_a_good_one("nobody-has-this@example.org", |server| match server {
        Server::Postfix | Server::Exim => Fate::Bounces,
        Server::OpenSmtpd => Fate::Refused(70, "550 Invalid recipient: <nobody-has-this@example.org>"),
        Server::Msmtp => Fate::Refused(65, "User unknown in local recipient table"),
    });
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn an_address_that_is_none_keeps_the_notice_from_nobody_else() {
    refused_beside_a_good_one("nobody@@example.org", |server| match server {
        Server::Postfix => Fate::Bounces,
        Server::Exim => Fate::Refused(1, "it said nothing"),
        Server::OpenSmtpd => Fate::Refused(70, "501 5.1.3 Recipient address syntax error"),
        Server::Msmtp => Fate::Refused(65, "501 5.1.3 Bad recipient address syntax"),
    });
}

fn refused_beside_a_good_one(bad: &str, fate: fn(Server) -> Fate) {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let sheet = generate(&office, &user, 10, &[bad, &user.address()]);
    let code = |number: usize| office.machine.status(&user)["codes"][number].clone();
    for number in [0, 1] {
        office.spend(&user, &sheet.codes[number]);
        let output = office.notify();
        let complaint = text(&output.stderr);
        // The first time, the notice of the set as well.
        office.mailbox(&user, if number == 0 { 2 } else { 1 });
        let status = office.machine.status(&user);
        match fate(office.server) {
            Fate::Bounces => {
                assert_eq!(status["due"], 0, "{status}");
                assert!(output.status.success() && complaint.is_empty(), "{complaint}");
                assert_eq!((&status["refused"], &code(number)["mailed"]), (&json!(null), &json!(true)));
                office.bounce(bad);
            }
            Fate::Refused(exit, said) => {
                assert_eq!(output.status.code(), Some(3), "{complaint}");
                let refused = status["refused"].clone();
                let told = text(&office.machine.admin(&["status", &user.name]).stdout);
                let log = office.machine.log();
                let logged = log.iter().any(|line| {
                    line.level == level::ERROR && [bad, said].iter().all(|part| line.text.contains(part))
                });
                assert!(logged, "{log:#?}");
                for part in [bad, said, &format!("exit status {exit} ")] {
                    assert!(complaint.contains(part), "{part}: {complaint}");
                    assert!(told.contains(part), "{part}: {told}");
                }
                assert_eq!(refused["address"], bad);
                // Its notices of the set and of each use wait in the outbox, and the user has got theirs.
                assert_eq!((&status["due"], &code(number)["mailed"]), (&json!(number + 2), &json!(true)));
            }
        }
    }
    // With another address, what comes from here on goes out, and what was refused keeps nothing back.
    admin(&office, &["email", &user.name, &user.address()]);
    office.spend(&user, &sheet.codes[2]);
    let _ = office.notify();
    // The copy of the change that the bad address refuses goes to the good one instead.
    office.mailbox(&user, if let Fate::Refused(..) = fate(office.server) { 3 } else { 2 });
    office.spend(&user, &sheet.codes[3]);
    office.deliver();
    office.mailbox(&user, 1);
    for number in [2, 3] {
        assert_eq!(code(number)["mailed"], true);
    }
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn nothing_is_lost_while_the_server_is_down() {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let sheet = generate(&office, &user, 10, &[&user.address()]);
    office.server.stop();
    office.spend(&user, &sheet.codes[0]);
    let outputs = [office.notify(), office.notify()];
    let status = office.machine.status(&user);
    office.server.start();
    let (complaint, due, copies) = match office.server {
        Server::Postfix | Server::Exim => (None, 0, 1),
        // It has no queue.
        Server::Msmtp => (Some("Connection refused"), 2, 1),
        // It says that it has not taken what it puts into its queue: each run of it sends one more.
        Server::OpenSmtpd => (Some("it said nothing"), 2, 3),
    };
    for output in outputs {
        let said = text(&output.stderr);
        match complaint {
            None => assert!(output.status.success() && said.is_empty(), "{said}"),
            Some(complaint) => {
                assert_eq!(output.status.code(), Some(3), "{said}");
                assert!(said.contains("exit status 75") && said.contains(complaint), "{said}");
            }
        }
    }
    assert_eq!((&status["due"], &status["refused"]), (&json!(due), &json!(null)));
    office.deliver();
    let messages = office.mailbox(&user, 2 * copies);
    let mut ids: Vec<_> = messages.iter().map(|message| message.header("Message-ID")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2, "copies can be told: {ids:?}");
    assert_eq!(office.machine.status(&user)["codes"][0]["mailed"], true);
    office.deliver();
    office.mailbox(&user, 0);
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn what_the_server_cannot_take_now_it_gets_later() {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let sheet = generate(&office, &user, 10, &[&user.address()]);
    let obstacle = office.server.obstruct();
    office.spend(&user, &sheet.codes[0]);
    let output = office.notify();
    drop(obstacle);
    let (complaint, status) = (text(&output.stderr), office.machine.status(&user));
    assert_eq!(output.status.code(), Some(3), "{complaint}");
    // The exit statuses of the others are those of an address that is none.
    let refused = if office.server == Server::Postfix { json!(null) } else { json!(user.address()) };
    assert_eq!((&status["due"], &status["refused"]["address"]), (&json!(2), &refused), "{complaint}");
    office.deliver();
    office.mailbox(&user, 2);
    assert_eq!(office.machine.status(&user)["refused"], json!(null));
    office.deliver();
    office.mailbox(&user, 0);
}

#[test]
#[ignore = "needs a mail server: tests/run mail-servers"]
fn addresses_beyond_ascii_are_the_servers_matter() {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let wide = format!("{}@{WIDE_DOMAIN}", user.name);
    let sheet = generate(&office, &user, 10, &[&wide, &user.address()]);
    office.spend(&user, &sheet.codes[0]);
    let output = office.notify();
    let status = office.machine.status(&user);
    let messages = office.mailbox(&user, if output.status.success() { 4 } else { 2 });
    let (got, plain): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.to == [wide.clone()]);
    plain.into_iter().for_each(|message| check(&office, message, &user.address()));
    match office.server {
        Server::Postfix | Server::Exim => {
            got.into_iter().for_each(|message| check(&office, message, &wide));
            assert_eq!(status["refused"], json!(null));
        }
        Server::OpenSmtpd | Server::Msmtp => {
            assert_eq!(output.status.code(), Some(3));
            assert_eq!(status["refused"]["address"], wide);
            let said = status["refused"]["said"].as_str().unwrap();
            assert!(said.contains("501 5.1.3"), "{said}");
        }
    }
}
