//! Notices with real mail servers, read in the mailbox. tests/mail runs these with one server after the other, each in a
//! root of its own; anywhere else they are shown as ignored.

use std::fs;

use backupcodes_tests::hosts::Account;
use backupcodes_tests::mail::{DOMAIN, HOST, Message, PostOffice, Server, WIDE_DOMAIN};
use backupcodes_tests::terminal::Terminal;
use backupcodes_tests::{Sheet, sheet, text};

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
    let mut names = message.names();
    let mut expected = [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ];
    if office.server == Server::Exim {
        // It writes those anew that have an address without a domain.
        names.sort_unstable();
        expected.sort_unstable();
    }
    assert_eq!(names, expected);
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
#[ignore = "tests/mail runs it"]
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
        &format!("  User:      {name}\n  Host:      {HOST}\n  Set:       {}\n", first.set),
        "  Service:   mailed\n  From:      192.0.2.7\n  Code:      number 1 of the sheet\n  Left:      3 of 4\n",
    ] {
        assert!(used.text.contains(line), "{line} is not in {}", used.text);
    }
    let id = format!("<{}.used-1.{}.backupcodes@{HOST}>", first.set, used.time);
    assert_eq!(used.header("Message-ID"), id);

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
#[ignore = "tests/mail runs it"]
fn every_address_gets_one_message_of_its_own() {
    let Some(office) = PostOffice::new() else { return };
    let [user, second, guard] = std::array::from_fn(|_| office.machine.account());
    // Whoever is named twice gets one as well.
    let copies = [guard.address(), second.address()];
    office.notify_settings(&format!("spawn = false\ncopy_to = {copies:?}"));
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
#[ignore = "tests/mail runs it"]
fn without_an_address_the_account_itself_is_told() {
    let Some(office) = PostOffice::new() else { return };
    for domain in ["", DOMAIN] {
        let user = office.machine.account();
        office.notify_settings(&format!("spawn = false\ndomain = {domain:?}"));
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
#[ignore = "tests/mail runs it"]
fn names_beyond_ascii_arrive_as_they_are() {
    let Some(office) = PostOffice::new() else { return };
    let user = office.machine.account();
    let (host, contact) = ("größer-日本", "Jürgen Große <jürgen@exämple.org>, „Zimmer 7“");
    fs::write("/proc/sys/kernel/hostname", host).unwrap();
    office.notify_settings(&format!("spawn = false\ncontact = {contact:?}"));
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
        assert!(message.text.contains(&format!("Tell {contact} at once.\n")), "{}", message.text);
        assert!(message.text.contains(&format!("  Host:      {host}\n")), "{}", message.text);
        // Any server can carry it.
        let header = message.raw.split("\n\n").next().unwrap();
        assert!(header.is_ascii(), "{header}");
    }
}
