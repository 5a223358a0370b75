//! `status` for programs.

use backupcodes_core::mail::outbox::Refusal;
use backupcodes_core::set::{Label, Mail, SpentRecord, State};
use backupcodes_core::throttle::{Throttled, Wait};
use serde::{Serialize, Serializer};

use super::Shown;

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Json::of(self).serialize(serializer)
    }
}

#[derive(Serialize)]
struct Json<'a> {
    user: &'a str,
    set: &'a str,
    created: String,
    total: usize,
    left: usize,
    low: bool,
    email: &'a [String],
    throttled: Vec<JsonThrottled<'a>>,
    /// Notices that wait for their delivery.
    due: usize,
    refused: Option<JsonRefusal<'a>>,
    codes: Vec<JsonCode<'a>>,
}

#[derive(Serialize)]
struct JsonRefusal<'a> {
    time: String,
    address: &'a str,
    said: &'a str,
}

#[derive(Serialize)]
struct JsonThrottled<'a> {
    service: &'a str,
    source: &'a str,
    failures: u32,
    /// None: until `unlock` or a new set.
    until: Option<String>,
}

#[derive(Serialize)]
struct JsonCode<'a> {
    number: u8,
    state: &'static str,
    time: Option<String>,
    service: Option<&'a str>,
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    mailed: Option<bool>,
}

impl<'a> Json<'a> {
    fn of(Shown { file_of, set, throttled, notices, low }: &'a Shown) -> Self {
        let Label { set: id, created, email, .. } = &set.label;
        Self {
            user: file_of,
            set: id,
            created: created.to_string(),
            total: set.total(),
            left: set.left(),
            low: set.left() <= *low,
            email,
            throttled: throttled.iter().map(JsonThrottled::of).collect(),
            due: notices.due,
            refused: notices.refusal.as_ref().map(|Refusal { time, to, said }| JsonRefusal {
                time: time.to_string(),
                address: to,
                said,
            }),
            codes: set.entries().map(|(number, entry)| JsonCode::of(number.get(), &entry.state)).collect(),
        }
    }
}

impl<'a> JsonThrottled<'a> {
    fn of(throttled: &'a Throttled) -> Self {
        let Throttled { service, source, failures, until } = throttled;
        let until = match until {
            Wait::Until(time) => Some(time.to_string()),
            Wait::Unlock => None,
        };
        Self { service, source, failures: *failures, until }
    }
}

impl<'a> JsonCode<'a> {
    fn of(number: u8, state: &'a State) -> Self {
        let blank =
            Self { number, state: "", time: None, service: None, source: None, host: None, mailed: None };
        match state {
            State::Unspent(_) => Self { state: "unspent", ..blank },
            State::Damaged => Self { state: "damaged", ..blank },
            State::Spent(SpentRecord { time, mail, service, source, host, .. }) => Self {
                state: "spent",
                time: Some(time.to_string()),
                service: Some(service),
                source: Some(source),
                host: host.as_deref(),
                mailed: Some(*mail == Mail::Ok),
                ..blank
            },
        }
    }
}
