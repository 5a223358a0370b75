//! A PAM conversation with a user at the other end of a connection.

use std::cell::RefCell;
use std::ffi::OsString;
use std::sync::mpsc::{self, Receiver, Sender};

use backupcodes_core::protocol::{Message, Style};
use nonstick::conv::Exchange;
use nonstick::conv::conversation_func;
use nonstick::items::Items;
use nonstick::{AuthnFlags, ErrorCode, PamShared, Transaction, TransactionBuilder};
use rustix::process::geteuid;
use rustix::thread::{Uid, set_thread_res_uid};

use crate::caller::Caller;
use crate::service::SERVICE;

/// As much as modules have in a program's main thread.
const STACK: usize = 8 << 20;

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
