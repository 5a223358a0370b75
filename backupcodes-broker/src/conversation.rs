//! A PAM conversation over a connection.

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
use crate::renewal_service::SERVICE;

/// Modules expect the stack of a main thread.
const STACK: usize = 8 << 20;

/// The state of the conversation.
pub(crate) enum Step {
    /// PAM waits for responses to the prompts among these messages.
    Asked(Vec<Message>),
    /// PAM has ended, with these last messages. The error is for the log.
    Ended(Vec<Message>, Result<(), String>),
}

/// A conversation about one user.
pub(crate) struct Conversation {
    /// The broker's uid, before any module runs.
    broker: Uid,
    steps: Receiver<Step>,
    responses: Sender<Vec<OsString>>,
}

impl Conversation {
    /// Begins a conversation. PAM runs in its own thread, since its prompts and the calls of the client are independent.
    pub(crate) fn begin(user: &str, caller: Caller) -> Result<Self, String> {
        let broker = geteuid();
        let (step_sender, steps) = mpsc::channel();
        let (responses, response_receiver) = mpsc::channel();
        let user = user.to_owned();
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                let bridge =
                    Bridge { unsent: RefCell::default(), steps: step_sender, responses: response_receiver };
                let result = with_real_uid_of(caller, broker, || authenticate(&user, &bridge));
                let _ = bridge.steps.send(Step::Ended(bridge.unsent.take(), result));
            })
            .map_err(|error| format!("no thread for PAM ({error})"))?;
        Ok(Self { broker, steps, responses })
    }

    /// Waits for the next step.
    pub(crate) fn next(&self) -> Step {
        match self.steps.recv() {
            // A module may have changed the uids of all threads by libc's functions.
            Ok(Step::Ended(messages, result)) => Step::Ended(messages, result.and(restore_uid(self.broker))),
            Ok(asked) => asked,
            Err(_) => Step::Ended(Vec::new(), Err("PAM has panicked".into())),
        }
    }

    /// Responds to the prompts of the last step, in their order. Responses must not contain a NUL.
    pub(crate) fn respond(&self, responses: Vec<OsString>) {
        // If PAM has ended, the next step reports it.
        let _ = self.responses.send(responses);
    }
}

/// Runs `f` as su runs PAM: with the real uid of the caller and the effective and saved uid of the broker, so that no module
/// takes the caller for root. Only this thread changes its uid, so the caller cannot send signals to the process; while our module
/// holds a lock, the thread has root's real uid again.
///
/// # Errors
/// The error of `f`; or the uid cannot be changed or restored.
fn with_real_uid_of(
    caller: Caller,
    broker: Uid,
    f: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    set_thread_res_uid(Uid::from_raw(caller.uid()), broker, broker).map_err(|error| {
        format!(
            "this process cannot have the real uid of its caller ({error}); expected root with CAP_SETUID"
        )
    })?;
    let result = f();
    restore_uid(broker)?;
    result
}

/// Sets the real, effective and saved uid of this thread.
fn restore_uid(broker: Uid) -> Result<(), String> {
    set_thread_res_uid(broker, broker, broker)
        .map_err(|error| format!("this process cannot restore its uid ({error}); check its PAM modules"))
}

fn authenticate(user: &str, bridge: &Bridge) -> Result<(), String> {
    let failed = |what| move |error: ErrorCode| format!("{what}: {error}");
    let mut pam = TransactionBuilder::new_with_service(SERVICE)
        .username(user)
        .build(conversation_func(|messages| bridge.communicate(messages)))
        .map_err(failed("pam_start"))?;
    pam.authenticate(AuthnFlags::DISALLOW_NULL_AUTHTOK).map_err(failed("pam_authenticate"))?;
    pam.account_management(AuthnFlags::empty()).map_err(failed("pam_acct_mgmt"))?;
    // A module may have changed the user.
    let now = pam.items().user().map_err(failed("PAM_USER"))?;
    if now.as_deref() == Some(user.as_ref()) { Ok(()) } else { Err("a PAM module changed the user".into()) }
}

/// The conversation function of PAM, connected to the thread of the calls.
struct Bridge {
    /// Messages without a prompt, which wait for the next prompt or the end.
    unsent: RefCell<Vec<Message>>,
    steps: Sender<Step>,
    responses: Receiver<Vec<OsString>>,
}

impl Bridge {
    fn communicate(&self, exchanges: &[Exchange<'_>]) {
        let mut messages = self.unsent.take();
        for exchange in exchanges {
            let (style, text) = match exchange {
                Exchange::MaskedPrompt(prompt) => (Style::PromptEchoOff, prompt.question()),
                Exchange::Prompt(prompt) => (Style::PromptEchoOn, prompt.question()),
                Exchange::Info(info) => (Style::TextInfo, info.question()),
                Exchange::Error(error) => (Style::ErrorMsg, error.question()),
                // A terminal cannot respond to other styles; their response stays an error.
                _ => continue,
            };
            messages.push(Message { style, text: text.to_string_lossy().into_owned() });
        }
        let is_asked = messages.iter().any(Message::is_prompt);
        let mut responses = Vec::new();
        if is_asked {
            let _ = self.steps.send(Step::Asked(messages));
            // If the connection has ended, the prompts stay without a response, and PAM reports an error.
            let Ok(received) = self.responses.recv() else { return };
            responses = received;
        } else {
            self.unsent.replace(messages);
        }
        let mut responses = responses.into_iter().map(Ok);
        let mut next = || responses.next().unwrap_or(Err(ErrorCode::ConversationError));
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
