//! `backupcodes`: what users do with their own codes. The broker does it for them; this shows and asks.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backupcodes_core::clock::Time;
use backupcodes_core::code::Code;
use backupcodes_core::config::Config;
use backupcodes_core::protocol::{Broker, BrokerError, INTERFACE, Reply};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use nix::unistd::{User, geteuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::commands::{completions, status};
use crate::failure::{Failure, Outcome};
use crate::output::Line;
use crate::{output, sheet, terminal};

/// In front of complaints.
const PROGRAM: &str = "backupcodes";
/// How long an answer of the broker's is waited for: PAM makes whoever typed a wrong password wait, and ten hashes take time
/// on a slow host.
const PATIENCE: Duration = Duration::from_secs(60);

const AFTER: &str = "\
Exit status: 0 done; 1 negative result (refused, no codes); 2 usage; 3 error.";

/// Shows, checks and renews your backup codes on this host.
#[derive(Parser)]
#[command(name = "backupcodes", version, disable_help_subcommand = true, after_help = AFTER, max_term_width = 100)]
struct Cli {
    /// Configuration file instead of /etc/security/backupcodes.conf.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Shows how many codes are left, and where the others were used.
    Status,
    /// Makes a new set and shows its codes, once. The old set stops working. Asks for what the host wants to know first.
    Renew,
    /// Reads a code and says whether it would be accepted, spending nothing.
    Verify,
    /// Prints a completion script, for packages.
    #[command(hide = true)]
    Completions {
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
}

/// The command, with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    output::exit(PROGRAM, run(&output::parse(PROGRAM)))
}

fn run(cli: &Cli) -> Result<Outcome, Failure> {
    match cli.command {
        Command::Status => Session::open(cli)?.status(),
        Command::Renew => Session::open(cli)?.renew(),
        Command::Verify => Session::open(cli)?.verify(),
        Command::Completions { shell } => completions::print::<Cli>(PROGRAM, shell),
    }
}

/// A connection to the broker, for one user.
struct Session {
    broker: Broker,
    user: String,
    /// Where this program's configuration has the sets.
    directory: PathBuf,
}

#[derive(Serialize)]
struct OfUser<'a> {
    user: &'a str,
    directory: &'a Path,
}

#[derive(Serialize)]
struct Verify<'a> {
    user: &'a str,
    directory: &'a Path,
    answer: &'a str,
}

#[derive(Serialize)]
struct Answers<'a> {
    answers: Vec<&'a str>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Status {
    set: String,
    created: String,
    total: usize,
    left: usize,
    low: bool,
    codes: Vec<UsedCode>,
}

#[derive(Deserialize)]
struct UsedCode {
    number: u8,
    state: String,
    time: Option<String>,
    service: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Verdict {
    accepted: bool,
    refused: Option<String>,
}

/// How far a renewal has come.
#[derive(Deserialize)]
struct Step {
    messages: Vec<Message>,
    sheet: Option<Sheet>,
}

#[derive(Deserialize)]
struct Message {
    style: String,
    text: String,
}

#[derive(Deserialize)]
struct Sheet {
    host: String,
    set: String,
    created: String,
    codes: Vec<String>,
}

/// The broker's no: an error of its interface.
struct No {
    error: String,
    parameters: Value,
}

impl Session {
    fn open(cli: &Cli) -> Result<Self, Failure> {
        // Codes pass through here: no core dump may keep them.
        nix::sys::prctl::set_dumpable(false).map_err(Failure::Dumpable)?;
        let config = Config::load(cli.config.as_deref())?;
        let account = User::from_uid(geteuid()).map_err(Failure::Whoami)?;
        let user = account.ok_or(Failure::Whoami(nix::errno::Errno::ENOENT))?.name;
        Ok(Self { broker: Broker::connect(&config, PATIENCE)?, user, directory: config.directory })
    }

    fn status(&mut self) -> Result<Outcome, Failure> {
        let Self { broker, user, directory } = self;
        let reply = call(broker, "Status", &OfUser { user, directory })?;
        let Status { set, created, total, left, low, codes } = match reply {
            Ok(status) => status,
            Err(no) => return self.has_no_set(no),
        };
        let mut lines = status::summary(user, &set, time(&created)?, (left, total), low);
        for UsedCode { number, state, time, service, source } in codes {
            let [time, service, source] = [time, service, source].map(Option::unwrap_or_default);
            lines.push(match state.as_str() {
                "spent" => Line::of(&format_args!("  code {number} used {time} by {service} from {source}")),
                "damaged" => Line::of(&format_args!("  code {number} DAMAGED, counts as used")),
                _ => continue,
            });
        }
        output::print_lines(&lines).map(|()| Outcome::Done)
    }

    fn verify(&mut self) -> Result<Outcome, Failure> {
        let Self { broker, user, directory } = self;
        let answer = terminal::secret("Backup code (it will not be spent): ").map_err(Failure::Input)?;
        match call(broker, "Verify", &Verify { user, directory, answer: &answer })? {
            Ok(Verdict { accepted: true, .. }) => {
                output::print("The code would be accepted.\n").map(|()| Outcome::Done)
            }
            Ok(Verdict { refused: Some(wait), .. }) => {
                output::print(&format!("Too many answers were wrong: any code is refused {wait}.\n"))
                    .map(|()| Outcome::No)
            }
            Ok(_) => output::print("The code would be refused.\n").map(|()| Outcome::No),
            Err(no) => self.has_no_set(no),
        }
    }

    fn renew(&mut self) -> Result<Outcome, Failure> {
        let Self { broker, user, directory } = self;
        let mut reply = call(broker, "Renew", &OfUser { user, directory })?;
        let sheet = loop {
            let Step { messages, sheet } = match reply {
                Ok(step) => step,
                Err(no) => return denied(no),
            };
            let answers = messages.iter().map(converse).collect::<io::Result<Vec<_>>>();
            let answers = answers.map_err(Failure::Input)?;
            if let Some(sheet) = sheet {
                break sheet;
            }
            let answers = answers.iter().flatten().map(|answer| answer.as_str()).collect();
            reply = call(broker, "Answer", &Answers { answers }).map_err(Failure::in_time)?;
        };
        let codes =
            sheet.codes.iter().map(|code| Code::parse(code.as_bytes())).collect::<Result<Vec<_>, _>>();
        let codes = codes.map_err(|_| garbled("what is no code"))?;
        let text = sheet::text(&sheet.host, user, &sheet.set, time(&sheet.created)?, &codes);
        output::write(|out| out.write_all(text.as_bytes())).map_err(Failure::NotRenewed)?;
        // Now that it is there, and not before, it takes the place of the old one.
        match call::<_, Value>(broker, "Keep", &Nothing {}) {
            Ok(Ok(_)) => {
                output::tell("These codes work from now on, and those of an older sheet do not.");
                Ok(Outcome::Done)
            }
            Ok(Err(No { error, .. })) => Err(match error.as_str() {
                "Unflushed" => Failure::Unflushed,
                "Changed" => Failure::Overtaken,
                _ => Failure::NotKept(error),
            }),
            Err(failure) => Err(Failure::Unsure { set: sheet.set, failure: Box::new(failure) }),
        }
    }

    fn has_no_set(&self, no: No) -> Result<Outcome, Failure> {
        if no.error != "NoSet" {
            return Err(no.into());
        }
        output::complain_as(
            PROGRAM,
            &format_args!("{} has no backup codes; to make some: backupcodes renew", self.user),
        );
        Ok(Outcome::No)
    }
}

/// A reply, or the error that the broker replies with.
fn call<P: Serialize, R: DeserializeOwned>(
    broker: &mut Broker,
    method: &str,
    parameters: &P,
) -> Result<Result<R, No>, Failure> {
    let Reply { error, parameters } = broker.exchange::<_, Value>(method, parameters, PATIENCE)?;
    let parameters = parameters.unwrap_or_default();
    if let Some(error) = error {
        let directory = parameters.get("directory").and_then(Value::as_str);
        if let other @ BrokerError::OtherDirectory { .. } = broker.refused(&error, directory) {
            return Err(other.into());
        }
        let error = error.strip_prefix(INTERFACE).and_then(|error| error.strip_prefix('.')).unwrap_or(&error);
        return Ok(Err(No { error: error.into(), parameters }));
    }
    serde_json::from_value(parameters).map(Ok).map_err(garbled)
}

/// Shows a message, and gets the answer where it is a prompt.
fn converse(message: &Message) -> io::Result<Option<Zeroizing<String>>> {
    match message.style.as_str() {
        "prompt_echo_off" => terminal::secret(&message.text).and_then(unless_interrupted),
        "prompt_echo_on" => terminal::line(&message.text).and_then(unless_interrupted),
        _ => {
            output::tell(&message.text);
            Ok(None)
        }
    }
}

/// Ctrl-C is a key like others while nothing is shown.
fn unless_interrupted(answer: Zeroizing<String>) -> io::Result<Option<Zeroizing<String>>> {
    if answer.contains('\u{3}') { Err(io::ErrorKind::Interrupted.into()) } else { Ok(Some(answer)) }
}

fn denied(no: No) -> Result<Outcome, Failure> {
    if no.error != "Denied" {
        return Err(Failure::Broken(no.error));
    }
    let said: Vec<Message> = no
        .parameters
        .get("messages")
        .cloned()
        .map_or(Ok(Vec::new()), serde_json::from_value)
        .map_err(garbled)?;
    said.iter().for_each(|message| output::tell(&message.text));
    output::complain_as(
        PROGRAM,
        &"refused; your codes are as they were, but for one that was asked for and typed",
    );
    Ok(Outcome::No)
}

fn time(text: &str) -> Result<Time, Failure> {
    text.parse().map_err(garbled)
}

fn garbled(reason: impl Display) -> Failure {
    Failure::Garbled(reason.to_string())
}

impl From<No> for Failure {
    fn from(no: No) -> Self {
        Self::Refused(no.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_and_option_is_in_the_manual_and_no_other() {
        manual_pages::assert_documented(Cli::command(), include_str!("../../man/backupcodes.1"));
    }
}
