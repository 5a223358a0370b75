//! `backupcodes`: the command for users. It asks the broker, and shows and asks what the broker says.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use backupcodes_core::clock::Time;
use backupcodes_core::code::Code;
use backupcodes_core::config::Config;
use backupcodes_core::protocol::{
    Broker, CallError, CodeState, CodeStatus, Denied, ErrorName, Message, Nothing, OfUser, RenewalStep,
    Respond, Status, Style, Verify, VerifyReply,
};
use clap::{Parser, Subcommand};
use clap_complete::Shell;
use nix::unistd::{User, geteuid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::commands::{completions, status};
use crate::failure::{Failure, Outcome};
use crate::output::Line;
use crate::{output, sheet, terminal};

/// The start of complaints.
const PROGRAM: &str = "backupcodes";
/// How long this program waits for a reply of the broker: PAM delays after a wrong password, and ten hashes take time on a slow
/// host.
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
    /// Shows how many codes are left, and where codes were used.
    Status,
    /// Makes a new set and shows its codes, once. The old set stops working. You have to authenticate first.
    Renew,
    /// Checks a code without spending it.
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
        let Status { set, created, total, left, low, codes } = match self.call("Status", &self.of_user()) {
            Ok(status) => status,
            Err(error) => return self.has_no_set(error),
        };
        let mut lines = status::summary(&self.user, &set, time(&created)?, (left, total), low);
        for CodeStatus { number, state, time, service, source } in codes {
            let [time, service, source] = [time, service, source].map(Option::unwrap_or_default);
            lines.push(match state {
                CodeState::Unspent => continue,
                CodeState::Spent => {
                    Line::of(&format_args!("  code {number} used {time} by {service} from {source}"))
                }
                CodeState::Damaged => Line::of(&format_args!("  code {number} DAMAGED, counts as used")),
            });
        }
        output::print_lines(&lines).map(|()| Outcome::Done)
    }

    fn verify(&mut self) -> Result<Outcome, Failure> {
        let response = terminal::secret("Backup code (it will not be spent): ").map_err(Failure::Input)?;
        let OfUser { user, directory } = self.of_user();
        let question = Verify { user, directory, response: response.as_str().into() };
        match self.call("Verify", &question) {
            Ok(VerifyReply { accepted: true, .. }) => {
                output::print("The code would be accepted.\n").map(|()| Outcome::Done)
            }
            Ok(VerifyReply { refused: Some(wait), .. }) => {
                output::print(&format!("Too many codes were wrong: any code is refused {wait}.\n"))
                    .map(|()| Outcome::No)
            }
            Ok(_) => output::print("The code would be refused.\n").map(|()| Outcome::No),
            Err(error) => self.has_no_set(error),
        }
    }

    fn renew(&mut self) -> Result<Outcome, Failure> {
        let mut reply = self.call("Renew", &self.of_user());
        let sheet = loop {
            let RenewalStep { messages, sheet } = match reply {
                Ok(step) => step,
                Err(error) => return denied(error),
            };
            let responses = messages.iter().map(converse).collect::<io::Result<Vec<_>>>();
            let responses = responses.map_err(Failure::Input)?;
            if let Some(sheet) = sheet {
                break sheet;
            }
            let responses = responses.iter().flatten().map(|response| response.as_str().into()).collect();
            reply = match self.call("Respond", &Respond { responses }) {
                Err(CallError::Service(error)) => return Err(Failure::from(error).in_time()),
                reply => reply,
            };
        };
        let codes =
            sheet.codes.iter().map(|code| Code::parse(code.as_bytes())).collect::<Result<Vec<_>, _>>();
        let codes = codes.map_err(|_| garbled("what is no code"))?;
        let text = sheet::text(&sheet.host, &self.user, &sheet.set, time(&sheet.created)?, &codes);
        output::write(|out| out.write_all(text.as_bytes())).map_err(Failure::NotRenewed)?;
        // Now that the user has the sheet, and not before, its set replaces the old one.
        match self.call::<_, Nothing>("Keep", &Nothing {}) {
            Ok(Nothing {}) => {
                output::tell("These codes work from now on. The codes of older sheets no longer work.");
                Ok(Outcome::Done)
            }
            Err(CallError::Service(error)) => {
                Err(Failure::Unsure { set: sheet.set, failure: Box::new(error.into()) })
            }
            Err(CallError::Replied { error, .. }) => Err(match ErrorName::of(&error) {
                Some(ErrorName::Unknown) => {
                    Failure::Unsure { set: sheet.set, failure: Box::new(Failure::NoReplyOfFleet) }
                }
                Some(ErrorName::Unflushed) => Failure::Unflushed,
                Some(ErrorName::Changed) => Failure::Overtaken,
                _ => Failure::NotKept(ErrorName::shortened(&error).into()),
            }),
        }
    }

    /// The user's name, and where this program's configuration has the sets.
    fn of_user(&self) -> OfUser<'static> {
        OfUser { user: self.user.clone().into(), directory: Some(self.directory.clone().into()) }
    }

    fn call<P: Serialize, R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &P,
    ) -> Result<R, CallError> {
        self.broker.call(method, parameters, PATIENCE)
    }

    fn has_no_set(&self, error: CallError) -> Result<Outcome, Failure> {
        if ErrorName::of_call(&error) != Some(ErrorName::NoSet) {
            return Err(error.into());
        }
        output::complain_as(
            PROGRAM,
            &format_args!("{} has no backup codes; to make some: backupcodes renew", self.user),
        );
        Ok(Outcome::No)
    }
}

/// Shows a message, and reads the response to a prompt.
fn converse(message: &Message) -> io::Result<Option<Zeroizing<String>>> {
    match message.style {
        Style::PromptEchoOff => terminal::secret(&message.text).and_then(unless_interrupted),
        Style::PromptEchoOn => terminal::line(&message.text).and_then(unless_interrupted),
        Style::TextInfo | Style::ErrorMsg => {
            output::tell(&message.text);
            Ok(None)
        }
    }
}

/// Ctrl-C sends no signal while the terminal does not show what is typed.
fn unless_interrupted(response: Zeroizing<String>) -> io::Result<Option<Zeroizing<String>>> {
    if response.contains('\u{3}') { Err(io::ErrorKind::Interrupted.into()) } else { Ok(Some(response)) }
}

fn denied(error: CallError) -> Result<Outcome, Failure> {
    let messages = error.parameters().map(|Denied { messages }| messages).unwrap_or_default();
    match error {
        CallError::Service(error) => return Err(error.into()),
        CallError::Replied { error, .. } if ErrorName::of(&error) != Some(ErrorName::Denied) => {
            return Err(Failure::Broken(ErrorName::shortened(&error).into()));
        }
        CallError::Replied { .. } => {}
    }
    messages.iter().for_each(|message| output::tell(&message.text));
    output::complain_as(PROGRAM, &"refused; your codes are unchanged, except for a code that you typed");
    Ok(Outcome::No)
}

fn time(text: &str) -> Result<Time, Failure> {
    text.parse().map_err(garbled)
}

fn garbled(reason: impl Display) -> Failure {
    Failure::Garbled(reason.to_string())
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
