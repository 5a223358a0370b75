//! A PAM conversation that is held with somebody at the other end of a connection.

use std::cell::RefCell;
use std::ffi::{CString, OsString};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use backupcodes_core::config::module_options::Options;
use nonstick::conv::Exchange;
use nonstick::conv::conversation_func;
use nonstick::items::Items;
use nonstick::{AuthnFlags, ErrorCode, PamShared, Transaction, TransactionBuilder};
use pam_stack::{Entry, Files, Kind};
use rustix::process::geteuid;
use rustix::thread::{Uid, set_thread_res_uid};
use serde::Serialize;

use crate::caller::Caller;

/// The PAM service that says what a renewal takes.
const SERVICE: &str = "backupcodes";
/// Our module, whatever stands around it in the name of its file.
const MODULE: &str = "pam_backupcodes";
/// As much as modules have in a program's main thread.
const STACK: usize = 8 << 20;

/// What a module says or asks.
#[derive(Serialize)]
pub(crate) struct Message {
    style: Style,
    text: String,
}

/// As PAM names them.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Style {
    PromptEchoOff,
    PromptEchoOn,
    TextInfo,
    ErrorMsg,
}

impl Message {
    pub(crate) const fn is_prompt(&self) -> bool {
        matches!(self.style, Style::PromptEchoOff | Style::PromptEchoOn)
    }
}

/// How far the conversation has come.
pub(crate) enum Step {
    /// There are prompts among the messages, and PAM waits for their answers.
    Asked(Vec<Message>),
    /// It is at its end, with what was said last. An error is for the log.
    Ended(Vec<Message>, Result<(), String>),
}

/// A conversation about one user.
pub(crate) struct Conversation {
    /// Ours, before any module.
    own: Uid,
    steps: Receiver<Step>,
    answers: Sender<Vec<OsString>>,
}

impl Conversation {
    /// Begins it, for this caller. PAM has a thread for itself: it asks when it likes, and calls come when they like.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn begin(user: &str, caller: Caller) -> Result<Self, String> {
        let own = geteuid();
        let (to_us, steps) = mpsc::channel();
        let (answers, from_us) = mpsc::channel();
        let user = user.to_owned();
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                let talk = Talk { said: RefCell::default(), steps: to_us, answers: from_us };
                let result = as_in_su(caller, own, || authenticate(&user, &talk));
                let _ = talk.steps.send(Step::Ended(talk.said.take(), result));
            })
            .map_err(|error| format!("no thread for PAM ({error})"))?;
        Ok(Self { own, steps, answers })
    }

    /// Waits for what comes next.
    pub(crate) fn next(&self) -> Step {
        match self.steps.recv() {
            // A module may have changed the uids of all threads, with libc's functions.
            Ok(Step::Ended(said, result)) => Step::Ended(said, result.and(have_again(self.own))),
            Ok(asked) => asked,
            Err(_) => Step::Ended(Vec::new(), Err("PAM has panicked".into())),
        }
    }

    /// Answers the prompts of the last step, in their order. None may hold a NUL.
    pub(crate) fn answer(&self, answers: Vec<OsString>) {
        // Where PAM is gone, the next step says so.
        let _ = self.answers.send(answers);
    }
}

/// libpam takes the service `other` in the place of one that is missing or asks nothing, which may ask for a password alone. And
/// where our module looks into another directory than this broker, `nullok` passes over who has a set here.
///
/// # Errors
/// The service is not one to rely on with the configuration in `conf`.
pub(crate) fn judge_service(conf: Option<&Path>) -> Result<(), String> {
    judge(&Files::below(Path::new("/")), conf)
}

fn judge(files: &Files<'_>, conf: Option<&Path>) -> Result<(), String> {
    const WITHOUT: &str =
        "and no renewal without; expected the file that comes with the broker, or lines of your own";
    let file = format!("/etc/pam.d/{SERVICE}");
    let stack = files.stack(SERVICE).ok_or_else(|| format!("{file}: no such PAM service, {WITHOUT}"))?;
    // What cannot be seen may ask for nothing, or have another conf=.
    if let Some((place, name)) = stack.missing.first() {
        return Err(format!(
            "{place}: {name:?} cannot be included; expected a PAM file, and not too deep a nest"
        ));
    }
    let is_failure = |entry: &&Entry| matches!(entry.kind, Kind::MustFail);
    let lost = stack.faults.first().map(|(place, _)| place);
    let unclear = lost.or_else(|| stack.entries.iter().find(is_failure).map(|entry| &entry.place));
    if let Some(place) = unclear {
        return Err(format!("{place}: libpam loses this line, or does not understand it; mend it"));
    }
    if stack.is_refused {
        return Err(format!(
            "{file}: libpam cannot read it to its end, nor what it includes; mend the last line"
        ));
    }
    let modules = || stack.entries.iter().filter_map(|entry| Some((entry, entry.module()?)));
    if modules().next().is_none() {
        return Err(format!("{file}: no auth line, {WITHOUT}"));
    }
    for (Entry { place, .. }, arguments) in
        modules().filter(|(_, name)| name.contains(MODULE)).map(|(entry, _)| (entry, entry.arguments()))
    {
        let arguments: Vec<_> =
            arguments.iter().flat_map(|argument| CString::new(argument.as_str())).collect();
        let (options, usable) = Options::parse(&arguments);
        usable.map_err(|error| format!("{place}: {error}"))?;
        if options.conf.as_deref() != conf {
            let shown = |conf: Option<&Path>| conf.map_or("none".into(), |conf| conf.display().to_string());
            return Err(format!(
                "{place}: {MODULE} has another conf= ({}) than the --config of this broker ({}); expected the same",
                shown(options.conf.as_deref()),
                shown(conf)
            ));
        }
    }
    Ok(())
}

/// Runs PAM as su does: the real uid is the caller's, and all else is ours, so that no module takes for root who is not. It is this
/// thread's alone: by its id nobody else can send the process a signal, and where our module holds a lock it has root's again.
///
/// # Errors
/// Those of `f`; or the uid cannot be taken or given back.
fn as_in_su(caller: Caller, own: Uid, f: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    set_thread_res_uid(Uid::from_raw(caller.uid()), own, own).map_err(|error| {
        format!(
            "this process cannot have the real uid of its caller ({error}); expected root with CAP_SETUID"
        )
    })?;
    let result = f();
    have_again(own)?;
    result
}

/// Has this uid in this thread, in every sense.
fn have_again(own: Uid) -> Result<(), String> {
    set_thread_res_uid(own, own, own)
        .map_err(|error| format!("this process cannot have its own uid again ({error}); see its PAM modules"))
}

fn authenticate(user: &str, talk: &Talk) -> Result<(), String> {
    let failed = |what| move |error: ErrorCode| format!("{what}: {error}");
    let mut pam = TransactionBuilder::new_with_service(SERVICE)
        .username(user)
        .build(conversation_func(|messages| talk.communicate(messages)))
        .map_err(failed("pam_start"))?;
    pam.authenticate(AuthnFlags::DISALLOW_NULL_AUTHTOK).map_err(failed("pam_authenticate"))?;
    pam.account_management(AuthnFlags::empty()).map_err(failed("pam_acct_mgmt"))?;
    // A module may have made it somebody else.
    let now = pam.items().user().map_err(failed("PAM_USER"))?;
    if now.as_deref() == Some(user.as_ref()) { Ok(()) } else { Err("a PAM module changed the user".into()) }
}

/// PAM's side.
struct Talk {
    /// What nobody had to answer, and so waits for the next prompt or the end.
    said: RefCell<Vec<Message>>,
    steps: Sender<Step>,
    answers: Receiver<Vec<OsString>>,
}

impl Talk {
    fn communicate(&self, exchanges: &[Exchange<'_>]) {
        let mut messages = self.said.take();
        for exchange in exchanges {
            let (style, text) = match exchange {
                Exchange::MaskedPrompt(prompt) => (Style::PromptEchoOff, prompt.question()),
                Exchange::Prompt(prompt) => (Style::PromptEchoOn, prompt.question()),
                Exchange::Info(info) => (Style::TextInfo, info.question()),
                Exchange::Error(error) => (Style::ErrorMsg, error.question()),
                // What no terminal could answer; its answer stays an error.
                _ => continue,
            };
            messages.push(Message { style, text: text.to_string_lossy().into_owned() });
        }
        let is_asked = messages.iter().any(Message::is_prompt);
        let mut answers = Vec::new();
        if is_asked {
            let _ = self.steps.send(Step::Asked(messages));
            // Nobody answers any more: each prompt stays without an answer, which is an error to PAM.
            let Ok(given) = self.answers.recv() else { return };
            answers = given;
        } else {
            self.said.replace(messages);
        }
        let mut answers = answers.into_iter().map(Ok);
        let mut next = || answers.next().unwrap_or(Err(ErrorCode::ConversationError));
        for exchange in exchanges {
            match exchange {
                Exchange::MaskedPrompt(prompt) => prompt.set_answer(next()),
                Exchange::Prompt(prompt) => prompt.set_answer(next()),
                Exchange::Info(info) => info.set_answer(Ok(())),
                Exchange::Error(error) => error.set_answer(Ok(())),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said of a service with this text, beside a file `part` with that one.
    fn judged(service: &str, part: &str, conf: Option<&str>) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/pam.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(SERVICE), service).unwrap();
        fs::write(folder.join("part"), part).unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        judge(&Files::below(root.path()), conf.map(Path::new))
    }

    #[test]
    fn another_conf_is_found_wherever_it_stands() {
        let line = |rest: &str| format!("auth required pam_backupcodes.so {rest}\n");
        let [none, same, other] = ["nullok", "conf=/a nullok", "nullok conf=/b"].map(line);
        for service in [
            "@include part\n",
            "auth include part\n",
            "-auth substack part\n",
            "auth include /etc/pam.d/part\n",
        ] {
            assert_eq!(judged(service, &none, None), Ok(()), "{service}");
            assert_eq!(judged(service, &same, Some("/a")), Ok(()), "{service}");
            for (part, conf) in [(&none, Some("/a")), (&same, None), (&other, Some("/a")), (&other, None)] {
                let error = judged(service, part, conf).unwrap_err();
                assert!(
                    error.starts_with("/etc/pam.d/part:1: pam_backupcodes has another conf= ("),
                    "{error}"
                );
                // Also beside lines that have the right one.
                let both = format!("{}{service}", conf.map_or(none.clone(), |_| same.clone()));
                assert!(judged(&both, part, conf).is_err(), "{both}");
            }
        }
        for service in [
            "auth required \\\n pam_backupcodes.so \\\n nullok conf=/b\n",
            "auth [success=1 default=ignore] pam_backupcodes.so [conf=/b]\n",
            "-auth\trequired\tpam_backupcodes.so\tconf=/b\n",
            "AUTH REQUIRED /usr/lib/security/pam_backupcodes.so conf=/b # conf=/a\n",
            // The last one counts.
            "auth required pam_backupcodes.so conf=/a conf=/b\n",
            "auth required pam_unix.so\nauth sufficient pam_backupcodes.so [prompt=conf=/a] conf=/b\n",
        ] {
            let error = judged(service, "", Some("/a")).unwrap_err();
            assert!(error.contains("has another conf= (/b)"), "{service}: {error}");
            assert_eq!(judged(service, "", Some("/b")), Ok(()), "{service}");
        }
        let error = judged(&line("conf=b"), "", None).unwrap_err();
        assert!(error.contains("unknown module argument"), "{error}");
        assert_eq!(
            judged(
                "auth required pam_unix.so conf=/b\n#auth required pam_backupcodes.so conf=/b\n",
                "",
                None
            ),
            Ok(())
        );
    }

    #[test]
    fn a_stack_that_libpam_does_not_read_as_it_stands_is_refused() {
        let good = "auth required pam_unix.so\n";
        for (service, found) in [
            ("auth include no-such\n", "\"no-such\" cannot be included"),
            ("@include folder\n", "\"folder\" cannot be included"),
            ("auth substack\n", "\"\" cannot be included"),
            ("auth include backupcodes\n", "\"backupcodes\" cannot be included"),
            ("@include part\n@include /no/such\n", "\"/no/such\" cannot be included"),
            ("oath required pam_unix.so\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
            ("auth required\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
            ("auth\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
            (
                "auth required pam_deny.so \\\nauth required pam_unix.so\n",
                "/etc/pam.d/backupcodes:2: libpam loses",
            ),
            ("auth required pam_deny.so \\\n", "/etc/pam.d/backupcodes:2: libpam loses"),
        ] {
            let error = judged(&format!("{good}{service}"), good, None).unwrap_err();
            assert!(error.contains(found), "{service}: {error}");
        }
        for service in
            ["", "account required pam_unix.so\n", "@include part\n", "#auth required pam_unix.so\n"]
        {
            let error = judged(service, "account required pam_unix.so\n", None).unwrap_err();
            assert!(error.contains("no auth line"), "{service}: {error}");
        }
        assert_eq!(judged(good, "", None), Ok(()));
    }
}
