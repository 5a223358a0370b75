//! A PAM conversation that is held with somebody at the other end of a connection.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};

use nonstick::conv::Exchange;
use nonstick::conv::conversation_func;
use nonstick::items::Items;
use nonstick::{AuthnFlags, ErrorCode, PamShared, Transaction, TransactionBuilder};
use serde::Serialize;

/// The PAM service that says what a renewal takes.
const SERVICE: &str = "backupcodes";
/// Where every Linux-PAM looks for services: the host's own, and the distribution's.
const FOLDERS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// As deep as files that include each other are followed.
const DEEPEST: usize = 8;
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
    steps: Receiver<Step>,
    answers: Sender<Vec<OsString>>,
}

impl Conversation {
    /// Begins it. PAM has a thread for itself: it asks when it likes, and calls come when they like.
    ///
    /// # Errors
    /// There is no thread.
    pub(crate) fn begin(user: &str) -> Result<Self, String> {
        let (to_us, steps) = mpsc::channel();
        let (answers, from_us) = mpsc::channel();
        let user = user.to_owned();
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                let talk = Talk { said: RefCell::default(), steps: to_us, answers: from_us };
                let result = authenticate(&user, &talk);
                let _ = talk.steps.send(Step::Ended(talk.said.take(), result));
            })
            .map_err(|error| format!("no thread for PAM ({error})"))?;
        Ok(Self { steps, answers })
    }

    /// Waits for what comes next.
    pub(crate) fn next(&self) -> Step {
        self.steps.recv().unwrap_or_else(|_| Step::Ended(Vec::new(), Err("PAM has panicked".into())))
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
    const WITHOUT: &str =
        "and no renewal without; expected the file that comes with the broker, or lines of your own";
    let file = Path::new(FOLDERS[0]).join(SERVICE);
    let Some(lines) = lines_of(SERVICE) else {
        return Err(format!("{}: no such PAM service, {WITHOUT}", file.display()));
    };
    if !ask(&lines, DEEPEST) {
        return Err(format!("{}: no auth line, {WITHOUT}", file.display()));
    }
    let is_ours = |line: &&Line| line.iter().any(|word| word.contains("pam_backupcodes"));
    let conf_of = |line: &Line| line.iter().find_map(|word| word.strip_prefix("conf=").map(PathBuf::from));
    if lines.iter().filter(is_ours).any(|line| conf_of(line).as_deref() != conf) {
        let (file, conf) = (file.display(), conf.map_or("none".into(), |conf| conf.display().to_string()));
        return Err(format!(
            "{file}: pam_backupcodes has another conf= than the --config of this broker, {conf}; expected the same"
        ));
    }
    Ok(())
}

/// The words of a line.
type Line = Vec<String>;

/// The lines of a service, or of what one includes, but comments.
fn lines_of(service: &str) -> Option<Vec<Line>> {
    // A path stays what it is.
    let read = |folder: &&str| std::fs::read_to_string(Path::new(folder).join(service)).ok();
    let text = FOLDERS.iter().find_map(read)?;
    let words = |line: &str| line.split_whitespace().map(String::from).collect::<Line>();
    Some(text.lines().filter(|line| !line.trim_start().starts_with('#')).map(words).collect())
}

/// Whether there is an `auth` line among these, or in what they include.
fn ask(lines: &[Line], depth: usize) -> bool {
    let asks = |service: &str| {
        depth > 0 && lines_of(service).is_some_and(|lines| ask(&lines, depth.saturating_sub(1)))
    };
    lines.iter().any(|line| match line.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["@include", service, ..] | ["auth" | "-auth", "include" | "substack", service, ..] => asks(service),
        ["auth" | "-auth", ..] => true,
        _ => false,
    })
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
