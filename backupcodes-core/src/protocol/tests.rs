//! What the descriptions of the interfaces say is what is sent.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::fleet::{
    self, Certificate, DueNotice, DueReply, ErrorName, NamesReply, Node, Notified, Read, ReadReply,
    Readdress, Replace, Restored, Spend, SpendReply, StatusReply, UnprovenReply,
};
use super::{
    Check, CodeState, CodeStatus, DESCRIPTION, Denied, HasSet, HasSetReply, Message, Nothing, OfUser,
    OtherDirectory, RenewalStep, Respond, Sheet, Status, Style, Unavailable,
};

/// The names of the fields between the first pair of parentheses after `start`, sorted.
fn described(text: &str, start: &str) -> Vec<String> {
    let fields = text.split_once(start).unwrap_or_else(|| panic!("no {start}")).1;
    let mut depth = 1_i32;
    let end = fields.find(|c| {
        depth = depth.saturating_add(i32::from(c == '(')).saturating_sub(i32::from(c == ')'));
        depth == 0
    });
    let mut names: Vec<_> = fields[..end.unwrap()]
        .split([',', '(', ')'])
        .filter_map(|field| Some(field.split_once(':')?.0.trim().to_owned()))
        .collect();
    names.sort();
    names
}

fn written(value: impl Serialize) -> Vec<String> {
    let Value::Object(fields) = serde_json::to_value(value).unwrap() else { panic!("no object") };
    fields.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn the_description_of_the_broker_names_the_fields_that_are_sent() {
    let directory = || Path::new("/d").into();
    let text = || Some("t".to_owned());
    let message = || Message { style: Style::TextInfo, text: "t".into() };
    let sheet = || Sheet { host: "h".into(), set: "s".into(), created: "c".into(), codes: vec![] };
    let user = OfUser { user: "u".into(), directory: Some(directory()) };
    let check = Check {
        user: "u".into(),
        directory: directory(),
        response: "a".into(),
        service: "s".into(),
        host: Some("h".into()),
        tty: Some("t".into()),
    };
    let code =
        CodeStatus { number: 1, state: CodeState::Spent, time: text(), service: text(), source: text() };
    let status = Status { set: "s".into(), created: "c".into(), total: 1, left: 1, low: true, codes: vec![] };
    for (start, sent) in [
        ("method Check(", written(check)),
        ("method HasSet(", written(HasSet { user: "u".into(), directory: directory() })),
        ("method HasSet(user: string, directory: string) -> (", written(HasSetReply { has_set: true })),
        ("method Status(", written(&user)),
        ("method Renew(", written(&user)),
        ("method Status(user: string, directory: ?string) -> (", written(status)),
        ("type Code (", written(code)),
        ("method Respond(", written(Respond { responses: vec![] })),
        (
            "method Respond(responses: []string) -> (",
            written(RenewalStep { messages: vec![], sheet: Some(sheet()) }),
        ),
        ("type Message (", written(message())),
        ("type Sheet (", written(sheet())),
        ("method Keep(", written(Nothing {})),
        ("error Denied (", written(Denied { messages: vec![] })),
        ("error OtherDirectory (", written(OtherDirectory { directory: "d".into() })),
        ("error Unavailable (", written(Unavailable { reason: text() })),
    ] {
        assert_eq!(sent, described(DESCRIPTION, start), "{start}");
    }
}

#[test]
fn the_description_of_the_fleet_names_the_fields_that_are_sent() {
    let text = || "t".to_owned();
    let node = Node {
        url: text(),
        error: Some(text()),
        version: text(),
        leads: true,
        size: 1,
        time: Some(1),
        alarms: vec![],
    };
    let status = StatusReply {
        cluster: text(),
        revision: 1,
        refused: Some(text()),
        may_replace: Some(true),
        may_not_because: Some(text()),
        authenticates: true,
        nodes: vec![],
        certificates: vec![],
    };
    let notice = DueNotice {
        user: text(),
        uid: 1,
        set: text(),
        created: text(),
        email: vec![],
        number: 1,
        record: text(),
        left: 1,
        total: 1,
    };
    let replace = Replace {
        user: "u".into(),
        expected: Some("e".into()),
        revision: 1,
        new: Some("n".into()),
        from: Some("f".into()),
    };
    let readdress = Readdress { user: "u".into(), set: "s".into(), revision: 1, email: vec![] };
    for (start, sent) in [
        ("method Read(", written(Read { user: "u".into(), uid: Some(1) })),
        (
            "method Read(user: string, uid: ?int) -> (",
            written(ReadReply { set: Some(text()), unproven: Some(text()), revision: 1, names: vec![] }),
        ),
        ("method List() -> (", written(NamesReply { users: vec![] })),
        ("method ListUnproven() -> (", written(UnprovenReply { users: vec![], others: vec![] })),
        (
            "method Spend(",
            written(Spend { user: "u".into(), number: 1, hash: "h".into(), record: "r".into() }),
        ),
        (
            "method Spend(user: string, number: int, hash: string, record: string) -> (",
            written(SpendReply { set: text(), left: 1 }),
        ),
        ("method Replace(", written(replace)),
        ("method MayReplace(", written(fleet::Nothing {})),
        ("method Readdress(", written(readdress)),
        ("type Notice (", written(notice)),
        ("method Due() -> (", written(DueReply { notices: vec![] })),
        ("method Notified(", written(Notified { user: "u".into(), set: "s".into(), number: 1 })),
        ("method Restored(", written(Restored { time: 1 })),
        ("type Node (", written(node)),
        ("type Certificate (", written(Certificate { path: text(), expires: 1 })),
        ("method Status() -> (", written(status)),
    ] {
        assert_eq!(sent, described(fleet::DESCRIPTION, start), "{start}");
    }
    for error in ErrorName::ALL {
        assert!(fleet::DESCRIPTION.contains(&format!("error {error:?} (")), "{error:?}");
    }
}
